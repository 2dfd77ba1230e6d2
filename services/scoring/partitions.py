"""Partitions of `seen_events`: small ones for the days that events come in, large ones for history.

A day is covered by exactly one partition for as long as its ids are kept, so a retry always meets
the id of the first try. Near days get a partition of their own, dropped whole after the retention;
a backfilled past gets one per calendar year, which an operator drops by hand. The database's own
functions make and drop them: the service owns no table.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_DAYS_AHEAD = 7
_MOST_AHEAD = 400
_LOCK = "pg_advisory_xact_lock(hashtext('scoring.partitions'))"
_BOUNDS = re.compile(r"FROM \('(\d{4}-\d\d-\d\d)'\) TO \('(\d{4}-\d\d-\d\d)'\)")
_ONE_DAY = timedelta(days=1)
_ADD = text("SELECT scoring.add_seen_events_partition(:start, :end)")
_DROP = text("SELECT scoring.drop_seen_events_partition(:day)")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The days of one partition: `start` included, `end` not."""

    start: date
    end: date

    def holds(self, day: date) -> bool:
        return self.start <= day < self.end


class Partitions:
    """The partitions known to this process; asks the database only about days it does not know."""

    def __init__(self, engine: AsyncEngine, *, kept: timedelta) -> None:
        self._engine = engine
        self.kept = kept
        self._known: set[date] = set()

    async def ensure(self, days: Collection[date], *, today: date) -> None:
        """Make sure that each of the days has a partition; a transaction of its own."""
        missing = set(days) - self._known
        if not missing:
            return
        async with self._engine.begin() as connection:
            # Creating locks the whole table: alone, briefly, and never inside an intake.
            await connection.execute(text(f"SELECT {_LOCK}"))
            spans = await _read(connection)
            for day in sorted(missing):
                if not any(span.holds(day) for span in spans):
                    span = span_for(day, spans, today=today, kept=self.kept)
                    await connection.execute(_ADD, {"start": span.start, "end": span.end})
                    spans.append(span)
        self._known |= missing

    async def maintain(self, *, today: date) -> int:
        """Create the days ahead, drop single days past the retention; says how many it dropped."""
        await self.ensure(
            [today + timedelta(days=ahead) for ahead in range(_DAYS_AHEAD + 1)], today=today
        )
        async with self._engine.begin() as connection:
            await connection.execute(text(f"SELECT {_LOCK}"))
            past = [
                span
                for span in await _read(connection)
                if span.end - span.start == _ONE_DAY and span.end <= today - self.kept
            ]
            for span in past:
                await connection.execute(_DROP, {"day": span.start})
        self._known -= {span.start for span in past}
        return len(past)


async def days_ahead(connection: AsyncConnection, now: datetime) -> int:
    """How many days from today on, without a gap, have a partition."""
    spans, day = await _read(connection), now.astimezone(UTC).date()
    ahead = 0
    while ahead <= _MOST_AHEAD and any(span.holds(day) for span in spans):
        day += _ONE_DAY
        ahead += 1
    return ahead


def span_for(day: date, spans: Iterable[Span], *, today: date, kept: timedelta) -> Span:
    """The partition to create for a day that none of `spans` holds."""
    # Half the retention: a day partition is never created shortly before it would be dropped.
    if day > today - kept / 2:
        return Span(day, day + _ONE_DAY)
    start, end = date(day.year, 1, 1), date(day.year + 1, 1, 1)
    for span in spans:
        if span.end <= day:
            start = max(start, span.end)
        else:
            end = min(end, span.start)
    return Span(start, end)


async def _read(connection: AsyncConnection) -> list[Span]:
    rows = await connection.execute(
        text(
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'scoring.seen_events'::regclass"
        )
    )
    return [
        Span(date.fromisoformat(match[1]), date.fromisoformat(match[2]))
        for (bounds,) in rows
        if (match := _BOUNDS.search(bounds))
    ]
