"""Which accounts users belong to: learnt from the events that intake counts, in its transactions.

First and last days and moments only, so that events may come in any order and in any batches, and
more than once. What this process knows to be stored costs no statement: a user who is active all
day is written once in a quarter of an hour. Only of those who are known in several accounts it
matters in which they were active last: they are written with every batch.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.array_literals import MOMENT, integers, microseconds, moments, texts
from services.scoring.domain.evidence import Evidence
from services.scoring.domain.tally import Tally
from shared.database import driver

_REMEMBERED: Final = 60_000
"""Users of accounts in one partition, of some 100 bytes each."""
_SEVERAL_REMEMBERED: Final = 100_000
_MANY: Final = 20
"""Rows for which it pays to ask first who is known at all."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER: Final = timedelta(minutes=15)
_QUARTER_MICROSECONDS: Final = 15 * 60 * 1_000_000
_QUARTERS_A_DAY: Final = 24 * 4

K = TypeVar("K")

_Said: TypeAlias = int | tuple[int, Evidence]
"""A user's key, or with it what an event said that is no activity."""


_Pair: TypeAlias = tuple[int, str]
"""A user's key, and an account."""

_Stored: TypeAlias = tuple[int, datetime]
"""What is stored at least: since which day (an ordinal), and all before that moment."""

_Active: TypeAlias = tuple[int, int, datetime]
"""The first day of activity (an ordinal, 0: none), the last of anything, the last activity."""


