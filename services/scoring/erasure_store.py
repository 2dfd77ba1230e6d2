"""Scoring's SQL of erasures: what was erased, and deleting what is held of it.

Intake of events holds the lock of erasures shared, an erasure holds it alone: no event that was
read before an erasure can be written after it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.directory import Erasures
from services.scoring.store import SHARDS, shard_of
from shared.database import driver

_LOCK = "hashtext('scoring.erasures')"
_ONE_DAY = timedelta(days=1)


async def hold_off_erasures(connection: AsyncConnection) -> None:
    """Until the transaction ends nothing is erased."""
    await connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})"))


async def hold_off_events(connection: AsyncConnection) -> None:
    """Until the transaction ends no event is taken in; waits for those that are."""
    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


async def hold_off_sweeps(connection: AsyncConnection, accounts: Collection[str]) -> None:
    """Until the transaction ends none of the accounts is scored; waits for what is being scored."""
    # A large shard takes seconds, more than our transactions wait for each other else.
    await connection.execute(text("SET LOCAL lock_timeout = '25s'"))
    for shard in sorted({shard_of(account) for account in accounts}):
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtext('scoring.sweep'), :shard)"),
            {"shard": shard},
        )


async def is_anything_erased(connection: AsyncConnection) -> bool:
    """Whether there is an account or a person to look for; asked after `hold_off_erasures`."""
    return bool(
        await (await driver(connection)).fetchval(
            "SELECT EXISTS (SELECT FROM scoring.erased_accounts)"
            " OR EXISTS (SELECT FROM scoring.erased_users)"
        )
    )


async def read_erased_accounts(
    connection: AsyncConnection, accounts: Collection[str]
) -> dict[str, datetime]:
    rows = await (await driver(connection)).fetch(
        "SELECT account_id, erased_at FROM scoring.erased_accounts"
        " WHERE account_id = ANY($1::text[])",
        list(accounts),
    )
    return {row[0]: row[1] for row in rows}


async def read_erasures(
    connection: AsyncConnection, accounts: Collection[str], users: Collection[int]
) -> Erasures:
    """What was erased of these accounts and of these users' keys."""
    rows = await (await driver(connection)).fetch(
        "SELECT account_id, user_key FROM scoring.erased_users WHERE user_key = ANY($1::bigint[])",
        list(users),
    )
    return Erasures(
        accounts=await read_erased_accounts(connection, accounts),
        users={(row[0], row[1]) for row in rows},
    )


async def erase_accounts(
    connection: AsyncConnection, erased: Mapping[str, datetime]
) -> tuple[Sequence[asyncpg.Record], Sequence[str]]:
    """Delete what is held of the accounts, and remember until when.

    Returns the rows of the open flags that somebody has heard of, and the accounts of which days or
    signals remain: of events received later. The ids of counted events stay until their retention
    ends.
    """
    connected = await driver(connection)
    names, moments = list(erased), list(erased.values())
    await connected.execute(_REMEMBER_ACCOUNTS, names, moments)
    shards = [shard_of(name) for name in names]
    await connected.execute(_DELETE_DAYS, names, moments, shards)
    await connected.execute(_DELETE_SIGNALS, names, moments, shards)
    for table in ("account_past", "scores", "dirty", "flag_states"):
        await connected.execute(
            f"DELETE FROM scoring.{table}"
            " WHERE shard = ANY($2::smallint[]) AND account_id = ANY($1::text[])",
            names,
            shards,
        )
    for table in (
        "accounts",
        "account_versions",
        "account_stages",
        "account_features",
        "feature_rows",
        "outcomes",
    ):
        await connected.execute(
            f"DELETE FROM scoring.{table} WHERE account_id = ANY($1::text[])",
            names,
        )
    deleted = await connected.fetch(_DELETE_FLAGS, names)
    remaining = await connected.fetch(
        "SELECT account_id FROM unnest($1::text[], $2::smallint[]) AS n (account_id, shard)"
        " WHERE EXISTS (SELECT FROM scoring.account_day AS d"
        "   WHERE d.shard = n.shard AND d.account_id = n.account_id)"
        " OR EXISTS (SELECT FROM scoring.signals AS s"
        "   WHERE s.shard = n.shard AND s.account_id = n.account_id)"
        " ORDER BY account_id",
        names,
        shards,
    )
    # Of a flag that nobody has heard of, nobody need hear that it is cleared.
    told = [row for row in deleted if row["cleared_at"] is None and row["told_at"] is not None]
    return told, [row[0] for row in remaining]


