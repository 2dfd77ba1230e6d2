"""`perennial quarantine`: what was rejected is listed, taken in once more, or dropped.

The `rejected` topic is all there is. Order of effects of a replay: 1 append what the records
become, 2 append the marker that settles them. Killed between, they are replayed once more, and
count once: source, id and times come out the same. (The account too, unless the source's
`default_account` was changed in between.)
"""

import getpass
import heapq
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from services.keys import is_live, read_ring
from shared import failpoints
from shared.credentials import Scope
from shared.errors import DependencyAway, InvalidMessage, Misconfigured, PerennialError
from shared.log import (
    Appended,
    Batch,
    Consumer,
    Log,
    LogUnavailable,
    Record,
    TopicMissing,
    TopicPartition,
)
from shared.messages import REJECTED, UNPLACED_EVENTS
from shared.quarantine import (
    Rejected,
    RejectedId,
    Settlement,
    is_id,
    read_rejected,
    read_settlement,
    settlement_record,
)
from shared.settings import read

_WAIT: Final = timedelta(milliseconds=200)
_DEADLINE: Final = timedelta(seconds=10)
_SILENT_SECONDS: Final = 15.0
_FETCHED: Final = 2_000
_TOGETHER: Final = 200
"""Records that share a marker, and are replayed again where it is missing."""
_TOGETHER_BYTES: Final = 4 * 1024 * 1024
_SHOWN_REFUSALS: Final = 20
_AGO = re.compile(r"(\d{1,5})([mhd])", re.ASCII)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

OnProgress: TypeAlias = Callable[[int], None]
"""Told how many records have been looked at."""


class UnknownIds(PerennialError):
    """No record of the quarantine has this id: `perennial quarantine list` shows them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records are meant; what is None says nothing."""

    ids: frozenset[RejectedId] = frozenset()
    code: str | None = None
    source: str | None = None
    account: str | None = None
    stage: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return self != Wanted()

    def holds(self, rejected: Rejected) -> bool:
        return (
            (not self.ids or rejected.id in self.ids)
            and self.code in (None, rejected.code)
            and self.source in (None, rejected.source)
            and self.account in (None, rejected.account)
            and self.stage in (None, rejected.stage, rejected.stage.partition(".")[0])
            and (self.since is None or rejected.rejected_at >= self.since)
            and (self.until is None or rejected.rejected_at <= self.until)
        )


class Kind(NamedTuple):
    code: str
    source: str
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    rejected: Rejected
    settlement: Settlement | None


