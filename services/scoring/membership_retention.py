"""Scoring's SQL of who belonged to which account long ago: forgotten as the days of use are.

Each table is walked in the order of its key, some rows at a time: no statement is long, and none
needs an index that intake would have to keep.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import driver

STEP: Final = 10_000
_PAUSE_SECONDS: Final = 0.05
_HOURS_KEPT: Final = timedelta(days=90)


async def forget(
    engine: AsyncEngine,
    now: datetime,
    *,
    activity: timedelta | None,
    group_calls: timedelta,
    progressed: Callable[[], None] = lambda: None,
) -> Mapping[str, int]:
    """Delete what is past these times (None: kept for ever); how many rows, where there were any.

    Of the `group` calls before its time the newest of each user stays: it says where the user is.
    """
    today = now.astimezone(UTC).date()
    gone = {"group_calls": await _walk(engine, _CALLS, now - group_calls, progressed)}
    if activity is not None:
        gone["memberships"] = await _walk(engine, _MEMBERSHIPS, today - activity, progressed)
    async with engine.begin() as connection:
        hours = await (await driver(connection)).execute(
            "DELETE FROM scoring.placing_hours WHERE hour < $1", now - _HOURS_KEPT
        )
    gone["placing_hours"] = int(hours.split()[-1])
    return {table: count for table, count in gone.items() if count}


async def _walk(
    engine: AsyncEngine, statement: str, before: datetime | date, progressed: Callable[[], None]
) -> int:
    """Step by step through the users, all rows of a user in one."""
    gone, user = 0, _FIRST_USER
    while True:
        async with engine.begin() as connection:
            row = await (await driver(connection)).fetchrow(statement, user, before, STEP)
        progressed()
        last: int | None = row[0]
        gone += int(row[1])
        if last is None or last == _LAST_USER:
            return gone
        user = last + 1
        await asyncio.sleep(_PAUSE_SECONDS)


_FIRST_USER: Final = -(1 << 63)
_LAST_USER: Final = (1 << 63) - 1

# Up to which user a step goes: beyond a table's end nobody is left. What somebody holds stays for
# the next time.
_MEMBERSHIPS: Final = """
WITH step AS MATERIALIZED (
    SELECT max(user_key) AS last FROM (
        SELECT user_key FROM scoring.memberships WHERE user_key >= $1 ORDER BY user_key LIMIT $3
    ) AS users
), gone AS (
    DELETE FROM scoring.memberships WHERE (user_key, account_id) IN (
        SELECT user_key, account_id FROM scoring.memberships
        WHERE user_key BETWEEN $1 AND (SELECT last FROM step) AND last_on < $2
        FOR UPDATE SKIP LOCKED)
    RETURNING user_key, account_id
), calls AS (
    DELETE FROM scoring.group_calls AS c USING gone
    WHERE c.user_key = gone.user_key AND c.account_id = gone.account_id
)
SELECT (SELECT last FROM step), (SELECT count(*) FROM gone)
"""
_CALLS: Final = """
WITH step AS MATERIALIZED (
    SELECT max(user_key) AS last FROM (
        SELECT user_key FROM scoring.group_calls WHERE user_key >= $1 ORDER BY user_key LIMIT $3
    ) AS users
), gone AS (
    DELETE FROM scoring.group_calls AS c USING (
        SELECT user_key, max(stated_at) AS newest FROM scoring.group_calls
        WHERE user_key BETWEEN $1 AND (SELECT last FROM step) AND stated_at < $2
        GROUP BY user_key) AS n
    WHERE c.user_key = n.user_key AND c.stated_at < n.newest
    RETURNING 1
)
SELECT (SELECT last FROM step), (SELECT count(*) FROM gone)
"""
