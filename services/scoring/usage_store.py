"""Scoring's SQL of what is stored of accounts' use: read by COPY, straight into vectors.

Two ways lead to the same `Usage`. A list of accounts is read by the index, each row with the
account's place in the list. A whole shard is read in one sequential pass, each row with the hash
of its account: names would cost more than all the rest. Accounts that share a hash (`apart`)
cannot be told from each other there, and are read as a list.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Final, TypeAlias

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.scoring import copied
from services.scoring.copied import Rows
from services.scoring.day_sets import DaySets, Sets
from services.scoring.domain.usage import (
    KEPT_DAYS,
    Days,
    Floats,
    Integers,
    Members,
    SignalKind,
    Signals,
    Usage,
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
    """What COPY has brought of some accounts, not yet put together.

    `days` `(days,)` are those of the scope, with the index of each one's account; `users`: of each
    member the day's index, and who. `sources`, `features`: what the days' hashes stand for.
    """

    scope: Scope
    days: Rows
    owner: Integers
    users: tuple[Integers, Integers]
    sources: Sets
    features: Sets
    signals: Rows
    past: Rows
    older: Rows


def apart(hashes: Integers) -> Truths:
    """Which accounts share their hash with another one, `(accounts,)`."""
    _, place, count = np.unique(hashes, return_inverse=True, return_counts=True)
    shared: Truths = count[place] > 1
    return shared


async def read_stored(
    connection: asyncpg.Connection, scope: Scope, today: date, sets: DaySets
) -> Stored:
    """What is stored of the accounts' use until `today`, the running UTC day."""
    since = date.fromordinal(today.toordinal() - KEPT_DAYS)
    kept = f"d.day BETWEEN '{since}' AND '{today}'"
    content = await fetch(connection, scope, "account_day", _DAY, kept)
    days, owner, users = await asyncio.to_thread(_days, scope, content)
    sources = await sets.learn(connection, "sources", scope.accounts, owner, days)
    features = await sets.learn(connection, "features", scope.accounts, owner, days)
    older = await fetch(connection, scope, "account_day", _OLDER_DAY, f"d.day < '{since}'", _OLDER)
    signals = await fetch(connection, scope, "signals", _SIGNAL)
    past = await fetch(connection, scope, "account_past", _PAST)
    return Stored(
        scope=scope,
        days=days,
        owner=owner,
        users=users,
        sources=sources,
        features=features,
        signals=copied.rows(signals, _SIGNAL_LAYOUT),
        past=copied.rows(past, _PAST_LAYOUT),
        older=copied.rows(older, _PAST_LAYOUT),
    )


async def read_signals(connection: asyncpg.Connection, scope: Scope, kind: SignalKind) -> Signals:
    """The accounts' signals of one kind."""
    found = await fetch(connection, scope, "signals", _SIGNAL, f"d.kind = {kind:d}")
    return _signals(scope, copied.rows(found, _SIGNAL_LAYOUT))


def moved(signals: Signals, places: Sequence[int]) -> Signals:
    """The same, of accounts that stand elsewhere: the first one at the first place."""
    return replace(signals, owner=np.array(places, np.int64)[signals.owner])


def together(parts: Sequence[Signals]) -> Signals:
    """All of them, one after the other; at least one part."""
    return Signals(
        **{
            each.name: np.concatenate([getattr(part, each.name) for part in parts])
            for each in fields(Signals)
        }
    )


_DAY: Final = (
    "d.day, d.events, d.milliseconds, hash_array_extended(d.sources, 0),"
    f" hash_array_extended(d.features, 0), {copied.DAY_LIST}"
)
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


def _days(scope: Scope, content: bytes) -> tuple[Rows, Integers, tuple[Integers, Integers]]:
    """The days with their accounts and their users, without those of others in the shard."""
    days, of_day, user = copied.days_with_members(content)
    owner, kept = scope.owners(days["key"].astype(np.int64))
    if kept.all():
        return days, owner, (of_day, user)
    users = kept[of_day]
    place = np.cumsum(kept) - 1
    return days[kept], owner[kept], (place[of_day[users]], user[users])


def usage_of(stored: Stored) -> Usage:
    """The rows put together: days in their order, and the members of their sets."""
    accounts = len(stored.scope.accounts)
    day = stored.days["day"].astype(np.int64) + _EPOCH_ORDINAL
    order = np.argsort((stored.owner << 24) | day)
    of_day, user = stored.users
    owner, ordered_day = stored.owner[order], day[order]
    first, last, count = _deleted(stored, accounts)
    return Usage(
        accounts=accounts,
        days=Days(
            owner=owner,
            day=ordered_day,
            events=stored.days["events"].astype(np.int64)[order],
            milliseconds=stored.days["milliseconds"].astype(np.int64)[order],
        ),
        users=Members(owner=stored.owner[of_day], day=day[of_day], code=user),
        features=stored.features.members(
            owner, ordered_day, stored.days["features"].astype(np.int64)[order]
        ),
        sources=stored.sources.members(
            owner, ordered_day, stored.days["sources"].astype(np.int64)[order]
        ),
        signals=_signals(stored.scope, stored.signals),
        first_deleted=first,
        last_deleted=last,
        deleted_days=count,
    )


def _signals(scope: Scope, rows: Rows) -> Signals:
    owner, kept = scope.owners(rows["key"].astype(np.int64))
    found = rows[kept]
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
