"""Intake, placing and waiting on a real database, a log of plain lists, and what plain Python makes
of the same events. A process dies where a test says so, and begins anew.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.horizon import Horizon
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.placing import Placing
from services.scoring.tables import account_day, log_positions, outbox, waiting_events
from services.scoring.waiting import Waiting
from shared.lifecycle import Frame, new_frame
from shared.log import Appended, Batch, LogUnavailable, Record, StoredRecord, TopicPartition
from shared.log.partitioner import partition_of
from shared.log.positions import Fenced, mismatch
from shared.messages import (
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    USAGE_EVENTS_OVERFLOW,
    UnplacedEvent,
    UsageEvent,
    decode,
    encode,
)
from tests.factories import NOW
from tests.integration.scoring.conftest import Time

SETTLE: Final = timedelta(seconds=10)
WAIT: Final = timedelta(days=1)
USAGE: Final = tuple(TopicPartition(USAGE_EVENTS, number) for number in range(2))
UNPLACED: Final = tuple(TopicPartition(UNPLACED_EVENTS, number) for number in range(2))
PLACES: Final = (
    "placing.before_append",
    "placing.before_commit",
    "placing.after_commit",
    "waiting.before_append",
    "waiting.before_delete",
    "waiting.after_delete",
    "scoring.in_transaction",
    "scoring.after_commit",
)
_NOBODY_STOPS: Final = asyncio.Event()


class Killed(Exception):
    """The process has died here."""


class PlainLog:
    """What placing needs of a log, in lists: two partitions of each topic, time as a test says."""

    def __init__(self, time: Time, check: Callable[[UsageEvent], Awaitable[None]]) -> None:
        self._time = time
        self._check = check
        self.records: dict[TopicPartition, list[StoredRecord]] = {
            one: [] for one in (*USAGE, *UNPLACED)
        }
        self.fails: str | None = None
        """`away`: nothing of the next append is stored; `silent`: all of it, and nobody says so."""

    async def append(
        self,
        topic: str,
        records: Sequence[Record],
        *,
        deadline: timedelta,  # noqa: ARG002
    ) -> Sequence[Appended]:
        fails, self.fails = self.fails, None
        if fails == "away":
            raise LogUnavailable(topic)
        for record in records:
            if topic == USAGE_EVENTS:
                await self._check(decode(UsageEvent, record.value))
            self.store(topic, record)
        return [Appended.UNKNOWN if fails == "silent" else Appended.DURABLE] * len(records)

    def store(self, topic: str, record: Record) -> None:
        of = self.records[TopicPartition(topic, partition_of(record.key, 2))]
        of.append(
            StoredRecord(
                offset=len(of),
                key=record.key,
                value=record.value,
                headers=record.headers,
                appended_at=self._time.now,
            )
        )

    async def ends(self, topics: Iterable[str]) -> Mapping[TopicPartition, int]:
        found = {one: len(of) for one, of in self.records.items() if one.topic in topics}
        return found | {TopicPartition(USAGE_EVENTS_OVERFLOW, 0): 0}

    async def begins(self, topics: Iterable[str]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(await self.ends(topics), 0)


class World:
    """One deployment of scoring, whose parts move when a test says so."""

    def __init__(self, engine: AsyncEngine, time: Time) -> None:
        self.engine = engine
        self.time = time
        self.time.now = NOW
        self.log = PlainLog(time, self._check)
        self.sent: dict[str, tuple[UnplacedEvent, datetime]] = {}
        """By id, and when it was first accepted."""
        self.said: list[tuple[UsageEvent, datetime]] = []
        self.counted: dict[str, UsageEvent] = {}
        """By id, what intake has passed first."""
        self.dies_at: str | None = None
        self.begin()

    def begin(self) -> None:
        """A new process, which remembers nothing."""
        frame = new_frame()
        metrics = ScoringMetrics(frame.registry, frame.metrics, self.time)
        partitions = Partitions(self.engine, kept=timedelta(days=60))
        self.intake = Intake(
            engine=self.engine, partitions=partitions, metrics=metrics, clock=self.time
        )
        self.horizon = Horizon(
            log=self.log,
            positions=self.intake.positions,
            metrics=metrics,
            clock=self.time,
            loop=frame.loop("scoring", "horizon"),
        )
        self.placing = Placing(
            engine=self.engine,
            log=self.log,
            metrics=metrics,
            clock=self.time,
            until=self.until,
            room=lambda: 1_000,
        )
        self.waiting = [self._waiting(metrics, frame) for _ in range(2)]

    def _waiting(self, metrics: ScoringMetrics, frame: Frame) -> Waiting:
        return Waiting(
            engine=self.engine,
            log=self.log,
            metrics=metrics,
            clock=self.time,
            loop=frame.loop("scoring", "waiting"),
            assigned=self,
            until=self.until,
            room=lambda: 1_000,
            wait=WAIT,
        )

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(UNPLACED)

    def until(self) -> datetime | None:
        return self.horizon.settled(SETTLE)

    def reach(self, name: str) -> None:
        """Stands in for `failpoints.reach`: an exception, after which everything is made anew."""
        if self.dies_at == name:
            self.dies_at = None
            raise Killed(name)

    def accept(self, one: UsageEvent | UnplacedEvent) -> None:
        """As ingest does: appended, and answered."""
        if isinstance(one, UnplacedEvent):
            self.sent.setdefault(one.id, (one, self.time.now))
            topic, key = UNPLACED_EVENTS, one.user
        else:
            self.said.append((one, self.time.now))
            topic, key = USAGE_EVENTS, one.account
        self.log.store(topic, Record(key=key.encode(), value=encode(one)))

    async def take_in(self, partition: TopicPartition, most: int) -> bool:
        """Whether there was anything."""
        held = await self.intake.claim(partition)
        records = self.log.records[partition][held.next_offset :][:most]
        if records:
            batch = Batch(partition=partition, records=records, generation=1)
            await self._alive(self.intake.take_in(batch, held))
            passed = (await self.intake.positions())[partition]
            for record in self.log.records[partition][held.next_offset : passed]:
                event = decode(UsageEvent, record.value)
                self.counted.setdefault(event.id, event)
        return bool(records)

    async def place(self, partition: TopicPartition, most: int, *, twice: bool = False) -> bool:
        """`twice`: an owner of before does the same batch at first, and is fenced."""
        until = self.until()
        stale = await self.placing.claim(partition)
        held = await self.placing.claim(partition) if twice else stale
        records = []
        for record in self.log.records[partition][held.next_offset :][:most]:
            if until is None or record.appended_at > until:
                break
            records.append(record)
        if records:
            batch = Batch(partition=partition, records=records, generation=1)
            owners = (stale, held) if twice else (held,)
            for owner in owners:
                await self._alive(self.placing.take_in(batch, owner))
        return bool(records)

    async def look(self, *, twice: bool = False) -> None:
        """`twice`: two replicas do, before they agree on whose the partitions are."""
        before = await self.given_up()
        looks = self.waiting if twice else self.waiting[:1]
        await self._alive(_together(looks))
        known, until = {one.user for one in await self.told()}, self.until()
        for name in set(await self.given_up()) - set(before):
            event, accepted_at = self.sent[name]
            assert event.user not in known
            assert until is not None
            assert accepted_at + WAIT < until

    async def _alive(self, step: Awaitable[None]) -> None:
        try:
            await step
        except* Killed:
            self.begin()
        except* (LogUnavailable, Fenced):
            pass

    async def _check(self, event: UsageEvent) -> None:
        """That it goes where it belongs by what intake has passed, and that all has been passed."""
        if event.placed_by is None:
            return
        told = [one for one in await self.told() if one.user == event.user]
        assert event.account == account_of(event, told)
        _, accepted_at = self.sent[event.id]
        names = {one.id for one in told}
        for one, at in self.said:
            assert one.user != event.user or at > accepted_at + SETTLE or one.id in names

    async def settle_down(self) -> None:
        """Everybody works until there is nothing left to do."""
        self.dies_at = self.log.fails = None
        self.begin()
        for _ in range(3):
            self.time.now += 2 * SETTLE
            busy = True
            while busy:
                done = [await self.take_in(one, 1_000) for one in USAGE]
                await self.horizon.look()
                done += [await self.place(one, 1_000) for one in UNPLACED]
                busy = any(done)
            await self.horizon.look()
            await self.look()

    async def told(self) -> list[UsageEvent]:
        """What intake has passed, by its positions, of events that named their account."""
        held = await self.intake.positions()
        passed = [
            decode(UsageEvent, record.value)
            for partition in USAGE
            for record in self.log.records[partition][: held.get(partition, 0)]
        ]
        return [one for one in passed if one.placed_by is None]

    async def buckets(self) -> Counter[tuple[str, str]]:
        """Events by account and UTC day."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(select(account_day))
            assert await mismatch(connection, log_positions) == 0
            return Counter({(row.account_id, f"{row.day}"): row.events for row in rows})

    async def waits(self) -> list[str]:
        async with self.engine.connect() as connection:
            counted = await connection.scalar(
                text("SELECT coalesce(sum(events), 0) FROM scoring.waiting_counts")
            )
            values = list(await connection.scalars(select(waiting_events.c.value)))
        assert counted == len(values)
        return sorted(decode(UnplacedEvent, value).id for value in values)

    async def given_up(self) -> list[str]:
        async with self.engine.connect() as connection:
            values = await connection.scalars(select(outbox.c.value))
            return sorted(decode(UnplacedEvent, value).id for value in values)


def account_of(event: UsageEvent, told: Sequence[UsageEvent]) -> str:
    """Where an event of this user belongs, by all that the user's other events say."""
    accounts = {one.account for one in told}
    if len(accounts) == 1:
        return accounts.pop()
    calls = sorted((one.occurred_at, one.account) for one in told if one.type == "group")
    before = [account for at, account in calls if at <= event.occurred_at]
    active = sorted((one.occurred_at, one.account) for one in told if one.type != "group")
    if before:
        return before[-1]
    return active[-1][1] if active else calls[0][1]


async def _together(looks: Iterable[Waiting]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in looks:
            group.create_task(one.look(_NOBODY_STOPS))
