"""Consuming the embedded log: group membership by lease, and reading partitions in offset order."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec

from shared import logging as logs
from shared.database import is_away
from shared.log import Batch, Lag, LogUnavailable, StoredRecord, TopicPartition
from shared.log.background import Background

_POLL_SECONDS = 0.05
_PARTITIONS_AT_ONCE = 4
_AWAY_SECONDS = 0.2
_LONGEST_HEARTBEAT_SECONDS = 1.0
_LEAVE_SECONDS = 5.0
_Header = tuple[str, bytes]

log = logs.get(__name__)


class PostgresConsumer:
    """Implements `shared.log.Consumer`; a `Membership` or `assign_all` says which partitions."""

    def __init__(
        self, pool: asyncpg.Pool, topics: Mapping[str, int], appended: asyncio.Condition
    ) -> None:
        self._pool = pool
        self._topics = list(topics)
        self._sizes = dict(topics)
        self._all = all_partitions(topics)
        self._appended = appended
        self._generation = 0
        self.rebalances = 0
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._positions: dict[TopicPartition, int] = {}
        self._last_handed_out: dict[TopicPartition, datetime] = {}
        self._hints: dict[TopicPartition, int] = {}
        self._in_hand = asyncio.Lock()
        self._failure: BaseException | None = None
        self._turn = 0

    def assign_all(self) -> None:
        self._generation += 1
        self.rebalances += 1
        self._assigned = frozenset(self._all)
        self._positions = dict.fromkeys(self._all, 0)

    async def reassign(
        self, members: Sequence[str], member: str, hints: Mapping[TopicPartition, int], limit: float
    ) -> None:
        """Take over this member's share; a batch in hand may end first, within `limit` seconds."""
        # First the generation, then the lock: what is fetched from now on is not taken in.
        self._generation += 1
        try:
            async with asyncio.timeout(limit):
                await self._in_hand.acquire()
        except TimeoutError:
            log.warning("log.rebalance_did_not_wait", member=member)  # the fence will tell
        else:
            self._in_hand.release()
        self.rebalances += 1
        self._assigned = frozenset(share_of(self._all, members, member))
        self._positions = {partition: hints.get(partition, 0) for partition in self._assigned}

    def fail(self, error: BaseException) -> None:
        """The membership ended: the next fetch raises, so that nobody works on unseen."""
        self._failure = error

    def take_hints(self) -> dict[TopicPartition, int]:
        hints, self._hints = self._hints, {}
        return hints

    async def fetch(
        self, *, max_records: int, wait: timedelta, but: Collection[TopicPartition] = ()
    ) -> Sequence[Batch]:
        until = time.monotonic() + wait.total_seconds()
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                batches = await self._fetch_now(max_records, but)
            except Exception as error:
                if not is_away(error):
                    raise
                log.warning("log.away", cause=type(error).__name__)
                batches = []
                await asyncio.sleep(min(_AWAY_SECONDS, max(0.0, until - time.monotonic())))
            if batches or time.monotonic() >= until:
                return batches
            # An append of this process wakes us; one of another process is seen by polling.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS), self._appended:
                    await self._appended.wait()

    async def _fetch_now(self, max_records: int, but: Collection[TopicPartition]) -> list[Batch]:
        generation = self._generation
        ends = await self._ends()
        behind = [
            partition
            for partition in sorted(self._assigned.difference(but))
            if self._positions.get(partition, 0) < ends.get(partition, 0)
        ]
        # Begin with another partition each time: a busy one must not starve the others.
        self._turn += 1
        start = self._turn % len(behind) if behind else 0
        batches: list[Batch] = []
        for partition in (behind[start:] + behind[:start])[:_PARTITIONS_AT_ONCE]:
            position = self._positions.get(partition, 0)
            rows = await self._pool.fetch(
                'SELECT "offset", key, value, headers, appended_at FROM log.records'
                ' WHERE topic = $1 AND partition = $2 AND "offset" >= $3'
                ' ORDER BY "offset" LIMIT $4',
                partition.topic,
                partition.partition,
                position,
                max_records,
            )
            if self._generation != generation:
                return []
            if self._positions.get(partition) != position:
                continue  # somebody sought meanwhile
            if not rows:
                # Retention or compaction emptied the rest up to the end that we saw.
                self._positions[partition] = ends[partition]
                continue
            batch = Batch(
                partition=partition, records=[_record(row) for row in rows], generation=generation
            )
            self._positions[partition] = batch.next
            self._last_handed_out[partition] = batch.records[-1].appended_at
            batches.append(batch)
        return batches

    def is_current(self, batch: Batch) -> bool:
        return batch.generation == self._generation and batch.partition in self._assigned

    @asynccontextmanager
    async def processing(self) -> AsyncIterator[None]:
        async with self._in_hand:
            yield

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset

    def hint(self, partition: TopicPartition, next_offset: int) -> None:
        self._hints[partition] = next_offset

    def assignment(self) -> frozenset[TopicPartition]:
        return self._assigned

    def partitions(self) -> Mapping[str, int]:
        return self._sizes

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        try:
            ends = await self._ends()
        except Exception as error:
            if not is_away(error):
                raise
            raise LogUnavailable("the embedded log's database is away") from error
        now = datetime.now(UTC)
        lags = {}
        for partition in self._assigned:
            records = max(0, ends.get(partition, 0) - self._positions.get(partition, 0))
            last = self._last_handed_out.get(partition, now)
            seconds = (now - last).total_seconds() if records else 0.0
            lags[partition] = Lag(records=records, seconds=max(0.0, seconds))
        return lags

    async def _ends(self) -> dict[TopicPartition, int]:
        rows = await self._pool.fetch(
            "SELECT topic, partition, next_offset FROM log.heads WHERE topic = ANY($1)",
            self._topics,
        )
        return {TopicPartition(row[0], row[1]): row[2] for row in rows}


