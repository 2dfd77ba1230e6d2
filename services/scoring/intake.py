"""Takes usage events and directory changes in: one batch of one partition, one transaction.

Order of effects, all in the one transaction: 1 move the position (a miss: another owner, roll
back), 2 insert the event ids and keep only the new events, 3 add to the day buckets, 4 add signals
and the sources' hours, 5 mark the accounts dirty; for the directory: 2 merge, 3 delete what is
erased, 4 publish tombstones, cleared flags and whole records through the outbox, 5 mark dirty. What
cannot be read leaves through the outbox to `rejected`, in the same transaction.

A person is erased before that transaction, in steps of a day: each may be done again.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import arrivals, erasure, erasure_store, outcomes, store
from services.scoring.arrivals import EventKey, Groups
from services.scoring.domain import activity, directory, signals
from services.scoring.domain.activity import AccountDay
from services.scoring.domain.directory import ChangeResult, Known
from services.scoring.domain.signals import Signal
from services.scoring.feature_names import FeatureNames
from services.scoring.metrics import EventResult, ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.seen_events import SeenEvents
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
    OUTCOMES,
    REJECTED,
    USAGE_EVENTS,
    USAGE_EVENTS_OVERFLOW,
    AccountRecord,
    DirectoryChange,
    OutcomeEvent,
    UsageEvent,
    decode,
    encode,
)
from shared.quarantine import rejected

TOPICS = (USAGE_EVENTS, USAGE_EVENTS_OVERFLOW, DIRECTORY_CHANGES, OUTCOMES)

_UNREADABLE_LIMIT = 100
_BEFORE_MIDNIGHT = timedelta(minutes=10)

M = TypeVar("M", bound=msgspec.Struct)


class Unreadable(PerennialError):
    """Not one record of a large batch can be read: then the code is wrong, not the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What this process knows to be stored, of one claim of a partition.

    Of that claim, as before it another process wrote, or the database was an older copy of itself.
    """

    events: SeenEvents = field(default_factory=SeenEvents)
    features: FeatureNames = field(default_factory=FeatureNames)


class Intake:
    """Implements `shared.log.worker.Handler` for both topics of scoring."""

    def __init__(
        self, *, engine: AsyncEngine, partitions: Partitions, metrics: ScoringMetrics, clock: Clock
    ) -> None:
        self._engine = engine
        self._partitions = partitions
        self._metrics = metrics
        self._clock = clock
        self._known: defaultdict[TopicPartition, _Known] = defaultdict(_Known)

    async def claim(self, partition: TopicPartition) -> Claim:
        self._known[partition] = _Known()
        async with self._engine.begin() as connection:
            return await positions.claim(connection, log_positions, partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        if batch.partition.topic == DIRECTORY_CHANGES:
            await self._take_in_changes(batch, held)
        elif batch.partition.topic == OUTCOMES:
            await self._take_in_outcomes(batch, held)
        else:
            await self._take_in_events(batch, held)
        failpoints.reach("scoring.after_commit")

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            await _put_aside(connection, batch, [(batch.records[0], error)])

    async def _take_in_events(self, batch: Batch, held: Claim) -> None:
        arrived = arrivals.read(batch.records)
        _stop_if_none(arrived.readable, len(arrived.unreadable), UsageEvent)
        now = self._clock()
        today = arrivals.utc_day(now)
        await self._partitions.ensure(arrived.days(), today=today)
        known = self._known[batch.partition]
        failpoints.reach("scoring.before_transaction")
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            kept = await erasure.without_erased(connection, arrived.groups)
            new = await known.events.keep_new(connection, kept)
            counted = [event for events in new.values() for event in events.values()]
            if failpoints.switched_off("dedupe"):
                counted = _decode_all(UsageEvent, batch.records)[0]
            deltas = activity.fold(counted)
            names = await known.features.limit(connection, deltas)
            seen_today = await store.add_activity(connection, deltas, running_day=today)
            signalled = _signals(new)
            await store.add_signals(connection, signalled)
            await store.add_source_hours(connection, batch.partition, _source_hours(counted))
            changed = _changed(deltas, signalled, seen_today, now)
            await store.mark_dirty(connection, _marks(counted, changed))
            await _put_aside(connection, batch, arrived.unreadable)
            failpoints.reach("scoring.in_transaction")
        known.events.remember(kept)
        known.features.remember(names)
        counts = arrivals.count(new)
        erased = arrivals.count(arrived.groups) - arrivals.count(kept)
        self._metrics.count(EventResult.COUNTED, counts)
        self._metrics.count(EventResult.ERASED, erased)
        self._metrics.count(EventResult.DUPLICATE, arrived.readable - counts - erased)
        self._metrics.count(EventResult.QUARANTINED, len(arrived.unreadable))

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

    async def _take_in_outcomes(self, batch: Batch, held: Claim) -> None:
        events, unreadable = _decode_all(OutcomeEvent, batch.records)
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            await outcomes.save(connection, [event.data for event in events])
            await _put_aside(connection, batch, unreadable)

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
    _stop_if_none(len(messages), len(unreadable), kind)
    return messages, unreadable


def _stop_if_none(readable: int, unreadable: int, kind: type[msgspec.Struct]) -> None:
    if not readable and unreadable > _UNREADABLE_LIMIT:
        raise Unreadable(f"none of {unreadable} records is a {kind.__name__}")


def _signals(new: Groups) -> list[tuple[EventKey, Signal]]:
    return [
        (key, signal)
        for events in new.values()
        for key, event in events.items()
        if event.type in signals.TYPES and (signal := signals.signal_of(event)) is not None
    ]


def _source_hours(events: Sequence[UsageEvent]) -> Mapping[tuple[str, datetime], int]:
    """Live events by source and hour of arrival."""
    counts: Counter[tuple[str, int, int]] = Counter()
    for event in events:
        # History that is loaded in an hour is not what the source sends in one.
        if event.backfill:
            continue
        moment = event.received_at
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
        counts[event.source, moment.toordinal(), moment.hour] += 1
    return {
        (source, datetime.combine(date.fromordinal(day), clock_time(hour), UTC)): count
        for (source, day, hour), count in counts.items()
    }


def _changed(
    deltas: Collection[AccountDay],
    signalled: Iterable[tuple[EventKey, Signal]],
    seen_today: AbstractSet[str],
    now: datetime,
) -> AbstractSet[str]:
    """The accounts of which a look would find something new.

    Indicators are of complete days, and recency alone sees the running one: whoever was active
    today before is as active as can be until midnight. Shortly before it all are looked at, as a
    batch in hand may be stored after it.
    """
    utc = now.astimezone(UTC)
    if (utc + _BEFORE_MIDNIGHT).date() != utc.date():
        seen_today = frozenset()
    changed = {name for name, day in deltas if name not in seen_today or day != utc.date()}
    return changed | {signal.account for _, signal in signalled}


def _marks(events: Iterable[UsageEvent], changed: AbstractSet[str]) -> Sequence[store.Mark]:
    """One mark per account that changed or is being loaded, with the arrival of its first event:
    latencies start there.
    """
    received: dict[str, datetime] = {}
    backfilled = set()
    for event in events:
        if event.account not in changed and not event.backfill:
            continue
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
