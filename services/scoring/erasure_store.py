"""Scoring's SQL of erasures: what was erased, and deleting what is held of it.

Intake of events holds the lock of erasures shared, an erasure holds it alone: no event that was
read before an erasure can be written after it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

import asyncpg
import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.directory import Erasures
from services.scoring.store import SHARDS, shard_of
from shared.database import driver

BY_SHARD: Final = ("account_past", "scores", "dirty", "flag_states")
BY_ACCOUNT: Final = (
    "accounts",
    "account_versions",
    "account_stages",
    "account_features",
    "feature_rows",
    "memberships",
    "outcomes",
)
"""What holds something of accounts beside their days, signals and flags."""

Person: TypeAlias = tuple[str, int]
"""An account, empty for all of them, and the key of a user."""
Asked: TypeAlias = tuple[str | None, datetime]
"""The user's hash, None where only the key is known, and when it was asked for."""

_LOCK = "hashtext('scoring.erasures')"
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """The accounts in which people were found, and in how many rows."""

    accounts: frozenset[str]
    rows: Counter[str]
    """By table."""


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
    signals remain: of events received later, whose ids stay too, so that a replay counts nothing
    twice. What waits in the outbox is not let out any more.
    """
    connected = await driver(connection)
    names, moments = list(erased), list(erased.values())
    await connected.execute(_REMEMBER_ACCOUNTS, names, moments)
    shards = [shard_of(name) for name in names]
    counts = _Counts()
    counts.add("account_day", await connected.fetch(_DELETE_DAYS, names, moments, shards))
    counts.add("signals", await connected.fetch(_DELETE_SIGNALS, names, moments, shards))
    for table in BY_SHARD:
        counts.add(
            table,
            await connected.fetch(
                f"DELETE FROM scoring.{table}"
                " WHERE shard = ANY($2::smallint[]) AND account_id = ANY($1::text[])"
                " RETURNING account_id",
                names,
                shards,
            ),
        )
    counts.add("group_calls", await connected.fetch(_DELETE_GROUP_CALLS, names))
    for table in BY_ACCOUNT:
        counts.add(
            table,
            await connected.fetch(
                f"DELETE FROM scoring.{table} WHERE account_id = ANY($1::text[])"
                " RETURNING account_id",
                names,
            ),
        )
    deleted = await connected.fetch(_DELETE_FLAGS, names)
    counts.add("flags", deleted)
    counts.add("outbox", await connected.fetch(_DELETE_OUTBOX, names))
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
    later = {row[0] for row in remaining}
    gone = [name for name in names if name not in later]
    counts.add("seen_events", await connected.fetch(_DELETE_IDS, gone, await _days(connected)))
    # Of a flag that nobody has heard of, nobody need hear that it is cleared.
    told = [row for row in deleted if row["cleared_at"] is None and row["told_at"] is not None]
    await connected.execute(_NOTE_COUNTS, names, [counts.of(name) for name in names])
    return told, [row[0] for row in remaining]


async def count_ids(connection: AsyncConnection, account: str) -> int:
    """How many ids of the account's counted events are kept."""
    connected = await driver(connection)
    found = await connected.fetchval(_COUNT_IDS, [account], await _days(connected))
    return int(found)


async def _days(connected: asyncpg.Connection) -> Sequence[date]:
    """Those of which there may be ids of events."""
    first, last = await connected.fetchrow(
        "SELECT min(event_day), max(event_day) FROM scoring.seen_events"
    )
    return () if first is None else _all_days(first, last)


def _all_days(first: date, last: date) -> Sequence[date]:
    return [first + _ONE_DAY * number for number in range((last - first).days + 1)]


async def accounts_done(
    connection: AsyncConnection, accounts: Collection[str], *, flags_until: datetime, now: datetime
) -> None:
    """They are erased, and with them what flags said until then."""
    await (await driver(connection)).execute(
        "UPDATE scoring.erased_accounts SET done_at = $3,"
        " flags_until = greatest(flags_until, $2) WHERE account_id = ANY($1::text[])",
        list(accounts),
        flags_until,
        now,
    )


class _Counts:
    """How many rows went, by account and table."""

    def __init__(self) -> None:
        self._of: dict[str, Counter[str]] = {}

    def add(self, table: str, rows: Sequence[asyncpg.Record]) -> None:
        for row in rows:
            self._of.setdefault(row["account_id"], Counter())[table] += 1

    def of(self, account: str) -> str:
        return msgspec.json.encode(self._of.get(account, {})).decode()


