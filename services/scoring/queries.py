"""Scoring's SQL of the read API: lists, one account, its days, the state of the work."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.people import Person, people
from services.scoring.domain.usage import KEPT_DAYS, History, usage_of
from services.scoring.store import shard_of
from shared.database import driver

MOST_FLAGS: Final = 100


_SCORE: Final = """
    s.state, s.short_history, s.risk, s.band, s.band_since, s.value_at_risk, s.currency,
    s.value_basis, s.as_of, s.columns, s.indicators, s.model_version, s.stage
"""


async def read_listed(connection: AsyncConnection, accounts: Sequence[str]) -> list[asyncpg.Record]:
    """What is stored of these accounts, in order; nothing of who was erased meanwhile."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        _LISTED, accounts, [shard_of(name) for name in accounts]
    )
    return rows


_LISTED: Final = f"""
SELECT n.account_id, a.fields::text AS fields, {_SCORE},
    ARRAY(SELECT f.reason FROM scoring.flags AS f WHERE f.account_id = n.account_id
        AND f.cleared_at IS NULL ORDER BY f.reason) AS flags
FROM unnest($1::text[], $2::smallint[]) WITH ORDINALITY AS n (account_id, shard, place)
LEFT JOIN scoring.accounts AS a USING (account_id)
LEFT JOIN scoring.scores AS s USING (shard, account_id)
WHERE a.account_id IS NOT NULL OR s.account_id IS NOT NULL
ORDER BY n.place
"""


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


async def read_way(connection: AsyncConnection, account: str) -> list[asyncpg.Record]:
    """The stages that the account has come to, the oldest first."""
    rows: list[asyncpg.Record] = await (await driver(connection)).fetch(
        "SELECT stage, since FROM scoring.account_stages WHERE account_id = $1 ORDER BY since",
        account,
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
    """How much is known, and what waits; for the demo, tests and operators.

    `events` is the running tally of intake: days of use are not summed up.
    """
    return await (await driver(connection)).fetchrow(
        "SELECT (SELECT coalesce(sum(events), 0)::bigint FROM scoring.taken_in) AS events,"
        " (SELECT count(*) FROM scoring.dirty) AS dirty,"
        " EXISTS (SELECT FROM scoring.dirty WHERE backfill) AS backfill_settling,"
        " (SELECT count(*) FROM scoring.outbox) AS outbox,"
        " b.accounts, b.bands, f.flags_open, f.flags,"
        " (SELECT coalesce(jsonb_agg(jsonb_build_object('source', source, 'why', why,"
        "  'began_at', began_at) ORDER BY began_at, source), '[]')::text FROM scoring.outages"
        "  WHERE ended_at IS NULL) AS stale"
        # One look at all scores, and one at all open flags, for both.
        " FROM (SELECT coalesce(sum(n), 0)::bigint AS accounts, coalesce(jsonb_object_agg(band, n)"
        "  FILTER (WHERE band IS NOT NULL), '{}')::text AS bands FROM (SELECT band, count(*) AS n"
        "  FROM scoring.scores GROUP BY band) AS c) AS b,"
        " (SELECT coalesce(sum(n), 0)::bigint AS flags_open, coalesce(jsonb_object_agg(reason, n),"
        "  '{}')::text AS flags FROM (SELECT reason, count(*) AS n FROM scoring.flags"
        "  WHERE cleared_at IS NULL GROUP BY reason) AS r) AS f"
    )
