"""The clock of scoring: scores what changed and what is due by time alone, and raises flags.

A silent account sends no event: its shard is due once a day, after midnight UTC, when indicators
change by themselves, and when another model is in service. Accounts with new events are scored
within seconds, also while a large sweep runs. Every chunk of accounts is one transaction that holds
the locks of its shards.

Order of effects, in one transaction: 1 take the marks, 2 look, 3 write flags and scores, log rows;
once the round is over: 4 what the storm guard let wait leaves through the outbox.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import (
    history_store,
    membership_retention,
    outage_store,
    storm,
    sweep_store,
)
from services.scoring.domain.rules import Rules
from services.scoring.domain.staleness import Freshness
from services.scoring.feature_log import MONDAYS, RETENTION, YEAR, Months, Rhythm
from services.scoring.looks import Looks, Moment, Seen
from services.scoring.metrics import FlagCause, ScoringMetrics, Suppressed
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.store import SHARDS, shard_of
from services.scoring.sweep_store import ALL, Marks, Part, Work
from services.scoring.usage_store import Scope
from shared import database, failpoints, tracing
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.outbox import Relay
from shared.telemetry import Operation
from shared.traceparent import Traceparent
from shared.transactions import measured
from shared.watchdog import Loop

CHUNK: Final = 2_000
"""Accounts with new events per transaction."""

LARGEST: Final = 60_000
"""Accounts of a shard that are read at once; a larger one is swept in parts."""

_LANES: Final = 2  # PostgreSQL reads for one while numpy computes for the other.
_ONE_DAY: Final = timedelta(days=1)
_MAINTAIN_EVERY: Final = timedelta(hours=1)
_AWAY_SECONDS: Final = 2.0
_NOT_YET: Final = timedelta(days=3_650)

log = logs.get(__name__)


class Watch(Protocol):
    """What says which data can be trusted: `staleness.Staleness`."""

    async def beat(self, now: datetime) -> None: ...

    async def look(self, now: datetime) -> Freshness: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What is the same for all chunks of a round, and the flags that it has raised."""

    moment: Moment
    began: datetime
    """By the clock, while `moment.now` is what the caller said."""
    settle: timedelta
    work: Work
    flags_since: list[tuple[FlagCause, datetime]] = field(default_factory=list)


