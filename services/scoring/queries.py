"""Scoring's SQL of the read API: lists by keyset, one account, its days, the state of the work."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.people import Person, people
from services.scoring.domain.usage import KEPT_DAYS, History, usage_of
from services.scoring.store import SHARDS, shard_of
from shared.database import driver
from shared.messages import Band

MOST_FLAGS: Final = 100


class Sort(StrEnum):
    """What a list is sorted by; risk and value go down, the account's id breaks ties."""

    RISK = "risk"
    VALUE_AT_RISK = "value_at_risk"
    ACCOUNT = "account_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """Where the last page ended; `value` None: among accounts that have none."""

    value: str | None
    account: str


_SCORE: Final = """
    s.state, s.short_history, s.risk, s.band, s.band_since, s.value_at_risk, s.currency,
    s.value_basis, s.as_of, s.columns, s.indicators, s.model_version, s.sort_risk
"""
# What is listed is found first, among all by one index, or first in parts that are merged: an index
# for each list would cost every sweep. Parameters: band or NULL, where the last page ended, limit.
_LISTED: Final = f"""
SELECT s.account_id, a.fields::text AS fields, {_SCORE},
    ARRAY(SELECT f.reason FROM scoring.flags AS f WHERE f.account_id = s.account_id
        AND f.cleared_at IS NULL ORDER BY f.reason) AS flags
FROM ({{found}}) AS s LEFT JOIN scoring.accounts AS a USING (account_id) ORDER BY {{order}}
"""
_BY_RISK: Final = "s.sort_risk DESC, s.account_id"
_BY_VALUE: Final = "s.value_at_risk DESC, s.account_id"


def _of_band(condition: str) -> str:
    # By band too, which is the same in all rows: it names the index's order, also where it is NULL.
    return f"""
(SELECT s.* FROM scoring.scores AS s WHERE {condition}
    AND ($3::text IS NULL OR (s.sort_risk <= $2::float8
        AND (s.sort_risk < $2::float8 OR s.account_id > $3)))
    ORDER BY s.band, {_BY_RISK} LIMIT $4)
"""


_OF_ALL_BANDS: Final = " UNION ALL ".join(
    [
        _of_band("$1::text IS NULL AND s.band IS NULL"),
        *(_of_band(f"($1::text IS NULL OR $1 = '{band}') AND s.band = '{band}'") for band in Band),
    ]
)
_OF_RISK: Final = f"SELECT s.* FROM ({_OF_ALL_BANDS}) AS s ORDER BY {_BY_RISK} LIMIT $4"
_WITH_VALUE: Final = f"""
SELECT s.* FROM scoring.scores AS s WHERE s.value_at_risk IS NOT NULL
    AND ($1::text IS NULL OR s.band = $1)
    AND ($3::text IS NULL OR (s.value_at_risk <= $2::text::numeric
        AND (s.value_at_risk < $2::text::numeric OR s.account_id > $3)))
    ORDER BY {_BY_VALUE} LIMIT $4
"""


def _by_account(condition: str) -> str:
    """The first ones of each shard, merged."""
    return f"""
SELECT s.* FROM generate_series(0, {SHARDS - 1}) AS g (shard), LATERAL (
    SELECT o.* FROM scoring.scores AS o
    WHERE o.shard = g.shard AND ($3::text IS NULL OR o.account_id > $3)
        AND ($1::text IS NULL OR o.band = $1) AND ($2::text IS NULL OR true) AND {condition}
    ORDER BY o.account_id LIMIT $4
) AS s ORDER BY s.account_id LIMIT $4
"""


_OF_ACCOUNT: Final = _LISTED.format(found=_by_account("true"), order="s.account_id")
_OF_RISK_LISTED: Final = _LISTED.format(found=_OF_RISK, order=_BY_RISK)
_VALUE_LISTED: Final = _LISTED.format(found=_WITH_VALUE, order=_BY_VALUE)
_NO_VALUE_LISTED: Final = _LISTED.format(
    found=_by_account("o.value_at_risk IS NULL"), order="s.account_id"
)


async def list_accounts(
    connection: AsyncConnection, *, band: Band | None, sort: Sort, after: After | None, limit: int
) -> list[asyncpg.Record]:
    """One page and one row more where there is a next page."""
    connected = await driver(connection)
    rows: list[asyncpg.Record]
    value, account = (after.value, after.account) if after else (None, None)
    match sort:
        case Sort.ACCOUNT:
            rows = await connected.fetch(_OF_ACCOUNT, band, value, account, limit + 1)
        case Sort.RISK:
            risk = None if value is None else float(value)
            rows = await connected.fetch(_OF_RISK_LISTED, band, risk, account, limit + 1)
        case Sort.VALUE_AT_RISK:
            rows = await _by_value(connected, band, value, account, limit + 1)
    return rows


async def _by_value(
    connected: asyncpg.Connection,
    band: Band | None,
    value: str | None,
    account: str | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Who has a value at risk, then who has none."""
    rows: list[asyncpg.Record] = []
    if value is not None or account is None:
        rows = await connected.fetch(_VALUE_LISTED, band, value, account, limit)
        account = None
    if len(rows) < limit:
        rows += await connected.fetch(_NO_VALUE_LISTED, band, None, account, limit - len(rows))
    return rows