@dataclass(slots=True, kw_only=True)
class Survey:
    """What is there: how many of each kind, and the newest."""

    counts: Counter[Kind] = field(default_factory=Counter)
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the records that were meant."""

    done: Counter[str] = field(default_factory=Counter)
    """By where they went: a topic, or `dropped`."""
    refused: Counter[str] = field(default_factory=Counter)
    """By why they stay in quarantine."""
    shown: list[tuple[RejectedId, str]] = field(default_factory=list)
    """The first of those that stay, and why."""
    settled: list[Entry] = field(default_factory=list)
    """Named, but settled before."""
    unknown: list[RejectedId] = field(default_factory=list)
    """Named, but not there."""

    def refuse(self, rejected: Rejected, kind: str, why: str) -> None:
        self.refused[kind] += 1
        if len(self.shown) < _SHOWN_REFUSALS:
            self.shown.append((rejected.id, why))

    @property
    def exit_code(self) -> int:
        return 1 if self.refused or self.unknown else 0


Replay: TypeAlias = Callable[[Rejected], Sequence[tuple[str, Record]]]
"""What a record becomes, by topic; raises InvalidMessage where it still cannot be taken in."""
_Plan: TypeAlias = tuple[Rejected, Sequence[tuple[str, Record]]]


def parse_ids(texts: Sequence[str]) -> frozenset[RejectedId]:
    """Raises Misconfigured, naming the first that is none."""
    for text in texts:
        if not is_id(text):
            raise Misconfigured(f"{text!a} is no id: one looks like 0-17, as `list` shows it")
    return frozenset(RejectedId(text) for text in texts)


def parse_since(text: str | None, *, now: datetime) -> datetime | None:
    """A moment, or how long ago; raises Misconfigured."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Misconfigured(
            f"--since {text!a}: write 30m, 12h, 7d, or a moment as 2026-03-31T08:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def operator() -> str:
    """Who acts, as the markers name them."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # A container's user often has a number alone.
        return f"uid {os.getuid()}"


async def survey(
    log: Log, wanted: Wanted, *, limit: int, with_settled: bool, on_progress: OnProgress
) -> Survey:
    """Of the records that are meant, at most `limit`, the newest first, and the count of all."""
    found = Survey()
    newest: list[tuple[datetime, RejectedId, Entry]] = []
    async for entry in _entries(log, wanted, on_progress=on_progress):
        if entry.settlement is not None and not with_settled:
            continue
        rejected = entry.rejected
        found.counts[Kind(rejected.code, rejected.source or "", rejected.stage)] += 1
        item = (rejected.rejected_at, rejected.id, entry)
        if len(newest) < limit:
            heapq.heappush(newest, item)
        elif limit:
            heapq.heappushpop(newest, item)
    found.entries = [entry for _, _, entry in sorted(newest, reverse=True)]
    return found


async def find(log: Log, wanted_id: RejectedId) -> Entry:
    async with aclosing(_entries(log, Wanted(ids=frozenset({wanted_id})))) as entries:
        async for entry in entries:
            return entry
    raise UnknownIds(
        f"nothing in quarantine has the id {wanted_id}: `perennial quarantine list` shows it all"
    )


async def replay(
    log: Log,
    wanted: Wanted,
    *,
    by: str,
    now: datetime,
    dry_run: bool,
    on_progress: OnProgress,
) -> Outcome:
    """Take the records in once more; those that still cannot be stay in quarantine."""
    become = await _replays(log, now)

    async def settle(chunk: Sequence[Rejected], outcome: Outcome) -> None:
        planned: list[_Plan] = []
        for rejected in chunk:
            if rejected.why_not_replayable is not None:
                outcome.refuse(rejected, "not replayable", rejected.why_not_replayable)
                continue
            try:
                planned.append((rejected, become(rejected)))
            except InvalidMessage as error:
                outcome.refuse(rejected, f"rejected again: {error.code}", str(error))
        durable = planned if dry_run else await _append(log, planned, outcome)
        for _, records in durable:
            outcome.done[records[0][0]] += 1
        failpoints.reach("quarantine.before_marker")
        if durable and not dry_run:
            ids = tuple(rejected.id for rejected, _ in durable)
            await _mark(log, Settlement(ids=ids, state="replayed", by=by, at=now))

    return await _settle_all(log, wanted, settle, on_progress)


async def drop(
    log: Log, wanted: Wanted, *, by: str, now: datetime, on_progress: OnProgress
) -> Outcome:
    """Let go of the records: from now on nobody is shown them, unless he asks for all."""

    async def settle(chunk: Sequence[Rejected], outcome: Outcome) -> None:
        ids = tuple(rejected.id for rejected in chunk)
        await _mark(log, Settlement(ids=ids, state="dropped", by=by, at=now))
        outcome.done["dropped"] += len(chunk)

    return await _settle_all(log, wanted, settle, on_progress)


async def _settle_all(
    log: Log,
    wanted: Wanted,
    settle: Callable[[Sequence[Rejected], Outcome], Coroutine[object, object, None]],
    on_progress: OnProgress,
) -> Outcome:
    outcome = Outcome()
    chunk: list[Rejected] = []
    size = 0
    seen: set[RejectedId] = set()
    async for entry in _entries(log, wanted, on_progress=on_progress):
        if wanted.ids:
            seen.add(entry.rejected.id)
        if entry.settlement is not None:
            if wanted.ids:
                outcome.settled.append(entry)
            continue
        chunk.append(entry.rejected)
        size += entry.rejected.size
        if len(chunk) >= _TOGETHER or size >= _TOGETHER_BYTES:
            await settle(chunk, outcome)
            chunk, size = [], 0
    if chunk:
        await settle(chunk, outcome)
    outcome.unknown = sorted(wanted.ids - seen)
    return outcome


async def _append(log: Log, planned: Sequence[_Plan], outcome: Outcome) -> list[_Plan]:
    """Those of which every record is durable."""
    by_topic: defaultdict[str, list[tuple[RejectedId, Record]]] = defaultdict(list)
    for rejected, records in planned:
        for topic, record in records:
            by_topic[topic].append((rejected.id, record))
    missing: dict[RejectedId, str] = {}
    for topic, pairs in by_topic.items():
        try:
            appended = await log.append(topic, [record for _, record in pairs], deadline=_DEADLINE)
        except LogUnavailable as error:
            raise DependencyAway("the log") from error
        except TopicMissing:
            missing |= {each: f"topic {topic} does not exist" for each, _ in pairs}
            continue
        missing |= {
            each: "not known to be stored: replay it again"
            for (each, _), state in zip(pairs, appended, strict=True)
            if state is not Appended.DURABLE
        }
    for rejected, _ in planned:
        if (why := missing.get(rejected.id)) is not None:
            outcome.refuse(rejected, "not stored", why)
    return [each for each in planned if each[0].id not in missing]


async def _mark(log: Log, settlement: Settlement) -> None:
    try:
        [appended] = await log.append(REJECTED, [settlement_record(settlement)], deadline=_DEADLINE)
    except LogUnavailable as error:
        raise DependencyAway("the log") from error
    if appended is not Appended.DURABLE:
        raise DependencyAway("the log")


async def _replays(log: Log, now: datetime) -> Replay:
    """By what is said of the sources now; only this command needs what ingest needs."""
    from services.ingest.app import check_limits  # noqa: PLC0415
    from services.ingest.replay import Replayer  # noqa: PLC0415
    from services.ingest.settings import IngestSettings  # noqa: PLC0415

    settings = read(IngestSettings)
    check_limits(settings, log)
    ring = await read_ring(log)
    replayer = Replayer(
        settings,
        ring,
        may_change_accounts={
            key.source
            for key in ring.records()
            if Scope.ACCOUNTS_WRITE in key.scopes and is_live(key, now)
        },
    )

    def become(rejected: Rejected) -> Sequence[tuple[str, Record]]:
        if rejected.topic is None:
            return replayer.records(rejected)
        if rejected.topic == UNPLACED_EVENTS:
            return [replayer.of_user_alone(rejected)]
        as_it_was = Record(key=rejected.key, value=rejected.value, headers=rejected.own_headers)
        return [(rejected.topic, as_it_was)]

    return become


async def _entries(
    log: Log, wanted: Wanted, *, on_progress: OnProgress = lambda _count: None
) -> AsyncGenerator[Entry, None]:
    """The records that are meant, with what an operator said of them.

    The topic is read twice, since markers stand behind what they settle and the records may be too
    many to hold: once for the markers, once for the records.
    """
    settled: dict[RejectedId, Settlement] = {}
    count = 0
    async with aclosing(_read_all(log)) as batches:
        async for batch in batches:
            for stored in batch.records:
                settlement = read_settlement(stored)
                if settlement is not None:
                    settled.update(dict.fromkeys(settlement.ids, settlement))
    async with aclosing(_read_all(log)) as batches:
        async for batch in batches:
            for stored in batch.records:
                rejected = read_rejected(stored, batch.partition.partition)
                if rejected is not None and wanted.holds(rejected):
                    yield Entry(rejected=rejected, settlement=settled.get(rejected.id))
            count += len(batch.records)
            on_progress(count)


async def _read_all(log: Log) -> AsyncGenerator[Batch, None]:
    """The topic from its beginning to where it ends now; others may go on writing."""
    at: dict[TopicPartition, int] = {}
    ends: dict[TopicPartition, int] = {}
    heard = time.monotonic()
    wait = timedelta()
    async with log.follow(REJECTED) as consumer:
        while not await _is_at_end(consumer, at, ends):
            batches = await consumer.fetch(max_records=_FETCHED, wait=wait)
            wait = _WAIT
            for batch in batches:
                at[batch.partition] = batch.next
                yield batch
            if batches:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT_SECONDS:
                raise DependencyAway("the log")
        # What the log had on its way to us while it was asked for its end.
        for batch in await consumer.fetch(max_records=_FETCHED, wait=timedelta()):
            yield batch


async def _is_at_end(
    consumer: Consumer, at: Mapping[TopicPartition, int], ends: dict[TopicPartition, int]
) -> bool:
    """Whether all is read that was there when each partition's end was first known."""
    try:
        lags = await consumer.lag()
    except LogUnavailable:
        return False
    for partition, lag in lags.items():
        if not lag.records:
            ends[partition] = at.get(partition, 0)
        elif partition in at:
            ends.setdefault(partition, at[partition] + lag.records)
    return bool(lags) and all(
        partition in ends and at.get(partition, 0) >= ends[partition] for partition in lags
    )
