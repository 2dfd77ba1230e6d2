"""Watching the pipeline itself: which sources are out, and since when.

The pipeline's silence is not the customer's. A source that sends too little, a log that is not read
in time and a scoring that was not at work are outages: rows that every replica reads. One of them
at a time writes; what only one sees (its part of the log lags) it notes by itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import outage_store
from services.scoring.domain import rules as settings
from services.scoring.domain import staleness
from services.scoring.domain.staleness import FRESH, Freshness, Hours, Outage, OutageCause
from services.scoring.metrics import ScoringMetrics
from shared import logging as logs

LagOf: TypeAlias = Callable[[datetime], Awaitable[timedelta | None]]
"""The age of the oldest event that waits in the log; None where it is not known."""

_LOOK_EVERY: Final = timedelta(seconds=30)
_HOUR: Final = timedelta(hours=1)
_LAG_IS_OVER: Final = timedelta(minutes=2)

log = logs.get(__name__)


class Staleness:
    """Looks at most every 30 seconds, by the clock in force."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        metrics: ScoringMetrics,
        rules: settings.Staleness,
        lag: LagOf,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._rules = rules
        self._lag = lag
        self._looked_at: datetime | None = None
        self._beaten_at: datetime | None = None
        self._unknown_since: datetime | None = None
        self._found = FRESH
        self._hours: Hours | None = None

    async def beat(self, now: datetime) -> None:
        """Scoring is at work; if it was not for a while, that is an outage of its own.

        Only for clocks that run: a replay's clock jumps.
        """
        if self._beaten_at is not None and abs(now - self._beaten_at) < _LOOK_EVERY:
            return
        async with self._engine.begin() as connection:
            before = await outage_store.beat(connection, now)
            if before is not None and now - before > self._limit:
                await outage_store.note_gap(connection, before, now)
                log.warning("staleness.was_down", since=before, until=now)
                self._looked_at = None
        self._beaten_at = now

    async def look(self, now: datetime) -> Freshness:
        """What of the data can be trusted now."""
        if self._looked_at is not None and abs(now - self._looked_at) < _LOOK_EVERY:
            return self._found
        lag = await self._known_lag(now)
        async with self._engine.begin() as connection:
            if lag is not None and lag > self._limit:
                await self._begin(connection, "", OutageCause.LAG, now - lag, now)
            if await outage_store.take_lead(connection):
                await self._write(connection, now, lag)
            outages = await outage_store.read_outages(connection)
        self._found = staleness.freshness(outages, now, self._rules)
        if lag is None:
            # Nobody knows what waits: nothing is held against a customer until somebody does.
            self._found = replace(self._found, everywhere=True)
        else:
            self._looked_at = now
        self._show(self._found)
        return self._found

    @property
    def _limit(self) -> timedelta:
        return timedelta(minutes=self._rules.log_lag_minutes)

    async def _known_lag(self, now: datetime) -> timedelta | None:
        """The lag; if nobody has known it for longer than its limit, since when that is so."""
        lag = await self._lag(now)
        if lag is not None:
            self._unknown_since = None
            return lag
        self._unknown_since = self._unknown_since or now
        unknown = now - self._unknown_since
        return unknown if unknown > self._limit else None

    async def _write(
        self, connection: AsyncConnection, now: datetime, lag: timedelta | None
    ) -> None:
        outages = await outage_store.read_outages(connection)
        open_ = [one for one in outages if one.ended_at is None]
        for one in open_:
            if one.why is OutageCause.LAG and now - one.seen_at > _LAG_IS_OVER and lag is not None:
                await self._end(connection, one, now)
        is_calm = all(one.ended_at is not None and now - one.ended_at > _HOUR for one in outages)
        hours = await self._read_hours(connection, now, is_calm=is_calm)
        is_lagging = any(one.why is OutageCause.LAG for one in open_)
        if not is_lagging and lag is not None:
            # What waits in the log would look like silence of those who sent it.
            await self._judge(connection, hours, open_, now)
        for one in await outage_store.read_outages(connection):
            await self._keep_days(connection, hours, one, now)

    async def _judge(
        self, connection: AsyncConnection, hours: Hours, open_: Sequence[Outage], now: datetime
    ) -> None:
        short = {one.source: one for one in staleness.shortfalls(hours, self._rules)}
        for source, found in short.items():
            await self._begin(
                connection,
                source,
                OutageCause.SILENT,
                staleness.moment_of(found.began),
                now,
                hours=found.hours,
                expected=round(found.expected),
                came=round(found.came),
            )
        for one in open_:
            if one.why is OutageCause.SILENT and one.source not in short:
                await self._end(connection, one, now)

    async def _read_hours(
        self, connection: AsyncConnection, now: datetime, *, is_calm: bool
    ) -> Hours:
        """The complete hours; they change once an hour, unless a backlog is being read."""
        known = self._hours
        if known is None or known.end != staleness.hour_of(now) or not is_calm:
            rows = await outage_store.read_hours(connection, now, self._rules)
            known = staleness.hours_of(rows, now, self._rules)
        self._hours = known
        return known

    async def _keep_days(
        self, connection: AsyncConnection, hours: Hours, outage: Outage, now: datetime
    ) -> None:
        known = staleness.days_known(hours)
        until = outage.ended_at or now
        if outage.began_at.date().toordinal() > known[-1] or until.date().toordinal() < known[0]:
            return
        found = staleness.missing_days(hours, outage.source, outage.began_at, until, self._rules)
        days = found | {day for day in outage.missing_days if day not in known}
        if days != outage.missing_days:
            await outage_store.keep_days(connection, outage, days)

    async def _begin(
        self,
        connection: AsyncConnection,
        source: str,
        why: OutageCause,
        began_at: datetime,
        now: datetime,
        **details: int,
    ) -> None:
        if await outage_store.begin(connection, source=source, why=why, began_at=began_at, now=now):
            log.warning(
                "staleness.began", source=source or "all", why=why, since=began_at, **details
            )

    async def _end(self, connection: AsyncConnection, outage: Outage, now: datetime) -> None:
        if await outage_store.end(connection, outage, now):
            log.warning(
                "staleness.ended",
                source=outage.source or "all",
                why=outage.why,
                since=outage.began_at,
            )

    def _show(self, found: Freshness) -> None:
        self._metrics.show_stale(found.out, is_stale=found.is_stale)
