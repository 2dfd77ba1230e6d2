"""Scoring's SQL of the monthly insights: a shard's accounts as numbers, and the documents."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.insight_document import Document
from services.scoring.domain.table import columns_hash
from services.scoring.domain.usage import KEPT_DAYS, SignalKind
from shared.database import driver

_SECONDS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the directory says of an account; a loss without a date is of the day it was told."""

    segment: str | None
    is_trial: bool
    contract_start: date | None
    lost_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What an account did in some days."""

    days: int
    users: int
    features: int
    milliseconds: int


async def read_first_days(connected: asyncpg.Connection, shard: int, end: date) -> dict[str, date]:
    """The first active day of each account that was active in the days that are kept."""
    rows = await connected.fetch(_FIRST_DAYS, shard, end, KEPT_DAYS, timeout=_SECONDS)
    return {row["account_id"]: row["first"] for row in rows}


_FIRST_DAYS: Final = """
SELECT d.account_id, least(d.first, p.first_day) AS first
FROM (SELECT account_id, min(day) AS first FROM scoring.account_day
    WHERE shard = $1 AND day >= $2::date - $3::int AND day < $2::date GROUP BY account_id) AS d
LEFT JOIN scoring.account_past AS p ON p.shard = $1 AND p.account_id = d.account_id
ORDER BY d.account_id
"""


async def read_records(
    connected: asyncpg.Connection, accounts: Collection[str], end: datetime
) -> dict[str, Record]:
    """What the directory says: the segment as of `end`, losses and contracts as is known by now."""
    rows = await connected.fetch(_RECORDS, list(accounts), end, timeout=_SECONDS)
    return {
        row["account_id"]: Record(
            segment=row["segment"] or None,
            is_trial=row["status"] == "trial",
            contract_start=row["contract_start"],
            lost_on=row["churned_at"]
            or (row["lost_since"].date() if row["status"] == "churned" else None),
        )
        for row in rows
    }


_RECORDS: Final = """
SELECT n.account_id, v.segment, now.status, now.contract_start, now.churned_at,
    (SELECT min(o.since) FROM scoring.account_versions AS o
        WHERE o.account_id = n.account_id AND o.status = 'churned') AS lost_since
FROM unnest($1::text[]) AS n (account_id),
LATERAL (SELECT segment FROM scoring.account_versions AS o WHERE o.account_id = n.account_id
    ORDER BY o.since < $2 DESC, abs(extract(epoch FROM o.since - $2)) LIMIT 1) AS v,
LATERAL (SELECT status, contract_start, churned_at FROM scoring.account_versions AS o
    WHERE o.account_id = n.account_id ORDER BY o.since DESC LIMIT 1) AS now
"""


async def read_use(
    connected: asyncpg.Connection, shard: int, first: date, end: date
) -> dict[str, Use]:
    """What each account of the shard that was active did from `first` until before `end`."""
    rows = await connected.fetch(_USE, shard, first, end, timeout=_SECONDS)
    return {
        row["account_id"]: Use(
            days=row["days"],
            users=row["users"],
            features=row["features"],
            milliseconds=row["milliseconds"],
        )
        for row in rows
    }


_USE: Final = """
WITH d AS MATERIALIZED (SELECT account_id, milliseconds, users, features FROM scoring.account_day
    WHERE shard = $1 AND day >= $2 AND day < $3)
SELECT account_id, days, milliseconds, coalesce(u.count, 0) AS users,
    coalesce(f.count, 0) AS features
FROM (SELECT account_id, count(*) AS days, sum(milliseconds)::bigint AS milliseconds
    FROM d GROUP BY account_id) AS a
LEFT JOIN (SELECT account_id, count(DISTINCT u) FROM d, unnest(users) AS u
    GROUP BY account_id) AS u USING (account_id)
LEFT JOIN (SELECT account_id, count(DISTINCT f) FROM d, unnest(features) AS f
    GROUP BY account_id) AS f USING (account_id)
"""


async def read_first_uses(
    connected: asyncpg.Connection, shard: int, starts: Mapping[str, date], days: int
) -> list[tuple[str, str, int]]:
    """Account, feature and the day of the account's life (from 0) on which it was used first."""
    rows = await connected.fetch(
        _FIRST_USES, shard, list(starts), list(starts.values()), days, timeout=_SECONDS
    )
    return [(row["account_id"], row["feature"], row["day"]) for row in rows]


