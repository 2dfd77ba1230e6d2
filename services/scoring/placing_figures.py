"""Scoring's SQL of what became of the events that name no account, by source."""

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.placing_figures import Fates, SourcePlacing
from shared.database import driver

_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_LONG: Final = timedelta(hours=1)
_NAMES: Final = tuple(one.name for one in fields(Fates))


async def read_sources(connection: AsyncConnection, now: datetime) -> list[SourcePlacing]:
    """Each source that sent such events in the last week, or has some that wait; by name.

    Counts are of whole hours: those that began within the span.
    """
    found = await driver(connection)
    ended = {row["source"]: row for row in await found.fetch(_ENDED, now - _WEEK, now - _DAY, now)}
    waiting = {row["source"]: row for row in await found.fetch(_WAITING, now - _LONG)}
    shown = []
    for source in sorted(ended.keys() | waiting.keys()):
        row, held = ended.get(source), waiting.get(source)
        shown.append(
            SourcePlacing(
                source=source,
                day=Fates(**{one: row[f"day_{one}"] for one in _NAMES} if row else {}),
                week=Fates(**{one: row[f"week_{one}"] for one in _NAMES} if row else {}),
                waiting=held["events"] if held else 0,
                waiting_long=held["long"] if held else 0,
                waiting_since=held["since"] if held else None,
            )
        )
    return shown


async def read_waiting(connection: AsyncConnection) -> tuple[int, datetime | None]:
    """How many events wait, and since when the oldest does; cheap, however many there are."""
    row = await (await driver(connection)).fetchrow(_OLDEST)
    return row["events"], row["since"]


# "full" is a word of SQL.
_ENDED: Final = (
    "SELECT source, "
    + ", ".join(
        f'sum("{one}")::bigint AS week_{one},'
        f' coalesce(sum("{one}") FILTER (WHERE hour > $2), 0)::bigint AS day_{one}'
        for one in _NAMES
    )
    + " FROM scoring.placing_hours WHERE hour > $1 AND hour <= $3 GROUP BY source"
)
_WAITING: Final = """
SELECT source, count(*) AS events, count(*) FILTER (WHERE waiting_since < $1) AS long,
    min(waiting_since) AS since
FROM scoring.waiting_events GROUP BY source
"""
# One look at the end of the index for each partition.
_OLDEST: Final = """
SELECT coalesce(sum(c.events), 0)::bigint AS events, min(o.since) AS since
FROM scoring.waiting_counts AS c LEFT JOIN LATERAL (
    SELECT w.waiting_since AS since FROM scoring.waiting_events AS w
    WHERE w.partition = c.partition ORDER BY w.waiting_since LIMIT 1
) AS o ON c.events > 0
"""