async def read_account(connection: AsyncConnection, account: str) -> asyncpg.Record | None:
    """The directory's and the score's row of one account; None where both are unknown."""
    row: asyncpg.Record | None = await (await driver(connection)).fetchrow(
        f"SELECT n.account_id, a.fields::text AS fields, {_SCORE}"
        " FROM (SELECT $1::text AS account_id, $2::smallint AS shard) AS n"
        " LEFT JOIN scoring.accounts AS a USING (account_id)"
        " LEFT JOIN scoring.scores AS s USING (shard, account_id)"
        " WHERE a.account_id IS NOT NULL OR s.account_id IS NOT NULL",
        account,
        shard_of(account),
    )
    return row


async def read_flags(connection: AsyncConnection, account: str) -> list[asyncpg.Record]:
    """The episodes of the account's flags, the newest first."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT flag_id, reason, stage, episode, raised_at, updated_at, cleared_at, band, risk,"
        " summary, why, evidence::text AS evidence, told_at IS NULL AND held_at IS NOT NULL AS held"
        " FROM scoring.flags WHERE account_id = $1 ORDER BY raised_at DESC, reason LIMIT $2",
        account,
        MOST_FLAGS,
    )
    return rows


async def read_waiting(connection: AsyncConnection, account: str) -> list[asyncpg.Record]:
    """Rules whose condition to raise or to clear holds, but not for long enough yet."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT reason, raised_at IS NOT NULL AS is_raised,"
        " CASE WHEN raised_at IS NULL THEN wanted_since ELSE over_since END AS since"
        " FROM scoring.flag_states WHERE account_id = $1"
        " AND CASE WHEN raised_at IS NULL THEN wanted_since ELSE over_since END IS NOT NULL"
        " ORDER BY reason",
        account,
    )
    return rows


async def read_history(
    connection: AsyncConnection, account: str, first: datetime, last: datetime, limit: int
) -> list[asyncpg.Record]:
    """What was logged of the account's risk from `first` to `last`, in order of time."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT as_of, kind, risk, band, model_version FROM scoring.feature_rows"
        " WHERE account_id = $1 AND as_of BETWEEN $2 AND $3 AND kind <> 'recomputed'"
        " ORDER BY as_of DESC LIMIT $4",
        account,
        first,
        last,
        limit,
    )
    return rows[::-1]


async def read_days(
    connection: AsyncConnection, account: str, first: date, last: date
) -> list[asyncpg.Record]:
    """The active days of an account from `first` to `last`, both included."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT day, events, cardinality(users) AS active_users, milliseconds"
        " FROM scoring.account_day WHERE shard = $4 AND account_id = $1 AND day BETWEEN $2 AND $3"
        " ORDER BY day",
        account,
        first,
        last,
        shard_of(account),
    )
    return rows


async def read_people(connection: AsyncConnection, account: str, as_of: date) -> tuple[Person, ...]:
    """The account's users as of day `as_of`."""
    rows = await (await driver(connection)).fetch(
        "SELECT day, users FROM scoring.account_day"
        " WHERE shard = $1 AND account_id = $2 AND day BETWEEN $3 AND $4 ORDER BY day",
        shard_of(account),
        account,
        as_of - timedelta(days=KEPT_DAYS - 1),
        as_of,
    )
    days = History(
        days=[row["day"].toordinal() for row in rows],
        events=[1] * len(rows),
        milliseconds=[0] * len(rows),
        users=[row["users"] for row in rows],
        features=[()] * len(rows),
    )
    return people(usage_of([days]), 0, as_of)


async def read_health(connection: AsyncConnection, version: str) -> list[asyncpg.Record]:
    """What each look at a model in service found, in order of time."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT looked_at, findings::text AS findings FROM scoring.model_health"
        " WHERE version = $1 ORDER BY looked_at",
        version,
    )
    return rows


async def read_status(connection: AsyncConnection) -> asyncpg.Record:
    """How much is known, and what waits; for the demo, tests and operators."""
    return await (await driver(connection)).fetchrow(
        "SELECT (SELECT coalesce(sum(events), 0)::bigint FROM scoring.account_day) AS events,"
        " (SELECT count(*) FROM scoring.dirty) AS dirty,"
        " EXISTS (SELECT FROM scoring.dirty WHERE backfill) AS backfill_settling,"
        " (SELECT count(*) FROM scoring.scores) AS accounts,"
        " (SELECT count(*) FROM scoring.flags WHERE cleared_at IS NULL) AS flags_open,"
        " (SELECT count(*) FROM scoring.outbox) AS outbox,"
        " (SELECT coalesce(jsonb_object_agg(band, n), '{}')::text FROM (SELECT band, count(*) AS n"
        "  FROM scoring.scores WHERE band IS NOT NULL GROUP BY band) AS b) AS bands,"
        " (SELECT coalesce(jsonb_object_agg(reason, n), '{}')::text FROM (SELECT reason,"
        "  count(*) AS n FROM scoring.flags WHERE cleared_at IS NULL GROUP BY reason) AS r)"
        "  AS flags,"
        " (SELECT coalesce(jsonb_agg(jsonb_build_object('source', source, 'why', why,"
        "  'began_at', began_at) ORDER BY began_at, source), '[]')::text FROM scoring.outages"
        "  WHERE ended_at IS NULL) AS stale"
    )