_FIRST_USES: Final = """
SELECT n.account_id, feature, min(d.day) - n.start AS day
FROM unnest($2::text[], $3::date[]) AS n (account_id, start),
LATERAL (SELECT a.day, a.features FROM scoring.account_day AS a WHERE a.shard = $1
    AND a.account_id = n.account_id AND a.day >= n.start AND a.day < n.start + $4::int
    OFFSET 0) AS d,
unnest(d.features) AS feature GROUP BY n.account_id, n.start, feature
"""


async def read_third_days(
    connected: asyncpg.Connection, shard: int, starts: Mapping[str, date], end: date
) -> dict[str, date]:
    """The third active day of each account that has had one by the `end`."""
    rows = await connected.fetch(
        _THIRD_DAYS, shard, list(starts), list(starts.values()), end, timeout=_SECONDS
    )
    return {row["account_id"]: row["day"] for row in rows}


_THIRD_DAYS: Final = """
SELECT n.account_id, d.day FROM unnest($2::text[], $3::date[]) AS n (account_id, start),
LATERAL (SELECT a.day FROM scoring.account_day AS a WHERE a.shard = $1
    AND a.account_id = n.account_id AND a.day >= n.start AND a.day < $4
    ORDER BY a.day OFFSET 2 LIMIT 1) AS d
"""


async def read_milestones(
    connected: asyncpg.Connection, shard: int, end: datetime
) -> dict[str, date]:
    """The day of each account's first milestone, if it was before the `end`."""
    rows = await connected.fetch(
        "SELECT account_id, min(occurred_at) AS at FROM scoring.signals"
        " WHERE shard = $1 AND kind = $2 AND occurred_at < $3 GROUP BY account_id",
        shard,
        int(SignalKind.MILESTONE),
        end,
        timeout=_SECONDS,
    )
    return {row["account_id"]: row["at"].date() for row in rows}


async def read_indicators(
    connected: asyncpg.Connection, moments: Mapping[str, date]
) -> dict[str, bytes]:
    """Of each account its last weekly row, at most a week older than its moment, packed."""
    rows = await connected.fetch(
        _INDICATORS, list(moments), list(moments.values()), columns_hash(), timeout=_SECONDS
    )
    return {row["account_id"]: row["indicators"] for row in rows}


_INDICATORS: Final = """
SELECT n.account_id, r.indicators FROM unnest($1::text[], $2::date[]) AS n (account_id, day),
LATERAL (SELECT f.indicators FROM scoring.feature_rows AS f WHERE f.account_id = n.account_id
    AND f.as_of > (n.day - 7)::timestamp AT TIME ZONE 'UTC'
    AND f.as_of <= n.day::timestamp AT TIME ZONE 'UTC' AND f.kind = 'weekly' AND f.columns = $3
    ORDER BY f.as_of DESC LIMIT 1) AS r
"""


async def save(
    connection: AsyncConnection, month: date, document: Document, made_at: datetime
) -> bool:
    """Whether it was stored: a month's document that is there stays as it is."""
    status = await (await driver(connection)).execute(
        "INSERT INTO scoring.insights (month, document, made_at) VALUES ($1, $2::jsonb, $3)"
        " ON CONFLICT DO NOTHING",
        month,
        msgspec.json.encode(document).decode(),
        made_at,
    )
    return str(status).endswith(" 1")


async def read(connection: AsyncConnection, month: date | None = None) -> Document | None:
    """The month's document, or the newest; raises `msgspec.ValidationError` if it is not ours."""
    found = await (await driver(connection)).fetchval(
        "SELECT document::text FROM scoring.insights WHERE $1::date IS NULL OR month = $1"
        " ORDER BY month DESC LIMIT 1",
        month,
    )
    return None if found is None else msgspec.json.decode(found, type=Document)


async def read_months(connection: AsyncConnection) -> Sequence[date]:
    """The months of which there is a document, the newest first."""
    rows = await (await driver(connection)).fetch(
        "SELECT month FROM scoring.insights ORDER BY month DESC"
    )
    return [row["month"] for row in rows]