@dataclass(slots=True)
class _Rows:
    """What some events say of users in accounts."""

    active: dict[_Pair, _Active] = field(default_factory=dict)
    """Of all pairs."""
    grouped_on: dict[_Pair, int] = field(default_factory=dict)
    identified_on: dict[_Pair, int] = field(default_factory=dict)
    known: dict[_Pair, _Stored] = field(default_factory=dict)
    """Of those pairs of which it is known, what is stored of their activity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a transaction has stored, for `remember`."""

    stored: defaultdict[str, dict[_Said, _Stored]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    several: AbstractSet[int] = frozenset()
    """The users who turned out to be known in several accounts."""


class Several:
    """The users of whom this process knows that they belong to several accounts."""

    def __init__(self) -> None:
        self.users: set[int] = set()

    def add(self, users: AbstractSet[int]) -> None:
        self.users |= users
        # They are found again with the next statement that writes them.
        if len(self.users) > _SEVERAL_REMEMBERED:
            self.users = set(users)


class Memberships:
    """The memberships known to be stored, since a partition was claimed."""

    def __init__(self, several: Several) -> None:
        self._several = several
        self._stored: dict[str, dict[_Said, _Stored]] = {}
        self._count = 0
        self._erased: dict[str, datetime] = {}

    async def learn(
        self,
        connection: AsyncConnection,
        tallied: Tally[K],
        erased: Mapping[str, datetime],
        *,
        now: datetime,
    ) -> Learnt:
        """Store what new events say of their users, as far as it is not known to be stored.

        `erased`: the accounts of the events that were ever erased, and when; no event received
        before that may be in `tallied`.
        """
        self._forget_erased(erased)
        learnt, rows = Learnt(), _Rows()
        self._gather_active(tallied, rows)
        self._gather_stated(tallied, learnt, rows)
        if rows.active:
            learnt = Learnt(
                stored=learnt.stored, several=await _store(connection, rows, learnt, now)
            )
        if tallied.group_calls:
            await _store_group_calls(connection, tallied.group_calls)
        return learnt

    def remember(self, learnt: Learnt) -> None:
        """It is in the tables: call this after the commit."""
        for account, found in learnt.stored.items():
            known = self._stored.setdefault(account, {})
            before = len(known)
            known.update(found)
            self._count += len(known) - before
        if self._count > _REMEMBERED:
            self._stored, self._count, self._erased = {}, 0, {}
        if learnt.several:
            self._several.add(learnt.several)

    def _forget_erased(self, erased: Mapping[str, datetime]) -> None:
        """What was stored before an account was erased is not, now."""
        for account, moment in erased.items():
            if self._erased.get(account) != moment:
                self._erased[account] = moment
                self._count -= len(self._stored.pop(account, ()))

    def _gather_active(self, tallied: Tally[K], rows: _Rows) -> None:
        several, active = self._several.users, rows.active
        for (account, day), users in tallied.active.items():
            known = self._stored.get(account, _NOTHING)
            ordinal = day.toordinal()
            for user, moment in users.items():
                stored = known.get(user)
                if stored is not None:
                    since, until = stored
                    if since <= ordinal and moment < until and user not in several:
                        continue
                    rows.known[user, account] = stored
                new = (ordinal, ordinal, moment)
                row = active.setdefault((user, account), new)
                if row is not new:
                    first, last, before = row
                    active[user, account] = (
                        min(first, ordinal),
                        max(last, ordinal),
                        max(before, moment),
                    )

    def _gather_stated(self, tallied: Tally[K], learnt: Learnt, rows: _Rows) -> None:
        for (account, day), those in tallied.stated.items():
            known = self._stored.get(account, _NOTHING)
            ordinal = day.toordinal()
            for said in those:
                user, evidence = said
                stored = known.get(said)
                if stored is not None and stored[0] <= ordinal and _midnight(day) < stored[1]:
                    continue
                _add(rows, (user, account), evidence, ordinal)
                found = learnt.stored[account]
                found[said] = _merged(found.get(said, stored), _whole_day(ordinal))


_NOTHING: Final[Mapping[_Said, _Stored]] = {}


def _add(rows: _Rows, pair: _Pair, evidence: Evidence, day: int) -> None:
    active_on, last_on, moment = rows.active.get(pair, (0, 0, _EPOCH))
    if evidence is Evidence.ACTIVE:
        active_on = min(active_on or day, day)
    else:
        first = rows.grouped_on if evidence is Evidence.GROUPED else rows.identified_on
        first[pair] = min(first.get(pair, day), day)
    rows.active[pair] = (active_on, max(last_on, day), moment)


def _merged(one: _Stored | None, other: _Stored) -> _Stored:
    if one is None or (one[0] >= other[0] and one[1] <= other[1]):
        return other
    return min(one[0], other[0]), max(one[1], other[1])


@lru_cache(maxsize=1 << 12)  # Most share one: what is remembered of them takes no room then.
def _stored(day: int, quarter: int) -> _Stored:
    return day, _EPOCH + _QUARTER * (quarter + 1)


def _whole_day(day: int) -> _Stored:
    return _stored(day, (day - _EPOCH.toordinal() + 1) * _QUARTERS_A_DAY - 1)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


async def _store(
    connection: AsyncConnection, rows: _Rows, learnt: Learnt, now: datetime
) -> AbstractSet[int]:
    """Add to what is known of each user, and note it; returns those known in several accounts."""
    users, accounts = zip(*rows.active, strict=True)
    active_on, last_on, last = zip(*rows.active.values(), strict=True)
    last_active_at = microseconds(last)
    for user, account, day, moment in zip(users, accounts, active_on, last_active_at, strict=True):
        if moment:
            learnt.stored[account][user] = _stored(day, moment // _QUARTER_MICROSECONDS)
    for (user, account), stored in rows.known.items():
        found = learnt.stored[account]
        found[user] = _merged(found.get(user), stored)
    connected = await driver(connection)
    values = (
        integers(users),
        texts(accounts),
        _days(rows.grouped_on, rows),
        _days(rows.identified_on, rows),
        integers(active_on),
        integers(last_on),
        integers(last_active_at),
        now,
    )
    several = await _add_rows(connected, values, many=len(users) >= _MANY)
    # The statement does not see its own rows.
    if len(set(users)) < len(users):
        several.update(user for user, count in Counter(users).items() if count > 1)
    return several


def _days(first: Mapping[_Pair, int], rows: _Rows) -> str:
    # PostgreSQL fills a short list with nulls.
    return integers([first.get(pair, 0) for pair in rows.active]) if first else "{}"


async def _add_rows(
    connected: asyncpg.Connection, values: tuple[object, ...], *, many: bool
) -> set[int]:
    """Returns those who were known in another account before."""
    if many:
        await connected.execute("SAVEPOINT adding")
        try:
            return {row[0] for row in await connected.fetch(_ADD, *values)}
        except asyncpg.UniqueViolationError:
            # Another transaction has just added one of those of whom nothing was known.
            await connected.execute("ROLLBACK TO SAVEPOINT adding")
    return {row[0] for row in await connected.fetch(_ADD_ASKING, *values)}


# Rows of users of whom nothing is known are put in as they are, which costs half of asking for
# each. One that says nothing new is left as it is. One learnt later than now is of a clock that was
# set back since. In the order of the table's key, as two transactions must never wait in a circle.
# OFFSET: user by user by the index, whatever the planner thinks of its statistics.
_FIRST_DAY: Final = "date '0001-01-01' + (nullif({}, 0) - 1)"
_KNOWN: Final = """EXISTS (
    SELECT FROM scoring.memberships AS m WHERE m.user_key = n.user_key{} OFFSET 0)"""
_TABLE: Final = """scoring.memberships AS m (user_key, account_id, grouped_on, identified_on,
        active_on, last_on, last_active_at, learnt_at)
    SELECT user_key, account_id, grouped_on, identified_on, active_on, last_on, last_active_at,
        $8::timestamptz
    FROM n"""
_STATEMENT: Final = f"""
WITH n AS MATERIALIZED (
    SELECT user_key, account_id, {_FIRST_DAY.format("grouped_on")} AS grouped_on,
        {_FIRST_DAY.format("identified_on")} AS identified_on,
        {_FIRST_DAY.format("active_on")} AS active_on, date '0001-01-01' + (last_on - 1) AS last_on,
        {MOMENT.format("nullif(last_active_at, 0)")} AS last_active_at,
        {{known}} AS known
    FROM unnest($1::text::bigint[], $2::text::text[], $3::text::int[], $4::text::int[],
        $5::text::int[], $6::text::int[], $7::text::bigint[])
        AS n (user_key, account_id, grouped_on, identified_on, active_on, last_on, last_active_at)
    ORDER BY user_key, account_id
), new AS (
    INSERT INTO {_TABLE} WHERE NOT known
), changed AS (
    INSERT INTO {_TABLE} WHERE known
    ON CONFLICT (user_key, account_id) DO UPDATE SET
        grouped_on = least(m.grouped_on, EXCLUDED.grouped_on),
        identified_on = least(m.identified_on, EXCLUDED.identified_on),
        active_on = least(m.active_on, EXCLUDED.active_on),
        last_on = greatest(m.last_on, EXCLUDED.last_on),
        last_active_at = greatest(m.last_active_at, EXCLUDED.last_active_at),
        learnt_at = least(m.learnt_at, EXCLUDED.learnt_at)
    WHERE m.last_on < EXCLUDED.last_on
        OR coalesce(m.last_active_at < EXCLUDED.last_active_at,
            m.last_active_at IS NULL AND EXCLUDED.last_active_at IS NOT NULL)
        OR least(m.grouped_on, EXCLUDED.grouped_on) IS DISTINCT FROM m.grouped_on
        OR least(m.identified_on, EXCLUDED.identified_on) IS DISTINCT FROM m.identified_on
        OR least(m.active_on, EXCLUDED.active_on) IS DISTINCT FROM m.active_on
        OR EXCLUDED.learnt_at < m.learnt_at
)
SELECT user_key FROM n WHERE known AND {_KNOWN.format(" AND m.account_id <> n.account_id")}
"""
_ADD: Final = _STATEMENT.format(known=_KNOWN.format(""))
_ADD_ASKING: Final = _STATEMENT.format(known="true")


async def _store_group_calls(
    connection: AsyncConnection, calls: AbstractSet[tuple[int, datetime, str]]
) -> None:
    ordered = sorted(calls)
    await (await driver(connection)).execute(
        "INSERT INTO scoring.group_calls (user_key, stated_at, account_id)"
        f" SELECT user_key, {MOMENT.format('stated_at')}, account_id"
        " FROM unnest($1::text::bigint[], $2::text::bigint[], $3::text::text[])"
        " AS n (user_key, stated_at, account_id) ON CONFLICT DO NOTHING",
        integers([user for user, _, _ in ordered]),
        moments([at for _, at, _ in ordered]),
        texts([account for _, _, account in ordered]),
    )