_REMEMBER_ACCOUNTS = """
INSERT INTO scoring.erased_accounts AS e (account_id, erased_at, changed_since, done_at)
SELECT n.account_id, n.erased_at, (SELECT v.since FROM scoring.account_versions AS v
    WHERE v.account_id = n.account_id ORDER BY v.since OFFSET 1 LIMIT 1), NULL
FROM unnest($1::text[], $2::timestamptz[]) AS n (account_id, erased_at)
ON CONFLICT (account_id) DO UPDATE SET erased_at = greatest(e.erased_at, EXCLUDED.erased_at),
    changed_since = least(e.changed_since, EXCLUDED.changed_since), done_at = NULL
"""
_NOTE_COUNTS = """
UPDATE scoring.erased_accounts AS e SET counts = n.counts::jsonb
FROM unnest($1::text[], $2::text[]) AS n (account_id, counts) WHERE e.account_id = n.account_id
"""
# The days stand first in the key: without them the whole of it is read.
_IDS = "WHERE account_id = ANY($1::text[]) AND event_day = ANY($2::date[])"
_DELETE_IDS = f"DELETE FROM scoring.seen_events {_IDS} RETURNING account_id"
_COUNT_IDS = f"SELECT count(*) FROM scoring.seen_events {_IDS}"
# What the relay has in hand leaves, and the tombstone after it.
_DELETE_OUTBOX = """
DELETE FROM scoring.outbox WHERE id IN (SELECT id FROM scoring.outbox
    WHERE key = ANY(SELECT convert_to(n, 'UTF8') FROM unnest($1::text[]) AS n)
    FOR UPDATE SKIP LOCKED)
RETURNING convert_from(key, 'UTF8') AS account_id
"""
# A day with events from before and after goes as a whole: what it holds of each is not known.
_DELETE_DAYS = """
DELETE FROM scoring.account_day AS d
USING unnest($1::text[], $2::timestamptz[], $3::smallint[]) AS n (account_id, erased_at, shard)
WHERE d.shard = n.shard AND d.account_id = n.account_id AND d.first_received_at <= n.erased_at
RETURNING d.account_id
"""
_DELETE_SIGNALS = """
DELETE FROM scoring.signals AS s
USING unnest($1::text[], $2::timestamptz[], $3::smallint[]) AS n (account_id, erased_at, shard)
WHERE s.shard = n.shard AND s.account_id = n.account_id AND s.received_at <= n.erased_at
RETURNING s.account_id
"""
# They are found by their users, as every one makes a membership.
GROUP_CALLS: Final = """
account_id = ANY($1::text[]) AND user_key = ANY(
    SELECT m.user_key FROM scoring.memberships AS m WHERE m.account_id = ANY($1::text[]))
"""
_DELETE_GROUP_CALLS = f"DELETE FROM scoring.group_calls WHERE {GROUP_CALLS} RETURNING account_id"
_DELETE_FLAGS = """
DELETE FROM scoring.flags WHERE account_id = ANY($1::text[])
RETURNING account_id, reason, episode, flag_id, stage, raised_at, updated_at, cleared_at,
    told_at
"""


async def remember_users(connection: AsyncConnection, users: Mapping[Person, Asked]) -> None:
    """From now on these people's events count without them."""
    ordered = sorted(users.items())
    await (await driver(connection)).execute(
        _REMEMBER_USERS,
        [account for (account, _), _ in ordered],
        [key for (_, key), _ in ordered],
        [user_hash for _, (user_hash, _) in ordered],
        [asked_at for _, (_, asked_at) in ordered],
    )


_REMEMBER_USERS = """
INSERT INTO scoring.erased_users AS e
    (account_id, user_key, user_hash, erased_at, asked_at, done_at)
SELECT account_id, user_key, user_hash, asked_at, asked_at, NULL
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[])
    AS n (account_id, user_key, user_hash, asked_at)
ON CONFLICT (account_id, user_key) DO UPDATE SET
    user_hash = coalesce(EXCLUDED.user_hash, e.user_hash),
    erased_at = least(e.erased_at, EXCLUDED.erased_at),
    asked_at = greatest(e.asked_at, EXCLUDED.asked_at), done_at = NULL
"""


