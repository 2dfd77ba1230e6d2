"""Scoring's SQL of the read API: lists by keyset, one account, its days, the state of the work."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database import driver
from shared.messages import Band


class Sort(StrEnum):
    """What a list is sorted by; risk and value go down, the account's id breaks ties."""

    RISK = "risk"
    VALUE_AT_RISK = "value_at_risk"
    ACCOUNT = "account_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """Where the last page ended."""

    value: str | None
    account: str


_LISTED: Final = """
SELECT s.account_id, a.fields::text AS fields, s.state, s.short_history, s.risk, s.band,
    s.value_at_risk, s.currency, s.value_basis, s.as_of, s.reasons::text AS reasons,
    s.sort_risk, s.sort_value,
    ARRAY(SELECT f.reason FROM scoring.flags AS f WHERE f.account_id = s.account_id
        AND f.cleared_at IS NULL ORDER BY f.reason) AS flags
FROM scoring.scores AS s LEFT JOIN scoring.accounts AS a USING (account_id)
WHERE ($1::text IS NULL OR s.band = $1)
"""
_ORDERS: Final = {
    Sort.RISK: (
        "AND ($3::text IS NULL OR s.sort_risk < $2::float8"
        " OR (s.sort_risk = $2::float8 AND s.account_id > $3))"
        " ORDER BY s.sort_risk DESC, s.account_id LIMIT $4"
    ),
    Sort.VALUE_AT_RISK: (
        "AND ($3::text IS NULL OR s.sort_value < $2::text::numeric"
        " OR (s.sort_value = $2::text::numeric AND s.account_id > $3))"
        " ORDER BY s.sort_value DESC, s.account_id LIMIT $4"
    ),
    Sort.ACCOUNT: (
        "AND ($3::text IS NULL OR s.account_id > $3) AND ($2::text IS NULL OR true)"
        " ORDER BY s.account_id LIMIT $4"
    ),
}


async def list_accounts(
    connection: AsyncConnection, *, band: Band | None, sort: Sort, after: After | None, limit: int
) -> list[asyncpg.Record]:
    """One page and one row more where there is a next page."""
    value: str | float | None = after.value if after else None
    if sort is Sort.RISK and value is not None:
        value = float(value)
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        _LISTED + _ORDERS[sort], band, value, after.account if after else None, limit + 1
    )
    return rows


async def read_account(connection: AsyncConnection, account: str) -> asyncpg.Record | None:
    """The directory's and the score's row of one account; None where both are unknown."""
    row: asyncpg.Record | None = await (await driver(connection)).fetchrow(
        "SELECT n.account_id, a.fields::text AS fields, s.state, s.short_history, s.risk, s.band,"
        " s.value_at_risk, s.currency, s.value_basis, s.as_of, s.reasons::text AS reasons,"
        " s.indicators::text AS indicators, s.model_version"
        " FROM (SELECT $1::text AS account_id) AS n"
        " LEFT JOIN scoring.accounts AS a USING (account_id)"
        " LEFT JOIN scoring.scores AS s USING (account_id)"
        " WHERE a.account_id IS NOT NULL OR s.account_id IS NOT NULL",
        account,
    )
    return row


async def read_flags(connection: AsyncConnection, account: str) -> list[asyncpg.Record]:
    """All episodes of the account's flags, the newest first."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT reason, stage, episode, raised_at, cleared_at, summary FROM scoring.flags"
        " WHERE account_id = $1 ORDER BY raised_at DESC, reason LIMIT 100",
        account,
    )
    return rows


async def read_days(
    connection: AsyncConnection, account: str, first: date, last: date
) -> list[asyncpg.Record]:
    """The active days of an account from `first` to `last`, both included."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT day, events, cardinality(users) AS active_users, milliseconds"
        " FROM scoring.account_day WHERE account_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day",
        account,
        first,
        last,
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
        "  FROM scoring.scores WHERE band IS NOT NULL GROUP BY band) AS b) AS bands"
    )