class Sweep:
    """Scores accounts in rounds; every replica runs one, the shards' locks share the work."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        partitions: Partitions,
        metrics: ScoringMetrics,
        relay: Relay,
        clock: Clock,
        loop: Loop,
        interval: timedelta,
        settle: timedelta,
        is_behind: Callable[[], Awaitable[bool]],
        retention: timedelta | None,
        history: timedelta = RETENTION,
        models: Models,
        watch: Watch,
        rules: Rules,
        rhythm: Rhythm = MONDAYS,
    ) -> None:
        self._engine = engine
        self._partitions = partitions
        self._metrics = metrics
        self._relay = relay
        self._clock = clock
        self._loop = loop
        self._interval = interval
        self._settle = settle
        self._is_behind = is_behind
        self._retention = retention
        self._history = history
        self._models = models
        self._watch = watch
        self._rules = rules
        self._rhythm = rhythm
        self._months = Months(engine)
        self._looks = Looks()
        self._maintained_at: datetime | None = None
        self._members_on: date | None = None
        self._waiting_flags: list[tuple[FlagCause, datetime]] = []

    async def run(self, stop: asyncio.Event) -> None:
        seconds = self._interval.total_seconds()
        while not await stopped_within(stop, seconds):
            seconds = self._interval.total_seconds()
            try:
                if not self._models.is_loaded:
                    await self._models.load_active()
                now = self._clock()
                await self._watch.beat(now)
                await self.maintain_when_due(now)
                await self.round(now)
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("sweep.away", cause=type(error).__name__)
                seconds = _AWAY_SECONDS
            self._loop.progressed()

    async def round(self, now: datetime) -> int:
        """Score everything that is dirty or due; says how many accounts."""
        settle = self._settle
        # Also where there is nothing to do: a source that has stopped leaves nothing to do.
        freshness = await self._watch.look(now)
        work = await self._look(settle)
        if work.history_loaded and await self._is_behind():
            # It only looks loaded: the rest of it waits in the log (intake was slow, or away).
            settle = _NOT_YET
            work = await self._look(settle)
        scored = 0
        if work.marked or work.history_loaded or work.due(now, work.model_version):
            scored = await self._score(work, freshness, now, settle)
        await self._release(now)
        self._metrics.sweep_success.set_to_current_time()
        return scored

    async def maintain_when_due(self, now: datetime) -> None:
        """Partitions ahead, and deleting what is past its retention; at start, then hourly."""
        if self._maintained_at is not None and now - self._maintained_at < _MAINTAIN_EVERY:
            return
        today = now.astimezone(UTC).date()
        dropped = await self._partitions.maintain(today=today)
        months = await self._months.maintain(now)
        days = signals = 0
        if self._retention is not None:
            before = today - self._retention
            while await self._forget_one_day(before):
                days += 1
                # Of years of use there may be hours of this: no standstill.
                self._loop.progressed()
            async with self._engine.begin() as connection:
                signals = await sweep_store.forget_old_signals(connection, before - _ONE_DAY)
        async with self._engine.begin() as connection:
            await outage_store.forget_hours(connection, now, self._rules.staleness)
        ended = dict(
            await history_store.forget(
                self._engine, now - self._history, progressed=self._loop.progressed
            )
        )
        if self._members_on != today:  # Each row is looked at: not every hour.
            ended |= await membership_retention.forget(
                self._engine,
                now,
                activity=self._retention,
                group_calls=self._partitions.kept,
                progressed=self._loop.progressed,
            )
            self._members_on = today
        self._maintained_at = now
        if dropped or days or signals or months or ended:
            log.info(
                "sweep.forgot",
                id_partitions=dropped,
                activity_days=days,
                signals=signals,
                log_months=months,
                **ended,
            )

    @asynccontextmanager
    async def _transaction(self, operation: Operation) -> AsyncIterator[AsyncConnection]:
        with measured(self._loop.metrics, self._loop.service, operation):
            async with self._engine.begin() as connection:
                yield connection

    async def _forget_one_day(self, before: date) -> bool:
        async with self._engine.begin() as connection:
            return await sweep_store.forget_old_days(connection, before)

    async def _look(self, settle: timedelta) -> Work:
        async with self._engine.connect() as connection:
            return await sweep_store.look(connection, settle=settle)

    async def _score(
        self, work: Work, freshness: Freshness, now: datetime, settle: timedelta
    ) -> int:
        standard = await self._models.current(
            now, accounts=work.accounts, history_loaded=work.history_loaded, settle=settle
        )
        log_at = self._rhythm.moment(now)
        await self._months.ensure([now, log_at or now, now - YEAR])
        moment = Moment(
            now=now,
            standard=standard,
            freshness=freshness,
            log_at=log_at,
        )
        this = _Round(moment=moment, began=self._clock(), settle=settle, work=work)
        due = work.due(now, standard.model.version)
        few = 0
        if sum(work.accounts_of(shard) for shard in due) <= CHUNK:
            few, due = await self._sweep_few(due, this), []
        lanes = [asyncio.create_task(self._lane(number, due, this)) for number in range(_LANES)]
        try:
            scored = sum(await asyncio.gather(*lanes))
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        self._waiting_flags += this.flags_since
        return scored + few

    async def _lane(self, number: int, due: Collection[int], this: _Round) -> int:
        """Its shards, one after the other, that are due; between them, what has new events."""
        own = set(range(number, SHARDS, _LANES))
        crowded = own & this.work.crowded
        scored = 0
        for shard in sorted(own & set(due)):
            scored += await self._sweep_shard(shard, this)
            crowded.discard(shard)
            scored += await self._score_marked(own - crowded, this)
        if not scored and own & set(this.work.marked):
            scored += await self._score_marked(own, this)
        return scored

    async def _sweep_shard(self, shard: int, this: _Round) -> int:
        """Look at all accounts of a shard; 0 where another replica is at it."""
        parts = _parts(this.work.accounts_of(shard))
        scored = 0
        for number, part in enumerate(parts, 1):
            started = time.monotonic()
            async with self._transaction(Operation.SWEEP) as connection:
                if not await sweep_store.begin(connection, [shard]):
                    return scored
                marks = await sweep_store.take_marks(
                    connection, [shard], settle=this.settle, part=part
                )
                scopes = await sweep_store.whole_shard(connection, shard, marks, part)
                with tracing.one("scoring sweeps", None):
                    seen = [
                        await self._look_at(connection, one, this, marks)
                        for one in scopes
                        if one.accounts
                    ]
                scored += sum(len(one.accounts) for one in scopes)
                if number == len(parts):
                    await sweep_store.mark_swept(
                        connection,
                        {shard: scored},
                        model_version=this.moment.standard.model.version,
                        now=this.moment.now,
                    )
                failpoints.reach("scoring.before_sweep_commit")
            self._note(seen, marks, this, started)
        return scored

    async def _sweep_few(self, shards: Collection[int], this: _Round) -> int:
        """Look at all accounts of several shards in one step: each of them holds but a few."""
        if not shards:
            return 0
        started = time.monotonic()
        async with self._transaction(Operation.SWEEP) as connection:
            locked = await sweep_store.begin(connection, shards)
            marks = await sweep_store.take_marks(connection, locked, settle=this.settle)
            accounts = await sweep_store.all_accounts(connection, locked, marks)
            seen = []
            if accounts:
                with tracing.one("scoring sweeps", None):
                    scope = Scope(accounts=accounts)
                    seen.append(await self._look_at(connection, scope, this, marks))
            counted = Counter(map(shard_of, accounts))
            await sweep_store.mark_swept(
                connection,
                {shard: counted[shard] for shard in locked},
                model_version=this.moment.standard.model.version,
                now=this.moment.now,
            )
            failpoints.reach("scoring.before_sweep_commit")
        self._note(seen, marks, this, started)
        return len(accounts)

    async def _score_marked(self, shards: Collection[int], this: _Round) -> int:
        """Score the accounts with new events, those that there are as it begins.

        Were it to go on until none are left, a stream of events could keep a round from its end:
        its clock would stand still, and what the storm guard has to let out would wait.
        """
        scored, until = 0, None
        while True:
            started = time.monotonic()
            async with self._transaction(Operation.SWEEP) as connection:
                locked = await sweep_store.begin(connection, shards)
                if until is None:
                    until = await sweep_store.last_mark(connection)
                marks = await sweep_store.take_marks(
                    connection, locked, settle=this.settle, limit=CHUNK, until=until
                )
                if not marks:
                    return scored
                # What came since the round began is marked too: a look as of then would miss it.
                newer = replace(this, moment=replace(this.moment, now=self._now(this)))
                scope = Scope(accounts=sorted(marks))
                with tracing.many("scoring sweeps", partial(_traces_of, marks)):
                    seen = await self._look_at(connection, scope, newer, marks)
                failpoints.reach("scoring.before_sweep_commit")
            self._note([seen], marks, this, started)
            scored += len(marks)
            if len(marks) < CHUNK:
                return scored

    def _now(self, this: _Round) -> datetime:
        """How late it has become in the round; its day does not end before it does."""
        now = this.moment.now.astimezone(UTC)
        last = now.replace(hour=23, minute=59, second=59, microsecond=999_999)
        return min(now + max(self._clock() - this.began, timedelta(0)), last)

    async def _look_at(
        self, connection: AsyncConnection, scope: Scope, this: _Round, marks: Marks
    ) -> Seen:
        tracing.note("accounts", len(scope.accounts))
        traces = {name: mark.traceparent for name, mark in marks.items() if mark.traceparent}
        received = {name: mark.received_at for name, mark in marks.items()}
        seen = await self._looks.look(connection, scope, this.moment, traces, received)
        if seen.new:
            await sweep_store.count_new(
                connection,
                Counter(map(shard_of, seen.new)),
                model_version=this.moment.standard.model.version,
                now=this.moment.now,
            )
        return seen

    def _note(self, seen: Sequence[Seen], marks: Marks, this: _Round, started: float) -> None:
        """Measure what a transaction has done; it is committed."""
        self._loop.progressed()
        midnight = this.moment.now.astimezone(UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        sent = [change for one in seen for change in one.sent]
        for reason, change in sent:
            self._metrics.flags.labels(reason, change).inc()
        if sent:
            self._relay.wake()
        done_at = self._clock()
        for mark in marks.values():
            if mark.backfill:
                continue  # it waits until history has settled: an import is no slow pipeline
            self._metrics.event_to_score.observe((done_at - mark.received_at).total_seconds())
        for one in seen:
            self._metrics.risks.observe(one.assessed.risk)
            self._metrics.suppressed.labels(Suppressed.DATA_STALE).inc(one.stale)
            this.flags_since.extend(
                (FlagCause.EVENT, marks[name].received_at)
                if name in marks
                else (FlagCause.CLOCK, midnight)
                for name in one.raised
            )
        self._metrics.sweep_seconds.observe(time.monotonic() - started)

    async def _release(self, now: datetime) -> None:
        """Let out the flags that waited for the end of the round, or hold them."""
        async with self._transaction(Operation.RELEASE) as connection:
            verdict = await storm.release(connection, now, self._rules.storm_guard)
        for reason, count in verdict.sent.items():
            self._metrics.flags.labels(reason, "raised").inc(count)
        if verdict.sent:
            self._relay.wake()
        self._metrics.suppressed.labels(Suppressed.MASS_FLAGS).inc(verdict.held)
        if not verdict.held:
            done_at = self._clock()
            for cause, since in self._waiting_flags:
                self._metrics.event_to_flag.labels(cause).observe((done_at - since).total_seconds())
        self._waiting_flags = []


def _traces_of(marks: Marks) -> list[Traceparent | None]:
    """Each once, the first ones."""
    said = dict.fromkeys(mark.traceparent for mark in marks.values())
    return list(islice(said, tracing.MOST_LINKS))


def _parts(accounts: int) -> list[Part]:
    """The hashes of a shard's accounts in equal ranges, so that none holds too many accounts."""
    count = 1 + accounts // LARGEST
    if count == 1:
        return [ALL]
    lowest, highest = ALL
    width = (highest - lowest) // count + 1
    starts = [lowest + number * width for number in range(count)]
    return [(start, min(start + width - 1, highest)) for start in starts]
