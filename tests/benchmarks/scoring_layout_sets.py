"""The account-days as they are stored: arrays of user keys and features in each."""

from collections.abc import Mapping
from datetime import date
from typing import Final, TypeAlias

import asyncpg
import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import copied, store
from services.scoring.domain.activity import AccountDay, DayDelta
from services.scoring.domain.grouping import group
from services.scoring.domain.usage import Integers
from services.scoring.domain.windows import WINDOWS
from services.scoring.usage_store import Scope, fetch

Deltas: TypeAlias = Mapping[AccountDay, DayDelta]
Counts: TypeAlias = dict[str, list[int]]
"""By account, what is counted in each window."""

POSTGRES_EPOCH: Final = date(2000, 1, 1).toordinal()
SUMS: Final = "d.day, d.events, d.milliseconds, hash_array_extended(d.sources, 0) AS sources"
_FEATURE_DAY: Final = "d.day, hashtextextended(unnest(d.features), 0) AS feature"
_LAST_DAYS: Final = "SELECT key, feature, max(day) FROM ({}) AS m GROUP BY key, feature"


async def add(engine: AsyncEngine, deltas: Deltas) -> None:
    async with engine.begin() as connection:
        await store.add_activity(connection, deltas, running_day=date.max)


async def read(connection: asyncpg.Connection, scope: Scope, as_of: date) -> Counts:
    accounts, last = len(scope.accounts), as_of.toordinal()
    content = await fetch(connection, scope, "account_day", f"{SUMS}, {copied.DAY_LIST}")
    rows, row_of, user = copied.days_with_members(content)
    owner, kept = scope.owners(rows["key"].astype(np.int64))
    day = rows["day"].astype(np.int64) + POSTGRES_EPOCH
    counts = active_days(owner[kept], day[kept], last, accounts)
    found = kept[row_of]
    counts |= _distinct(
        "active_users", owner[row_of][found], user[found], day[row_of][found], last, accounts
    )
    content = await fetch(connection, scope, "account_day", _FEATURE_DAY, "true", _LAST_DAYS)
    used = copied.rows(content, copied.layout(key="i8", feature="i8", day="i4"))
    owner, kept = scope.owners(used["key"].astype(np.int64))
    day = used["day"].astype(np.int64) + POSTGRES_EPOCH
    feature = used["feature"].astype(np.int64)
    counts |= _distinct("breadth", owner[kept], feature[kept], day[kept], last, accounts)
    return counts


def active_days(owner: Integers, day: Integers, last: int, accounts: int) -> Counts:
    return {
        f"active_days_{window}": np.bincount(
            owner[day > last - window], minlength=accounts
        ).tolist()
        for window in WINDOWS
    }


def _distinct(
    name: str, owner: Integers, code: Integers, day: Integers, last: int, accounts: int
) -> Counts:
    """As `domain/people.py` counts: a member is active in a window exactly if its last day is."""
    groups = group(owner, code)
    newest = np.maximum.reduceat(day[groups.order], groups.starts)
    return {
        f"{name}_{window}": np.bincount(
            groups.owner[newest > last - window], minlength=accounts
        ).tolist()
        for window in WINDOWS
    }
