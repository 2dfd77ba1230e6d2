"""Takes usage events and directory changes in: one batch of one partition, one transaction.

Order of effects, all in the one transaction: 1 move the position (a miss: another owner, roll
back), 2 insert the event ids and keep only the new events, 3 add to the day buckets, 4 add signals,
the sources' hours, who belongs to which account, the tally of events and what became of each
record, 5 mark the accounts dirty;
for the directory: 2 merge, 3 delete what is erased, 4 store the records and note what has become of
whom when, 5 publish tombstones, cleared flags and whole records through the outbox, 6 mark dirty,
7 note what became of each change. What cannot be read leaves through the outbox to `rejected`, in
the same transaction.

A person is erased before that transaction, in steps of a day: each may be done again.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import arrivals, erasure, erasure_store, outcomes, store
from services.scoring.arrivals import Arrivals, EventId, Keys
from services.scoring.domain import directory, history
from services.scoring.domain.directory import ChangeResult, Erasures, Known
from services.scoring.domain.tally import Tally, tally
from services.scoring.feature_names import FeatureNames
from services.scoring.memberships import Memberships, Several
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from services.scoring.seen_events import SeenEvents
from services.scoring.tables import log_positions, outbox
from shared import failpoints, traceparent
from shared import outbox as outboxes
from shared.clock import Clock
from shared.errors import InvalidMessage, PerennialError
from shared.log import Batch, Record, StoredRecord, TopicPartition, positions
from shared.log.positions import Claim, Result
from shared.messages import (
    ACCOUNTS,
    DIRECTORY_CHANGES,
    OUTCOMES,
    REJECTED,
    USAGE_EVENTS,
    USAGE_EVENTS_OVERFLOW,
    AccountFields,
    AccountRecord,
    DirectoryChange,
    OutcomeEvent,
    UsageEvent,
    decode,
    encode,
)
from shared.quarantine import rejected
from shared.traceparent import Traceparent

TOPICS = (USAGE_EVENTS, USAGE_EVENTS_OVERFLOW, DIRECTORY_CHANGES, OUTCOMES)

_UNREADABLE_LIMIT = 100
_BEFORE_MIDNIGHT = timedelta(minutes=10)
_NO_ID: EventId = ((0, ""), b"")
_LATER: Mapping[Result, int] = {}
"""What becomes of the records is known, and counted, at the end of the transaction."""

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
    memberships: Memberships


class Intake:
    """Implements `shared.log.worker.Handler` for both topics of scoring."""

    def __init__(
        self, *, engine: AsyncEngine, partitions: Partitions, metrics: ScoringMetrics, clock: Clock
    ) -> None:
        self._engine = engine
        self._partitions = partitions
        self._metrics = metrics
        self._clock = clock
        self._several = Several()
        self._known: defaultdict[TopicPartition, _Known] = defaultdict(self._nothing)

    async def positions(self) -> Mapping[TopicPartition, int]:
        async with self._engine.connect() as connection:
            return await positions.read(connection, log_positions)

    async def claim(self, partition: TopicPartition) -> Claim:
        self._known[partition] = self._nothing()
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

    def _nothing(self) -> _Known:
        return _Known(memberships=Memberships(self._several))

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held, {Result.QUARANTINED: 1})
            await _put_aside(connection, batch, [(batch.records[0], error)])

    async def _take_in_events(self, batch: Batch, held: Claim) -> None:
        known = self._known[batch.partition]
        arrived = Arrivals()
        tallied = tally(arrivals.read(batch.records, arrived, known.events.remembered))
        _stop_if_none(arrived.readable, len(arrived.unreadable), UsageEvent)
        now = self._clock()
        today = arrivals.utc_day(now)
        await self._partitions.ensure(arrived.days(), today=today)
        failpoints.reach("scoring.before_transaction")
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            erasures = await erasure.erasures_among(connection, tallied)
            kept, new, tallied = await _keep_new(
                connection, batch, known.events, arrived.keys, tallied, erasures
            )
            names = await known.features.limit(connection, tallied.deltas)
            seen_today = await store.add_activity(connection, tallied.deltas, running_day=today)
            await store.add_signals(connection, [(key, one) for (_, key), one in tallied.signals])
            await store.add_source_hours(connection, batch.partition, tallied.source_hours)
            learnt = await known.memberships.learn(
                connection, tallied, {} if erasures is None else erasures.accounts, now=now
            )
            fresh, erased = arrivals.count(new), arrivals.count(arrived.keys) - arrivals.count(kept)
            results = {
                # What was added to the buckets, not what should have been: the sum tells.
                Result.COUNTED: tallied.events,
                Result.DUPLICATE: arrived.readable - fresh - erased,
                Result.ERASED: erased,
                Result.QUARANTINED: len(arrived.unreadable),
            }
            await store.count_events(
                connection,
                batch.partition,
                activity=sum(delta.events for delta in tallied.deltas.values()),
                results=results,
            )
            marks = _marks(tallied, seen_today, batch.records[0].appended_at, now)
            await store.mark_dirty(connection, _with_traces(marks, batch, arrived, new))
            await _put_aside(connection, batch, arrived.unreadable)
            failpoints.reach("scoring.in_transaction")
        known.events.remember(kept)
        known.features.remember(names)
        known.memberships.remember(learnt)
        self._metrics.count(results)
        self._count_unreadable(batch, arrived.unreadable)

    async def _take_in_changes(self, batch: Batch, held: Claim) -> None:
        changes, unreadable = _decode_all(DirectoryChange, batch.records)
        people = [change for change in changes if change.user]
        if people:
            await erasure.erase_users(self._engine, erasure.asked_for(people), now=self._clock())
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            merged = await self._merge(
                connection,
                [change for change in changes if not change.user],
                traceparent.by_key(batch.records),
            )
            await _put_aside(connection, batch, unreadable)
            merged[ChangeResult.ERASING] += len(people)
            await positions.count(
                connection,
                log_positions,
                batch.partition,
                {
                    Result.COUNTED: merged.total() - merged[ChangeResult.ERASED],
                    Result.ERASED: merged[ChangeResult.ERASED],
                    Result.QUARANTINED: len(unreadable),
                },
            )
        for result, count in merged.items():
            self._metrics.changes.labels(result).inc(count)
        self._metrics.changes.labels(ChangeResult.QUARANTINED).inc(len(unreadable))
        self._count_unreadable(batch, unreadable)

    async def _take_in_outcomes(self, batch: Batch, held: Claim) -> None:
        events, unreadable = _decode_all(OutcomeEvent, batch.records)
        results = {Result.COUNTED: len(events), Result.QUARANTINED: len(unreadable)}
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held, results)
            await outcomes.save(connection, [event.data for event in events])
            await _put_aside(connection, batch, unreadable)
        self._count_unreadable(batch, unreadable)

    async def _merge(
        self,
        connection: AsyncConnection,
        changes: Sequence[DirectoryChange],
        traces: Mapping[bytes, Traceparent],
    ) -> Counter[ChangeResult]:
        """Apply the changes in their order, and let out what has become of each account.

        It goes on in the trace of the last change of the account, `traces` by key.
        """
        known = await _read_known(connection, {change.account for change in changes})
        erased: dict[str, datetime] = {}
        changed: dict[str, AccountRecord] = {}
        states: defaultdict[str, list[tuple[datetime, AccountFields]]] = defaultdict(list)
        told_again: dict[str, list[tuple[datetime, AccountFields]]] = {}
        results: Counter[ChangeResult] = Counter()
        for change in changes:
            after, result = directory.apply(known[change.account], change)
            known[change.account] = after
            results[result] += 1
            if result is ChangeResult.ERASING and after.erased_at is not None:
                erased[change.account] = after.erased_at
                changed.pop(change.account, None)
                states.pop(change.account, None)
                told_again.pop(change.account, None)
            elif result is ChangeResult.MERGED and after.fields is not None:
                changed[change.account] = AccountRecord(
                    account=change.account, updated_at=change.received_at, fields=after.fields
                )
                states[change.account].append((change.received_at, after.fields))
            elif result is ChangeResult.UNCHANGED and after.fields is not None:
                told_again.setdefault(change.account, [(change.received_at, after.fields)])
        marks = {name: record.updated_at for name, record in changed.items()}
        if erased:
            remaining = await erasure.erase_accounts(
                connection, erased, now=self._clock(), traces=traces
            )
            marks |= dict.fromkeys(remaining, self._clock())
        records = [record for _, record in sorted(changed.items())]
        await store.save_accounts(connection, records)
        # Where the release before has stored a record, nobody has noted a version of it.
        await _note_versions(connection, told_again | states)
        await outboxes.put(
            connection,
            outbox,
            ACCOUNTS,
            [_record_of(record, traces) for record in records],
        )
        await store.mark_dirty(connection, store.marks_at(marks, traces))
        return results

    async def _advance(
        self,
        connection: AsyncConnection,
        batch: Batch,
        held: Claim,
        results: Mapping[Result, int] = _LATER,
    ) -> None:
        if not await positions.advance(connection, log_positions, batch, held, results):
            self._metrics.fence_missed.inc()

    def _count_unreadable(
        self, batch: Batch, unreadable: Sequence[tuple[StoredRecord, InvalidMessage]]
    ) -> None:
        for _, error in unreadable:
            self._metrics.quarantined(batch.partition.topic, error.code)


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


async def _keep_new(
    connection: AsyncConnection,
    batch: Batch,
    seen: SeenEvents,
    keys: Keys,
    tallied: Tally[EventId],
    erasures: Erasures | None,
) -> tuple[Keys, Keys, Tally[EventId]]:
    """Store the events that are new: those that still count, the new ones of them, what they add.

    The batch was tallied as if all were new; where one is not, it is read once more.
    """
    events: Mapping[EventId, UsageEvent] | None = None
    if erasures is not None:
        events = directory.without_erased(_read_again(batch, keys), erasures)
        keys = arrivals.keys_of(events)
    new = await seen.keep_new(connection, keys)
    if events is None and arrivals.count(new) < arrivals.count(keys):
        events = _read_again(batch, new)
    if events is not None:
        tallied = tally(one for one in events.items() if one[0][1] in new.get(one[0][0], ()))
    if failpoints.switched_off("dedupe"):
        every = _decode_all(UsageEvent, batch.records)[0]
        tallied = replace(tally((_NO_ID, event) for event in every), signals=tallied.signals)
    return keys, new, tallied


def _read_again(batch: Batch, keys: Keys) -> dict[EventId, UsageEvent]:
    return {
        (group, key): event
        for (group, key), event in arrivals.read(batch.records, Arrivals(), arrivals.nothing_known)
        if key in keys.get(group, ())
    }


def _marks(
    tallied: Tally[EventId], seen_today: AbstractSet[str], appended_at: datetime, now: datetime
) -> Sequence[store.Mark]:
    """One mark per account of which a look would find something new, or that is being loaded, with
    the arrival of its first event: latencies start there. One that was placed arrived at
    `appended_at`, when the batch's first record did: till then it waited for its user's account.

    Indicators are of complete days, and recency alone sees the running one: whoever was active
    today before is as active as can be until midnight. Shortly before it all are looked at, as a
    batch in hand may be stored after it.
    """
    utc = now.astimezone(UTC)
    if (utc + _BEFORE_MIDNIGHT).date() != utc.date():
        seen_today = frozenset()
    changed = {name for name, day in tallied.deltas if name not in seen_today or day != utc.date()}
    changed |= {signal.account for _, signal in tallied.signals}
    received = {
        **tallied.backfilled_since,
        **tallied.received_since(changed, min(appended_at, now)),
    }
    return [
        store.Mark(account=name, received_at=moment, backfill=name in tallied.backfilled_since)
        for name, moment in sorted(received.items())
    ]


def _with_traces(
    marks: Sequence[store.Mark], batch: Batch, arrived: Arrivals, new: Keys
) -> Sequence[store.Mark]:
    """The marks, each with the trace of its account's first new event in the batch.

    Few accounts are marked, so only their records are looked at; read once more they are only where
    the batch repeats what is known.
    """
    if not marks:
        return marks
    all_new = arrivals.count(new) == arrived.readable
    wanted = {mark.account.encode() for mark in marks}
    found: dict[bytes, Traceparent | None] = {}
    for record in batch.records:
        if record.key in wanted and (all_new or _is_among(record, new)):
            wanted.discard(record.key)
            found[record.key] = traceparent.of_headers(record.headers)
            if not wanted:
                break
    return [replace(mark, traceparent=found.get(mark.account.encode())) for mark in marks]


def _is_among(record: StoredRecord, new: Keys) -> bool:
    read = arrivals.read([record], Arrivals(), arrivals.nothing_known)
    return any(key in new.get(group, ()) for (group, key), _ in read)


def _record_of(record: AccountRecord, traces: Mapping[bytes, Traceparent]) -> Record:
    key = record.account.encode()
    headers = traceparent.headers_of(traces.get(key))
    return Record(key=key, value=encode(record), headers=headers)


async def _read_known(connection: AsyncConnection, names: Collection[str]) -> dict[str, Known]:
    erased = await erasure_store.read_erased_accounts(connection, names)
    stored = await store.read_accounts(connection, names)
    known = {}
    for name in names:
        fields, updated_at = stored.get(name, (None, None))
        known[name] = Known(fields=fields, updated_at=updated_at, erased_at=erased.get(name))
    return known


async def _note_versions(
    connection: AsyncConnection,
    states: Mapping[str, Sequence[tuple[datetime, AccountFields]]],
) -> None:
    newest = await store.read_newest_versions(connection, states)
    versions = {
        name: history.versions_of(newest.get(name), reached) for name, reached in states.items()
    }
    await store.add_versions(connection, versions)


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
