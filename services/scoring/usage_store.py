"""Scoring's SQL of what is stored of accounts' use: read by COPY, straight into vectors.

Two ways lead to the same `Usage`. A list of accounts is read by the index, each row with the
account's place in the list. A whole shard is read in one sequential pass, each row with the hash
of its account: names would cost more than all the rest. Accounts that share a hash (`apart`)
cannot be told from each other there, and are read as a list.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeAlias

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.scoring import copied
from services.scoring.copied import Rows
from services.scoring.domain.usage import (
    KEPT_DAYS,
    Days,
    Floats,
    Integers,
    Members,
    Signals,
    Usage,
    code_of,
)
from services.scoring.store import shard_of

Truths: TypeAlias = NDArray[np.bool_]

_EPOCH_ORDINAL: Final = date(2000, 1, 1).toordinal()
_EPOCH_MICROSECONDS: Final = 946_684_800 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose use to read, in which order.

    `shard` None: by the index. Else the accounts are most of that shard, `hashes` `(accounts,)`
    are theirs, all distinct, and `part` the lowest and highest hash to look at: a large shard is
    read in parts.
    """

    accounts: Sequence[str]
    shard: int | None = None
    hashes: Integers | None = None
    part: tuple[int, int] | None = None

    def owners(self, keys: Integers) -> tuple[Integers, Truths]:
        """The index of each row's account, and whether it has one: others are in the shard too."""
        if self.hashes is None:
            return keys - 1, np.ones(len(keys), np.bool_)
        order = np.argsort(self.hashes)
        ordered = self.hashes[order]
        place = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
        return order[place], ordered[place] == keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What COPY has brought of some accounts, not yet put together; `users` as in `copied`."""

    scope: Scope
    days: Rows
    users: tuple[Integers, Integers]
    features: Rows
    signals: Rows
    past: Rows
    older: Rows


class SourceSets:
    """The sets of sources that days were seen with, by their hash: few, so they are remembered."""

    def __init__(self) -> None:
        self._codes: dict[int, Integers] = {}

    async def learn(self, connection: asyncpg.Connection, scope: Scope, hashes: Integers) -> None:
        """Ask which sets the hashes of the scope's days stand for, where that is not known yet."""
        known = np.array(sorted(self._codes), np.int64)
        unknown = np.unique(hashes[~np.isin(hashes, known)])
        if not len(unknown):
            return
        if scope.shard is None:
            shards = [shard_of(name) for name in scope.accounts]
            sets = await connection.fetch(
                _SETS_OF_ACCOUNTS, unknown.tolist(), shards, scope.accounts
            )
        else:
            sets = await connection.fetch(_SETS_OF_SHARD, unknown.tolist(), scope.shard)
        self._codes |= {
            row[0]: np.array([code_of(name) for name in row[1]], np.int64) for row in sets
        }

    def members(self, owner: Integers, day: Integers, hashes: Integers) -> Members:
        """The sources of each day `(days,)`, flat; codes are those of `code_of`.

        Intake may have changed a day before `learn` asked for its set: then the day has none, and
        is looked at again at once.
        """
        known = np.array(sorted(self._codes), np.int64)
        if not len(hashes) or not len(known):
            nothing = np.empty(0, np.int64)
            return Members(owner=nothing, day=nothing, code=nothing)
        sets = [self._codes[one] for one in known.tolist()]
        sizes = np.array([len(one) for one in sets], np.int64)
        starts = np.cumsum(sizes) - sizes
        place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        size = np.where(known[place] == hashes, sizes[place], 0)
        within = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
        return Members(
            owner=np.repeat(owner, size),
            day=np.repeat(day, size),
            code=np.concatenate(sets)[np.repeat(starts[place], size) + within],
        )


_SETS: Final = "SELECT DISTINCT hash_array_extended(d.sources, 0), d.sources"
_SETS_OF_SHARD: Final = f"""
{_SETS} FROM scoring.account_day AS d
WHERE d.shard = $2 AND hash_array_extended(d.sources, 0) = ANY($1::bigint[])
"""
_SETS_OF_ACCOUNTS: Final = f"""
{_SETS} FROM unnest($2::smallint[], $3::text[]) AS n (shard, account_id),
LATERAL (SELECT a.sources FROM scoring.account_day AS a
    WHERE a.shard = n.shard AND a.account_id = n.account_id OFFSET 0) AS d
WHERE hash_array_extended(d.sources, 0) = ANY($1::bigint[])
"""


def apart(hashes: Integers) -> Truths:
    """Which accounts share their hash with another one, `(accounts,)`."""
    _, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
    shared: Truths = count[place] > 1
    return shared


async def read_stored(
    connection: asyncpg.Connection, scope: Scope, today: date, sources: SourceSets
) -> Stored:
    """What is stored of the accounts' use until `today`, the running UTC day."""
    since = date.fromordinal(today.toordinal() - KEPT_DAYS)

    kept = f"d.day BETWEEN '{since}' AND '{today}'"
    complete = f"d.day >= '{since}' AND d.day < '{today}'"
    content = await fetch(connection, scope, "account_day", _DAY, kept)
    days, owner, user = await asyncio.to_thread(copied.days_with_members, content)
    await sources.learn(connection, scope, days["sources"].astype(np.int64))
    features = await fetch(connection, scope, "account_day", _FEATURE, complete, _LAST_DAYS)
    older = await fetch(connection, scope, "account_day", _OLDER_DAY, f"d.day < '{since}'", _OLDER)
    signals = await fetch(connection, scope, "signals", _SIGNAL)
    past = await fetch(connection, scope, "account_past", _PAST)
    return Stored(
        scope=scope,
        days=days,
        users=(owner, user),
        features=copied.rows(features, _FEATURE_LAYOUT),
        signals=copied.rows(signals, _SIGNAL_LAYOUT),
        past=copied.rows(past, _PAST_LAYOUT),
        older=copied.rows(older, _PAST_LAYOUT),
    )


