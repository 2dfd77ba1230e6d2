"""The clock of scoring: scores what changed and what is due by time alone, and raises flags.

A silent account sends no event: it is due once a day, after midnight UTC, when its indicators
change by themselves. Every chunk of accounts is one transaction that holds its shard's lock.

Order of effects, in one transaction: 1 take the marks, 2 look, 3 write scores and flags, 4 put the
flags' messages into the outbox.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import sweep_store
from services.scoring.domain.assessment import Assessment, FlagChange, assess
from services.scoring.domain.model import Model
from services.scoring.domain.renewal import renewal_date
from services.scoring.flag_events import envelope
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.store import SHARDS
from services.scoring.sweep_store import FlagRow
from services.scoring.tables import outbox
from shared import database, failpoints
from shared import logging as logs
from shared import outbox as outboxes
from shared.clock import Clock
from shared.lifecycle import Loop, stopped_within
from shared.log import Record
from shared.messages import FLAGS, Flag, FlagEvent, encode
from shared.outbox import Relay

CHUNK: Final = 1_000
_MAINTAIN_EVERY: Final = timedelta(hours=1)
_AWAY_SECONDS: Final = 2.0
_NOT_YET: Final = timedelta(days=3_650)

log = logs.get(__name__)


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
        models: Models,
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
        self._models = models
        self._maintained_at: datetime | None = None

    async def run(self, stop: asyncio.Event) -> None:
        seconds = self._interval.total_seconds()
        while not await stopped_within(stop, seconds):
            seconds = self._interval.total_seconds()
            try:
                now = self._clock()
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
        async with self._engine.connect() as connection:
            work = await sweep_store.look(connection, now, settle=self._settle)
        settle = self._settle
        if work.history_loaded and await self._is_behind():
            # It only looks loaded: the rest of it waits in the log (intake was slow, or away).
            settle = _NOT_YET
            async with self._engine.connect() as connection:
                work = await sweep_store.look(connection, now, settle=settle)
        if not work.is_due:
            self._metrics.sweep_success.set_to_current_time()
            return 0
        model = await self._models.current(now, history_loaded=work.history_loaded, settle=settle)
        scored = 0
        for shard in range(SHARDS):
            count = CHUNK
            while count >= CHUNK:
                count = await self._score_chunk(shard, model, now, settle=settle)
                scored += count
                self._loop.progressed()
        self._metrics.sweep_success.set_to_current_time()
        return scored

    async def maintain_when_due(self, now: datetime) -> None:
        """Partitions ahead, and deleting what is past its retention; at start, then hourly."""
        if self._maintained_at is not None and now - self._maintained_at < _MAINTAIN_EVERY:
            return
        today = now.astimezone(UTC).date()
        dropped = await self._partitions.maintain(today=today)
        days = 0
        if self._retention is not None:
            while await self._forget_one_day(today - self._retention):
                days += 1
        self._maintained_at = now
        if dropped or days:
            log.info("sweep.forgot", id_partitions=dropped, activity_days=days)

    async def _forget_one_day(self, before: date) -> bool:
        async with self._engine.begin() as connection:
            return await sweep_store.forget_old_days(connection, before)

    async def _score_chunk(
        self, shard: int, model: Model, now: datetime, *, settle: timedelta
    ) -> int:
        started = time.monotonic()
        async with self._engine.begin() as connection:
            if not await sweep_store.lock_shard(connection, shard):
                return 0
            taken = await sweep_store.take(connection, shard, now, settle=settle, limit=CHUNK)
            if not taken.accounts:
                return 0
            subjects = await sweep_store.read_subjects(
                connection, taken.accounts, now.astimezone(UTC).date()
            )
            kept = None if self._retention is None else self._retention.days
            found = assess(subjects, model, now, kept_days=kept)
            changed = await self._save(connection, found, model, now)
            failpoints.reach("scoring.before_sweep_commit")
        for reason, change in changed:
            self._metrics.flags.labels(reason, change).inc()
        if changed:
            self._relay.wake()
        done_at = self._clock()
        for received_at in taken.received.values():
            self._metrics.event_to_score.observe((done_at - received_at).total_seconds())
        self._metrics.sweep_seconds.observe(time.monotonic() - started)
        return len(found)

    async def _save(
        self,
        connection: AsyncConnection,
        found: Sequence[Assessment],
        model: Model,
        now: datetime,
    ) -> list[tuple[str, str]]:
        """Write scores and flags; returns reason and change of each flag that changed."""
        await sweep_store.save_scores(
            connection,
            found,
            model_version=model.version,
            now=now,
            next_due_at=_next_midnight(now),
        )
        changes = [
            (one, change)
            for one in found
            for change in one.flags
            if change.decision.change is not None
        ]
        await sweep_store.save_flags(
            connection, (_flag_row(one, change, now) for one, change in changes)
        )
        await outboxes.put(
            connection,
            outbox,
            FLAGS,
            [
                Record(key=one.account.encode(), value=encode(_flag_event(one, change, now)))
                for one, change in changes
            ],
        )
        return [
            (change.decision.reason, change.decision.change)
            for _, change in changes
            if change.decision.change is not None
        ]


def _next_midnight(now: datetime) -> datetime:
    """When the account's indicators change by themselves: the next UTC day is complete then."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


def _flag_row(one: Assessment, change: FlagChange, now: datetime) -> FlagRow:
    decision = change.decision
    return FlagRow(
        account_id=one.account,
        reason=decision.reason,
        episode=decision.state.episode,
        flag_id=_flag_id(one, change),
        stage=decision.stage,
        raised_at=decision.raised_at or now,
        updated_at=now,
        cleared_at=now if decision.change == "cleared" else None,
        band=change.band,
        risk=one.risk,
        summary=change.summary,
    )


def _flag_event(one: Assessment, change: FlagChange, now: datetime) -> FlagEvent:
    decision = change.decision
    if decision.change is None:
        raise ValueError("a decision that was held back is no message")
    flag = Flag(
        flag_id=_flag_id(one, change),
        account=one.account,
        reason=decision.reason,
        stage=decision.stage,
        change=decision.change,
        episode=decision.state.episode,
        as_of=now,
        raised_at=decision.raised_at or now,
        band=change.band,
        risk=one.risk,
        value_at_risk=change.value,
        renewal_date=renewal_date(one.fields, one.indicators.as_of),
        summary=change.summary,
        reasons=decision.evidence,
    )
    return envelope(flag)


def _flag_id(one: Assessment, change: FlagChange) -> str:
    """The same for every message of one episode."""
    name = f"{one.account}\0{change.decision.reason}\0{change.decision.state.episode}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
