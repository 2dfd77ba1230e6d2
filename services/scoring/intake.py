"""Takes usage events and directory changes in: one batch of one partition, one transaction.

Order of effects, all in the one transaction: 1 move the position (a miss: another owner, roll
back), 2 insert the event ids and keep only the new events, 3 add to the day buckets, 4 mark the
accounts dirty; for the directory: 2 merge, 3 delete what is erased, 4 publish tombstones, cleared
flags and whole records through the outbox, 5 mark dirty. What cannot be read leaves through the
outbox to `rejected`, in the same transaction.

A person is erased before that transaction, in steps of a day: each may be done again.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import erasure, erasure_store, store
from services.scoring.domain import activity, directory
from services.scoring.domain.directory import ChangeResult, Known
from services.scoring.metrics import EventResult, ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.tables import log_positions, outbox
from shared import failpoints
from shared import outbox as outboxes
from shared.clock import Clock
from shared.errors import InvalidMessage, PerennialError
from shared.log import Batch, Record, StoredRecord, TopicPartition, positions
from shared.log.positions import Claim
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    REJECTED,
    USAGE_EVENTS,
    USAGE_EVENTS_OVERFLOW,
    AccountRecord,
    DirectoryChange,
    Message,
    UsageEvent,
    decode,
    encode,
)
from shared.quarantine import rejected

TOPICS = (USAGE_EVENTS, USAGE_EVENTS_OVERFLOW, DIRECTORY_CHANGES)

_UNREADABLE_LIMIT = 100

M = TypeVar("M", bound=Message)


class Unreadable(PerennialError):
    """Not one record of a large batch can be read: then the code is wrong, not the data."""


class Intake:
    """Implements `shared.log.worker.Handler` for both topics of scoring."""

    def __init__(
        self, *, engine: AsyncEngine, partitions: Partitions, metrics: ScoringMetrics, clock: Clock
    ) -> None:
        self._engine = engine
        self._partitions = partitions
        self._metrics = metrics
        self._clock = clock

    async def claim(self, partition: TopicPartition) -> Claim:
        async with self._engine.begin() as connection:
            return await positions.claim(connection, log_positions, partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        if batch.partition.topic == DIRECTORY_CHANGES:
            await self._take_in_changes(batch, held)
        else:
            await self._take_in_events(batch, held)
        failpoints.reach("scoring.after_commit")

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            await _put_aside(connection, batch, [(batch.records[0], error)])

    async def _take_in_events(self, batch: Batch, held: Claim) -> None:
        events, unreadable = _decode_all(UsageEvent, batch.records)
        by_id = {_identity(event): event for event in events}
        await self._partitions.ensure(
            {day for day, _, _ in by_id}, today=self._clock().astimezone(UTC).date()
        )
        failpoints.reach("scoring.before_transaction")
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            kept = {
                _identity(event): event
                for event in await erasure.without_erased(connection, by_id.values())
            }
            new = await store.keep_new(connection, sorted(kept))
            counted = [kept[identity] for identity in sorted(new)]
            if failpoints.switched_off("dedupe"):
                counted = events
            await store.add_activity(connection, activity.fold(counted))
            await store.mark_dirty(connection, _marks(counted))
            await _put_aside(connection, batch, unreadable)
            failpoints.reach("scoring.in_transaction")
        erased = len(by_id) - len(kept)
        self._metrics.count(EventResult.COUNTED, len(new))
        self._metrics.count(EventResult.ERASED, erased)
        self._metrics.count(EventResult.DUPLICATE, len(events) - len(new) - erased)
        self._metrics.count(EventResult.QUARANTINED, len(unreadable))

    async def _take_in_changes(self, batch: Batch, held: Claim) -> None:
        changes, unreadable = _decode_all(DirectoryChange, batch.records)
        people = [change for change in changes if change.user]
        if people:
            await erasure.erase_users(self._engine, people, now=self._clock())
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            merged = await self._merge(
                connection, [change for change in changes if not change.user]
            )
            await _put_aside(connection, batch, unreadable)
        for result, count in merged.items():
            self._metrics.changes.labels(result).inc(count)
        self._metrics.changes.labels(ChangeResult.ERASING).inc(len(people))
        self._metrics.changes.labels(ChangeResult.QUARANTINED).inc(len(unreadable))

    async def _merge(
        self, connection: AsyncConnection, changes: Sequence[DirectoryChange]
    ) -> Counter[ChangeResult]:
        """Apply the changes in their order, and let out what has become of each account."""
        known = await _read_known(connection, {change.account for change in changes})
        erased: dict[str, datetime] = {}
        changed: dict[str, AccountRecord] = {}
        results: Counter[ChangeResult] = Counter()
        for change in changes:
            after, result = directory.apply(known[change.account], change)
            known[change.account] = after
            results[result] += 1
            if result is ChangeResult.ERASING and after.erased_at is not None:
                erased[change.account] = after.erased_at
                changed.pop(change.account, None)
            elif result is ChangeResult.MERGED and after.fields is not None:
                changed[change.account] = AccountRecord(
                    account=change.account, updated_at=change.received_at, fields=after.fields
                )
        marks = {name: record.updated_at for name, record in changed.items()}
        if erased:
            remaining = await erasure.erase_accounts(connection, erased, now=self._clock())
            marks |= dict.fromkeys(remaining, self._clock())
        records = [record for _, record in sorted(changed.items())]
        await store.save_accounts(connection, records)
        await outboxes.put(
            connection,
            outbox,
            ACCOUNTS,
            [Record(key=record.account.encode(), value=encode(record)) for record in records],
        )
        await store.mark_dirty(connection, store.marks_at(marks))
        return results

    async def _advance(self, connection: AsyncConnection, batch: Batch, held: Claim) -> None:
        if not await positions.advance(connection, log_positions, batch, held):
            self._metrics.fence_missed.inc()


def _decode_all(
    kind: type[M], records: Sequence[StoredRecord]
) -> tuple[list[M], list[tuple[StoredRecord, InvalidMessage]]]:
    """The messages, and the records that are none with the reason."""
    messages: list[M] = []
    unreadable = []
    for record in records:
        try:
            messages.append(decode(kind, record.value))
        except InvalidMessage as error:
            unreadable.append((record, error))
    if not messages and len(unreadable) > _UNREADABLE_LIMIT:
        raise Unreadable(f"none of {len(unreadable)} records is a {kind.__name__}")
    return messages, unreadable


def _identity(event: UsageEvent) -> store.EventIdentity:
    """What makes two deliveries the same event: source and id, and the day as the client said it.

    Never the corrected day: a retry over midnight would be another event (operations.md).
    """
    stated = event.client_at or event.received_at
    name = f"{event.source}\0{event.id}".encode("utf-8", "surrogatepass")
    key = hashlib.blake2b(name, digest_size=16).digest()
    return (_utc_day(stated), event.account, key)


def _utc_day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _marks(events: Iterable[UsageEvent]) -> list[store.Mark]:
    """One mark per account, with the arrival of its first event: latencies start there."""
    received: dict[str, datetime] = {}
    backfilled = set()
    for event in events:
        known = received.get(event.account)
        if known is None or event.received_at < known:
            received[event.account] = event.received_at
        if event.backfill:
            backfilled.add(event.account)
    return [
        store.Mark(account=name, received_at=received[name], backfill=name in backfilled)
        for name in sorted(received)
    ]


async def _read_known(connection: AsyncConnection, names: Collection[str]) -> dict[str, Known]:
    erased = await erasure_store.read_erased_accounts(connection, names)
    stored = await store.read_accounts(connection, names)
    known = {}
    for name in names:
        fields, updated_at = stored.get(name, (None, None))
        known[name] = Known(fields=fields, updated_at=updated_at, erased_at=erased.get(name))
    return known


async def _put_aside(
    connection: AsyncConnection,
    batch: Batch,
    unreadable: Sequence[tuple[StoredRecord, InvalidMessage]],
) -> None:
    await outboxes.put(
        connection,
        outbox,
        REJECTED,
        [
            rejected(record, batch.partition, error, stage="scoring.intake")
            for record, error in unreadable
        ],
    )