_DAY: Final = (
    "d.day, d.events, d.milliseconds, hash_array_extended(d.sources, 0) AS sources, "
    + copied.DAY_LIST
)
_FEATURE: Final = "d.day, hashtextextended(unnest(d.features), 0) AS feature"
# Breadth asks when each feature was last used: one row each, instead of one for each day.
_LAST_DAYS: Final = "SELECT key, feature, max(day) FROM ({}) AS m GROUP BY key, feature"
_FEATURE_LAYOUT: Final = copied.layout(key="i8", feature="i8", day="i4")
_SIGNAL: Final = (
    "d.occurred_at, d.kind, coalesce(d.user_key, 0), coalesce(d.subject, 0),"
    " coalesce(d.value, 'NaN')"
)
_SIGNAL_LAYOUT: Final = copied.layout(
    key="i8", at="i8", kind="i2", user="i8", subject="i8", value="f8"
)
_PAST: Final = "d.first_day, d.last_day, d.active_days::bigint"
_OLDER_DAY: Final = "d.day"
_OLDER: Final = "SELECT key, min(day), max(day), count(*) FROM ({}) AS m GROUP BY key"
_PAST_LAYOUT: Final = copied.layout(key="i8", first="i4", last="i4", days="i8")


async def fetch(
    connection: asyncpg.Connection,
    scope: Scope,
    table: str,
    columns: str,
    where: str = "true",
    around: str = "{}",
) -> bytes:
    """The accounts' rows in a sharded table (alias d), each after its key (`Scope.owners`)."""
    if scope.shard is None:
        # OFFSET: account by account by the index, whatever the planner thinks of its statistics.
        query = (
            f"SELECT m.* FROM unnest($1::smallint[], $2::text[]) WITH ORDINALITY"
            f" AS n (shard, account_id, key), LATERAL (SELECT n.key, {columns}"
            f" FROM scoring.{table} AS d WHERE d.shard = n.shard AND d.account_id = n.account_id"
            f" AND {where} OFFSET 0) AS m"
        )
        shards = [shard_of(name) for name in scope.accounts]
        return await copied.fetch(connection, around.format(query), shards, list(scope.accounts))
    key = "hashtextextended(d.account_id, 0)"
    if scope.part is not None:
        where += f" AND {key} BETWEEN {scope.part[0]} AND {scope.part[1]}"
    query = (
        f"SELECT {key} AS key, {columns} FROM scoring.{table} AS d"
        f" WHERE d.shard = {scope.shard} AND {where}"
    )
    return await copied.fetch(connection, around.format(query))


def usage_of(stored: Stored, sources: SourceSets) -> Usage:
    """The rows put together: whose they are, and days in their order."""
    accounts = len(stored.scope.accounts)
    owner, kept = stored.scope.owners(stored.days["key"].astype(np.int64))
    day = stored.days["day"].astype(np.int64) + _EPOCH_ORDINAL
    users = kept[stored.users[0]]
    of_day = stored.users[0][users]
    order = np.flatnonzero(kept)
    order = order[np.argsort((owner[order] << 24) | day[order])]
    first, last, count = _deleted(stored, accounts)
    return Usage(
        accounts=accounts,
        days=Days(
            owner=owner[order],
            day=day[order],
            events=stored.days["events"][order].astype(np.int64),
            milliseconds=stored.days["milliseconds"][order].astype(np.int64),
        ),
        users=Members(owner=owner[of_day], day=day[of_day], code=stored.users[1][users]),
        features=_features(stored),
        sources=sources.members(
            owner[order], day[order], stored.days["sources"][order].astype(np.int64)
        ),
        signals=_signals(stored),
        first_deleted=first,
        last_deleted=last,
        deleted_days=count,
    )


def _features(stored: Stored) -> Members:
    owner, kept = stored.scope.owners(stored.features["key"].astype(np.int64))
    found = stored.features[kept]
    return Members(
        owner=owner[kept],
        day=found["day"].astype(np.int64) + _EPOCH_ORDINAL,
        code=found["feature"].astype(np.int64),
    )


def _signals(stored: Stored) -> Signals:
    owner, kept = stored.scope.owners(stored.signals["key"].astype(np.int64))
    found = stored.signals[kept]
    return Signals(
        owner=owner[kept],
        at=found["at"].astype(np.int64) + _EPOCH_MICROSECONDS,
        kind=found["kind"].astype(np.int64),
        user=found["user"].astype(np.int64),
        subject=found["subject"].astype(np.int64),
        value=found["value"].astype(np.float64),
    )


def _deleted(stored: Stored, accounts: int) -> tuple[Floats, Floats, Integers]:
    """First and last day that no longer count one by one (NaN: none), and how many there were."""
    first, last = np.full(accounts, np.inf), np.full(accounts, -np.inf)
    count = np.zeros(accounts, np.int64)
    for found in (stored.past, stored.older):
        owner, kept = stored.scope.owners(found["key"].astype(np.int64))
        owner, rows = owner[kept], found[kept]
        np.minimum.at(first, owner, rows["first"].astype(np.float64) + _EPOCH_ORDINAL)
        np.maximum.at(last, owner, rows["last"].astype(np.float64) + _EPOCH_ORDINAL)
        np.add.at(count, owner, rows["days"].astype(np.int64))
    first[np.isinf(first)] = np.nan
    last[np.isinf(last)] = np.nan
    return first, last, count