async def users_done(
    connection: AsyncConnection,
    users: Collection[Person],
    *,
    counts: Mapping[str, int],
    now: datetime,
) -> None:
    """They are in no bucket any more; `counts`: the rows where these together were."""
    ordered = sorted(users)
    await (await driver(connection)).execute(
        "UPDATE scoring.erased_users AS e SET done_at = $3,"
        " counts = CASE WHEN $4::text = '{}' AND e.counts IS NOT NULL THEN e.counts"
        " ELSE $4::jsonb END"
        " FROM unnest($1::text[], $2::bigint[]) AS n (account_id, user_key)"
        " WHERE e.account_id = n.account_id AND e.user_key = n.user_key",
        [account for account, _ in ordered],
        [key for _, key in ordered],
        now,
        msgspec.json.encode(counts).decode(),
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
    return () if first is None else _all_days(first, last)


async def forget_users_of_account(
    connection: AsyncConnection, account: str, keys: Collection[int]
) -> Touched:
    """Take the people out of the account's buckets and signals."""
    wanted = {"keys": list(keys), "shard": shard_of(account), "account": account}
    where = "shard = :shard AND account_id = :account"
    days = await _forget(connection, "account_day", where, wanted)
    signals = await _forget(connection, "signals", where, wanted)
    return Touched(accounts=days.accounts | signals.accounts, rows=days.rows + signals.rows)


async def forget_users_of_day(
    connection: AsyncConnection, day: date, keys: Collection[int]
) -> Touched:
    """Take the people out of one day's buckets."""
    # The shards stand first in the key: without them older servers read the whole of it.
    wanted = {"keys": list(keys), "shards": list(range(SHARDS)), "day": day}
    where = "shard = ANY(CAST(:shards AS smallint[])) AND day = :day"
    return await _forget(connection, "account_day", where, wanted)


async def forget_users_of_signals(
    connection: AsyncConnection, shard: int, keys: Collection[int]
) -> Touched:
    """Take the people out of one shard's signals."""
    wanted = {"keys": list(keys), "shard": shard}
    return await _forget(connection, "signals", "shard = :shard", wanted)


async def forget_memberships(
    connection: AsyncConnection, accounts: Collection[str], keys: Collection[int]
) -> Touched:
    """Forget that the people belong to these accounts; what they stand in does not change by it."""
    connected = await driver(connection)
    rows: Counter[str] = Counter()
    for table in ("group_calls", "memberships"):
        gone = await connected.fetch(
            f"DELETE FROM scoring.{table} WHERE user_key = ANY($1::bigint[])"
            " AND (account_id = ANY($2::text[]) OR '' = ANY($2::text[])) RETURNING 1",
            list(keys),
            list(accounts),
        )
        rows[table] += len(gone)
    return Touched(accounts=frozenset(), rows=+rows)


async def forget_waiting(
    connection: AsyncConnection, keys: Collection[int], now: datetime
) -> Touched:
    """Delete the people's events that wait for an account, and count them as erased."""
    connected = await driver(connection)
    # As whoever else changes rows of these partitions does: first what counts them.
    await connected.execute("SELECT FROM scoring.waiting_counts ORDER BY partition FOR UPDATE")
    gone = await connected.fetchval(
        _FORGET_WAITING, list(keys), now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    )
    return Touched(accounts=frozenset(), rows=+Counter(waiting_events=gone))


_FORGET_WAITING = """
WITH gone AS (
    DELETE FROM scoring.waiting_events
    WHERE partition = ANY(ARRAY(SELECT partition FROM scoring.waiting_counts))
        AND user_key = ANY($1::bigint[])
    RETURNING partition, source
), counted AS (
    UPDATE scoring.waiting_counts AS c SET events = c.events - n.events
    FROM (SELECT partition, count(*) AS events FROM gone GROUP BY partition) AS n
    WHERE c.partition = n.partition
), noted AS (
    INSERT INTO scoring.placing_hours AS h (hour, source, partition, erased)
    SELECT $2, source, partition, count(*) FROM gone GROUP BY source, partition
    ON CONFLICT (hour, source, partition) DO UPDATE SET erased = h.erased + EXCLUDED.erased
)
SELECT count(*) FROM gone
"""


async def _forget(
    connection: AsyncConnection, table: str, where: str, wanted: Mapping[str, object]
) -> Touched:
    statement = f"{_FORGET[table]} AND {where} RETURNING account_id"
    accounts = [row[0] for row in await connection.execute(text(statement), wanted)]
    return Touched(
        accounts=frozenset(accounts), rows=Counter({table: len(accounts)} if accounts else {})
    )


_FORGET: Final = {
    "account_day": """
UPDATE scoring.account_day AS d SET users = coalesce(
    (SELECT array_agg(u ORDER BY u) FROM unnest(d.users) AS u
        WHERE u <> ALL (CAST(:keys AS bigint[]))),
    '{}')
WHERE users && CAST(:keys AS bigint[])
""",
    "signals": """
UPDATE scoring.signals SET user_key = NULL WHERE user_key = ANY (CAST(:keys AS bigint[]))
""",
}


async def pending(connection: AsyncConnection) -> tuple[int, datetime | None]:
    """How many erasures are not finished, and when the oldest of them was asked for."""
    row = (await connection.execute(_PENDING)).one()
    return row.number, row.oldest


_PENDING = text(
    """
    SELECT count(*) AS number, min(since) AS oldest FROM (
        SELECT erased_at AS since FROM scoring.erased_accounts WHERE done_at IS NULL
        UNION ALL
        SELECT coalesce(asked_at, erased_at) FROM scoring.erased_users WHERE done_at IS NULL
    ) AS open
    """
)