class Membership:
    """One member's lease in a group, on the database's clock; the epoch fence does the rest."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        group: str,
        topics: Sequence[str],
        lease: timedelta,
        background: Background,
    ) -> None:
        self._pool = pool
        self._background = background
        self._group = group
        self._topics = list(topics)
        self._lease = lease
        self._member = secrets.token_hex(8)
        self._generation = -1

    @asynccontextmanager
    async def held(self, consumer: PostgresConsumer) -> AsyncIterator[None]:
        try:
            await self._renew(consumer)
        except Exception as error:
            if not is_away(error):
                raise
            raise LogUnavailable("the embedded log's database is away") from error
        renewing = self._background.running(f"log:{self._group}", self._renew_for_ever(consumer))
        try:
            async with renewing:
                yield
        finally:
            with contextlib.suppress(
                OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError
            ):
                # The lease ends by itself where the database does not answer.
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._leave(consumer)

    async def _renew_for_ever(self, consumer: PostgresConsumer) -> None:
        interval = min(self._lease.total_seconds() / 3, _LONGEST_HEARTBEAT_SECONDS)
        while True:
            await asyncio.sleep(interval)
            try:
                await self._renew(consumer)
                await self._publish(consumer.take_hints())
            except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
                if not is_away(error):
                    consumer.fail(error)
                    return
                log.warning("log.membership_later", group=self._group, cause=type(error).__name__)

    async def _renew(self, consumer: PostgresConsumer) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            generation, members = await self._renew_lease(connection)
            if generation == self._generation:
                return
            rows = await connection.fetch(
                "SELECT topic, partition, next_offset FROM log.hints WHERE group_name = $1",
                self._group,
            )
        self._generation = generation
        hints = {TopicPartition(row[0], row[1]): row[2] for row in rows}
        await consumer.reassign(members, self._member, hints, self._lease.total_seconds())

    async def _renew_lease(self, connection: asyncpg.Connection) -> tuple[int, list[str]]:
        await connection.execute(
            "INSERT INTO log.groups (name, generation, members) VALUES ($1, 0, '{}')"
            " ON CONFLICT DO NOTHING",
            self._group,
        )
        group = await connection.fetchrow(
            "SELECT generation, members FROM log.groups WHERE name = $1 FOR UPDATE", self._group
        )
        await connection.execute(
            "DELETE FROM log.members WHERE group_name = $1 AND lease_until < clock_timestamp()",
            self._group,
        )
        await connection.execute(
            "INSERT INTO log.members (group_name, member, topics, lease_until)"
            " VALUES ($1, $2, $3, clock_timestamp() + $4)"
            " ON CONFLICT (group_name, member) DO UPDATE SET lease_until = EXCLUDED.lease_until",
            self._group,
            self._member,
            self._topics,
            self._lease,
        )
        rows = await connection.fetch(
            "SELECT member FROM log.members WHERE group_name = $1 ORDER BY member", self._group
        )
        members = [str(row[0]) for row in rows]
        generation = int(group["generation"])
        if members != group["members"]:
            generation += 1
            await connection.execute(
                "UPDATE log.groups SET generation = $2, members = $3 WHERE name = $1",
                self._group,
                generation,
                members,
            )
        return generation, members

    async def _publish(self, hints: Mapping[TopicPartition, int]) -> None:
        if hints:
            await self._pool.executemany(
                "INSERT INTO log.hints (group_name, topic, partition, next_offset)"
                " VALUES ($1, $2, $3, $4) ON CONFLICT (group_name, topic, partition)"
                " DO UPDATE SET next_offset = EXCLUDED.next_offset",
                [(self._group, *partition, offset) for partition, offset in hints.items()],
            )

    async def _leave(self, consumer: PostgresConsumer) -> None:
        await self._publish(consumer.take_hints())
        await self._pool.execute(
            "DELETE FROM log.members WHERE group_name = $1 AND member = $2",
            self._group,
            self._member,
        )


def all_partitions(topics: Mapping[str, int]) -> list[TopicPartition]:
    """Of topics with so many partitions each, in the order in which members share them out."""
    return [
        TopicPartition(topic, partition)
        for topic, count in sorted(topics.items())
        for partition in range(count)
    ]


def share_of(
    partitions: Sequence[TopicPartition], members: Sequence[str], member: str
) -> Sequence[TopicPartition]:
    """What one of the members, in their order, reads."""
    return partitions[members.index(member) :: len(members)]


def _record(row: asyncpg.Record) -> StoredRecord:
    offset, key, value, headers, appended_at = row
    return StoredRecord(
        offset=offset,
        key=key,
        value=value,
        headers=msgspec.msgpack.decode(headers, type=tuple[_Header, ...]) if headers else (),
        appended_at=appended_at,
    )
