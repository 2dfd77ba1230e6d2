"""Scoring's SQL of outages: what each source sent per hour, what was missing, and our own pulse."""

from collections.abc import Collection
from datetime import date, datetime, timedelta

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.rules import Staleness
from services.scoring.domain.staleness import Outage, OutageCause, hours_read
from services.scoring.domain.usage import code_of
from shared.database import driver


async def take_lead(connection: AsyncConnection) -> bool:
    """Whether this transaction may write outages; another replica may be at it."""
    found = await (await driver(connection)).fetchval(
        "SELECT pg_try_advisory_xact_lock(hashtext('scoring.outages'))"
    )
    return bool(found)


async def read_hours(
    connection: AsyncConnection, now: datetime, rules: Staleness
) -> list[tuple[str, int, int]]:
    """Source, hour since the epoch and events."""
    rows = await (await driver(connection)).fetch(
        "SELECT source, extract(epoch FROM hour)::bigint / 3600, sum(events)::bigint"
        " FROM scoring.source_hours WHERE hour >= $1 AND hour <= $2 GROUP BY source, hour",
        now - timedelta(hours=hours_read(rules) + 1),
        now,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def read_outages(connection: AsyncConnection) -> list[Outage]:
    rows = await (await driver(connection)).fetch("SELECT * FROM scoring.outages ORDER BY id")
    return [_outage(row) for row in rows]


async def begin(
    connection: AsyncConnection, *, source: str, why: OutageCause, began_at: datetime, now: datetime
) -> bool:
    """Note an outage, or that it goes on; whether it is new."""
    found = await (await driver(connection)).fetchval(_BEGIN, source, why, began_at, now)
    return bool(found)


# An update has a row version with xmax set: 0 tells an insert.
_BEGIN = """
INSERT INTO scoring.outages AS o (source, why, began_at, noticed_at, seen_at, missing_days)
VALUES ($1, $2, $3, $4, $4, '{}')
ON CONFLICT (source, why) WHERE ended_at IS NULL
    DO UPDATE SET seen_at = greatest(o.seen_at, EXCLUDED.seen_at)
RETURNING xmax = 0
"""


async def end(connection: AsyncConnection, outage: Outage, ended_at: datetime) -> bool:
    """Whether it was still open."""
    result = await (await driver(connection)).execute(
        "UPDATE scoring.outages SET ended_at = greatest(began_at, $2)"
        " WHERE id = $1 AND ended_at IS NULL",
        outage.id,
        ended_at,
    )
    return bool(result == "UPDATE 1")


async def keep_days(connection: AsyncConnection, outage: Outage, days: Collection[int]) -> None:
    """Remember which days (ordinals) are missing: the hours that tell are soon forgotten."""
    await (await driver(connection)).execute(
        "UPDATE scoring.outages SET missing_days = $2 WHERE id = $1",
        outage.id,
        [date.fromordinal(day) for day in sorted(days)],
    )


async def note_gap(connection: AsyncConnection, began_at: datetime, ended_at: datetime) -> None:
    """Scoring itself was not at work: an outage of all sources that is over."""
    await (await driver(connection)).execute(
        "INSERT INTO scoring.outages"
        " (source, why, began_at, noticed_at, seen_at, ended_at, missing_days)"
        " VALUES ('', $3, $1, $2, $2, $2, '{}')",
        began_at,
        ended_at,
        OutageCause.DOWN,
    )


async def beat(connection: AsyncConnection, now: datetime) -> datetime | None:
    """Note that scoring is at work; says when that was last noted, None: never."""
    found: datetime | None = await (await driver(connection)).fetchval(_BEAT, now)
    return found


_BEAT = """
WITH before AS (SELECT at FROM scoring.pulse WHERE name = 'sweep' FOR UPDATE), noted AS (
    INSERT INTO scoring.pulse AS p (name, at) VALUES ('sweep', $1)
    ON CONFLICT (name) DO UPDATE SET at = greatest(p.at, EXCLUDED.at)
)
SELECT at FROM before
"""


async def forget_hours(connection: AsyncConnection, now: datetime, rules: Staleness) -> int:
    """Delete what no baseline needs any more; how many rows."""
    result = await (await driver(connection)).execute(
        "DELETE FROM scoring.source_hours WHERE hour < $1",
        now - timedelta(hours=hours_read(rules)),
    )
    return int(result.split()[-1])


def _outage(row: asyncpg.Record) -> Outage:
    return Outage(
        id=row["id"],
        source=row["source"],
        code=code_of(row["source"]),
        began_at=row["began_at"],
        ended_at=row["ended_at"],
        seen_at=row["seen_at"],
        why=OutageCause(row["why"]),
        missing_days=frozenset(day.toordinal() for day in row["missing_days"]),
    )