_REMEMBER_ACCOUNTS = """
INSERT INTO scoring.erased_accounts AS e (account_id, erased_at)
SELECT * FROM unnest($1::text[], $2::timestamptz[])
ON CONFLICT (account_id) DO UPDATE SET erased_at = greatest(e.erased_at, EXCLUDED.erased_at)
"""
# A day with events from before and after goes as a whole: what it holds of each is not known.
_DELETE_DAYS = """
DELETE FROM scoring.account_day AS d
USING unnest($1::text[], $2::timestamptz[], $3::smallint[]) AS n (account_id, erased_at, shard)
WHERE d.shard = n.shard AND d.account_id = n.account_id AND d.first_received_at <= n.erased_at
"""
_DELETE_SIGNALS = """
DELETE FROM scoring.signals AS s
USING unnest($1::text[], $2::timestamptz[], $3::smallint[]) AS n (account_id, erased_at, shard)
WHERE s.shard = n.shard AND s.account_id = n.account_id AND s.received_at <= n.erased_at
"""
_DELETE_FLAGS = """
DELETE FROM scoring.flags WHERE account_id = ANY($1::text[])
RETURNING account_id, reason, episode, flag_id, stage, raised_at, updated_at, cleared_at,
    told_at
"""


async def remember_users(
    connection: AsyncConnection, users: Collection[tuple[str, int]], *, erased_at: datetime
) -> None:
    """From now on these people's events count without them; an empty account means all."""
    ordered = sorted(users)
    await (await driver(connection)).execute(
        "INSERT INTO scoring.erased_users (account_id, user_key, erased_at)"
        " SELECT account_id, user_key, $3::timestamptz"
        " FROM unnest($1::text[], $2::bigint[]) AS n (account_id, user_key)"
        " ON CONFLICT DO NOTHING",
        [account for account, _ in ordered],
        [key for _, key in ordered],
        erased_at,
    )


async def days_held(connection: AsyncConnection) -> Sequence[date]:
    """All days between the first and the last bucket."""
    row = await (await driver(connection)).fetchrow(
        "SELECT min(first), max(last) FROM generate_series(0, $1::int) AS shards (number),"
        " LATERAL (SELECT min(day) AS first, max(day) AS last FROM scoring.account_day"
        "   WHERE shard = number) AS days",
        SHARDS - 1,
    )
    first, last = row
    if first is None:
        return ()
    return [first + _ONE_DAY * number for number in range((last - first).days + 1)]


async def forget_users_of_account(
    connection: AsyncConnection, account: str, keys: Collection[int]
) -> set[str]:
    """Take the people out of the account's buckets and signals; the account where there was one."""
    wanted = {"keys": list(keys), "shard": shard_of(account), "account": account}
    where = "shard = :shard AND account_id = :account"
    return await _forget(connection, _FORGET_DAYS, where, wanted) | await _forget(
        connection, _FORGET_SIGNALS, where, wanted
    )


async def forget_users_of_day(
    connection: AsyncConnection, day: date, keys: Collection[int]
) -> set[str]:
    """Take the people out of one day's buckets; the accounts where there was one."""
    # The shards stand first in the key: without them older servers read the whole of it.
    wanted = {"keys": list(keys), "shards": list(range(SHARDS)), "day": day}
    where = "shard = ANY(CAST(:shards AS smallint[])) AND day = :day"
    return await _forget(connection, _FORGET_DAYS, where, wanted)


async def forget_users_of_signals(
    connection: AsyncConnection, shard: int, keys: Collection[int]
) -> set[str]:
    """Take the people out of one shard's signals; the accounts where there was one."""
    wanted = {"keys": list(keys), "shard": shard}
    return await _forget(connection, _FORGET_SIGNALS, "shard = :shard", wanted)


async def _forget(
    connection: AsyncConnection, statement: str, where: str, wanted: Mapping[str, object]
) -> set[str]:
    rows = await connection.execute(text(f"{statement} AND {where} RETURNING account_id"), wanted)
    return {row[0] for row in rows}


_FORGET_DAYS = """
UPDATE scoring.account_day AS d SET users = coalesce(
    (SELECT array_agg(u ORDER BY u) FROM unnest(d.users) AS u
        WHERE u <> ALL (CAST(:keys AS bigint[]))),
    '{}')
WHERE users && CAST(:keys AS bigint[])
"""
_FORGET_SIGNALS = """
UPDATE scoring.signals SET user_key = NULL WHERE user_key = ANY (CAST(:keys AS bigint[]))
"""
