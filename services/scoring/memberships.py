"""Which accounts users belong to: learnt from the events that intake counts, in its transactions.

First and last days and moments only, so that events may come in any order and in any batches, and
more than once. What this process knows to be stored costs no statement: a user who is active all
day is written once in a quarter of an hour. Only of those who are known in several accounts it
matters in which they were active last: they are written with every batch.
"""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.array_literals import MOMENT, integers, moments, texts
from services.scoring.domain.evidence import Evidence
from services.scoring.domain.tally import Tally
from shared.database import driver

_REMEMBERED: Final = 60_000
"""Users of accounts in one partition, of some 100 bytes each."""
_SEVERAL_REMEMBERED: Final = 100_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER: Final = timedelta(minutes=15)
_DAY: Final = timedelta(days=1)

K = TypeVar("K")

_Said: TypeAlias = int | tuple[int, Evidence]
"""A user's key, or with it what an event said that is no activity."""


class _Stored(NamedTuple):
    """What is stored at least: since which day (an ordinal), and all before that moment."""

    since: int
    until: datetime


@dataclass(slots=True)
class _Row:
    """What some events say of a user in an account: days as ordinals, 0 where nothing was said."""

    grouped_on: int = 0
    identified_on: int = 0
    active_on: int = 0
    last_on: int = 0
    last_active_at: datetime = _EPOCH

    def add(self, evidence: Evidence, day: int) -> None:
        name = _COLUMNS[evidence]
        first = getattr(self, name)
        if not first or day < first:
            setattr(self, name, day)
        self.last_on = max(self.last_on, day)


_COLUMNS: Final = {one: f"{one}_on" for one in Evidence}


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a transaction has stored, for `remember`."""

    stored: dict[str, dict[_Said, _Stored]] = field(default_factory=dict)
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
        learnt, rows = Learnt(), dict[tuple[int, str], _Row]()
        self._gather_active(tallied, learnt, rows)
        self._gather_stated(tallied, learnt, rows)
        if rows:
            learnt = Learnt(stored=learnt.stored, several=await _store(connection, rows, now))
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

    def _gather_active(
        self, tallied: Tally[K], learnt: Learnt, rows: dict[tuple[int, str], _Row]
    ) -> None:
        several = self._several.users
        for (account, day), users in tallied.active.items():
            known = self._stored.get(account, _NOTHING)
            ordinal = day.toordinal()
            for user, moment in users.items():
                stored = known.get(user)
                if stored is not None:
                    since, until = stored
                    if since <= ordinal and moment < until and user not in several:
                        continue
                row = rows.get((user, account))
                if row is None:
                    row = rows[user, account] = _Row()
                row.add(Evidence.ACTIVE, ordinal)
                row.last_active_at = max(row.last_active_at, moment)
                _note(learnt, account, user, stored, ordinal, (moment - _EPOCH) // _QUARTER)

    def _gather_stated(
        self, tallied: Tally[K], learnt: Learnt, rows: dict[tuple[int, str], _Row]
    ) -> None:
        for (account, day), those in tallied.stated.items():
            known = self._stored.get(account, _NOTHING)
            ordinal = day.toordinal()
            last_quarter = (ordinal - _EPOCH.toordinal() + 1) * (_DAY // _QUARTER) - 1
            for said in those:
                user, evidence = said
                stored = known.get(said)
                if stored is not None and stored[0] <= ordinal and _midnight(day) < stored[1]:
                    continue
                rows.setdefault((user, account), _Row()).add(evidence, ordinal)
                _note(learnt, account, said, stored, ordinal, last_quarter)


_NOTHING: Final[Mapping[_Said, _Stored]] = {}


def _note(
    learnt: Learnt, account: str, said: _Said, stored: _Stored | None, day: int, quarter: int
) -> None:
    found = learnt.stored.setdefault(account, {})
    new = _stored(day, quarter)
    known = found.get(said, stored)
    if known is not None and (known.since < day or known.until > new.until):
        new = _Stored(min(known.since, day), max(known.until, new.until))
    found[said] = new


@lru_cache(maxsize=1 << 12)  # Most share one: what is remembered of them takes no room then.
def _stored(day: int, quarter: int) -> _Stored:
    return _Stored(day, _EPOCH + _QUARTER * (quarter + 1))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


async def _store(
    connection: AsyncConnection, rows: Mapping[tuple[int, str], _Row], now: datetime
) -> AbstractSet[int]:
    """Add to what is known of each user; returns those who are known in several accounts."""
    ordered = sorted(rows)
    values = [rows[one] for one in ordered]
    found = await (await driver(connection)).fetch(
        _ADD,
        integers([user for user, _ in ordered]),
        texts([account for _, account in ordered]),
        integers([row.grouped_on for row in values]),
        integers([row.identified_on for row in values]),
        integers([row.active_on for row in values]),
        integers([row.last_on for row in values]),
        moments([row.last_active_at for row in values]),
        now,
    )
    # The statement does not see its own rows.
    times = Counter(user for user, _ in ordered)
    return {row[0] for row in found} | {user for user, count in times.items() if count > 1}


# A row that says nothing new is left as it is. OFFSET: user by user by the index, whatever the
# planner thinks of its statistics.
_FIRST_DAY: Final = "date '0001-01-01' + (nullif({}, 0) - 1)"
_ADD: Final = f"""
WITH n AS MATERIALIZED (
    SELECT user_key, account_id, {_FIRST_DAY.format("grouped_on")} AS grouped_on,
        {_FIRST_DAY.format("identified_on")} AS identified_on,
        {_FIRST_DAY.format("active_on")} AS active_on, date '0001-01-01' + (last_on - 1) AS last_on,
        {MOMENT.format("nullif(last_active_at, 0)")} AS last_active_at
    FROM unnest($1::text::bigint[], $2::text::text[], $3::text::int[], $4::text::int[],
        $5::text::int[], $6::text::int[], $7::text::bigint[])
        AS n (user_key, account_id, grouped_on, identified_on, active_on, last_on, last_active_at)
), added AS (
    INSERT INTO scoring.memberships AS m (user_key, account_id, grouped_on, identified_on,
        active_on, last_on, last_active_at, learnt_at)
    SELECT *, $8::timestamptz FROM n
    ON CONFLICT (user_key, account_id) DO UPDATE SET
        grouped_on = least(m.grouped_on, EXCLUDED.grouped_on),
        identified_on = least(m.identified_on, EXCLUDED.identified_on),
        active_on = least(m.active_on, EXCLUDED.active_on),
        last_on = greatest(m.last_on, EXCLUDED.last_on),
        last_active_at = greatest(m.last_active_at, EXCLUDED.last_active_at)
    WHERE m.last_on < EXCLUDED.last_on
        OR coalesce(m.last_active_at < EXCLUDED.last_active_at,
            m.last_active_at IS NULL AND EXCLUDED.last_active_at IS NOT NULL)
        OR least(m.grouped_on, EXCLUDED.grouped_on) IS DISTINCT FROM m.grouped_on
        OR least(m.identified_on, EXCLUDED.identified_on) IS DISTINCT FROM m.identified_on
        OR least(m.active_on, EXCLUDED.active_on) IS DISTINCT FROM m.active_on
)
SELECT user_key FROM n WHERE EXISTS (
    SELECT FROM scoring.memberships AS m
    WHERE m.user_key = n.user_key AND m.account_id <> n.account_id OFFSET 0)
"""


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
