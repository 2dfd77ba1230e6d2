"""How the customers of each segment use the product, as one document a month tells it.

Four populations, each counted by itself and none a part of another: who used the product in the
month (`InUse`), who began long enough ago and within what is kept (`Beginnings`), who can be
compared with half a year before (`Growth`), and who stayed or left (`Fates`). Which numbers may be
told, and how exactly, is `anonymity.py`'s; a number that may not be is None, or absent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain import anonymity
from services.scoring.domain.anonymity import Release
from services.scoring.domain.insight_document import (
    Adopted,
    Comparison,
    FeatureUse,
    GrowthPath,
    Insight,
    Milestone,
    Rhythm,
    Size,
    TimeToValue,
    Week,
)
from services.scoring.domain.usage import Floats, Integers

WEEKS: Final = (1, 2, 4, 8, 12)
LIFE_DAYS: Final = 7 * WEEKS[-1]
VALUE_DAYS: Final = 30
"""What "soon" is in the time to value."""

GROWTH: Final = 1.5
"""Who has grown: so many times the users of half a year before, and two more at least."""

MOST_FEATURES: Final = 30
_CANDIDATES: Final = 4 * MOST_FEATURES
BEFORE_DAYS: Final = 90
"""How long before the end of the month, or the loss, those who stay and leave are compared."""

COMPARED: Final = (
    ("active_days_28", "active days in 4 weeks"),
    ("active_users_28", "users in 4 weeks"),
    ("breadth_28", "features used in 4 weeks"),
    ("share_of_known_users", "% of the year's users who still come"),
    ("stickiness", "% of days on which a user comes"),
    ("tickets_28", "tickets in 4 weeks"),
)
"""What those who stay and those who leave are compared by: indicators, and their names."""

_SHARES: Final = frozenset({"share_of_known_users", "stickiness"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """Who used the product in the month's last 28 days, `(accounts,)` each.

    `group` is an index into the segments' names, -1: not known. `hours` per user and week; NaN
    where no user, or no duration, is known.
    """

    group: Integers
    users: Floats
    days: Floats
    hours: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginnings:
    """Who began within what is kept and at least 12 weeks ago, lost since or not.

    `value_days` `(accounts,)`: from the start to the first value, infinite: not reached yet.
    First uses of features are flat `(uses,)`, each account and feature once: `user` the index of
    the account, `feature` one into `features`, `day` of its life from 0 on.
    """

    group: Integers
    value_days: Floats
    value: Milestone
    features: Sequence[str]
    user: Integers
    feature: Integers
    day: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Who was in use in the month's last 28 days and half a year before, `(accounts,)` each."""

    group: Integers
    users_before: Floats
    users_after: Floats
    features_before: Floats
    features_after: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """Who was a customer in the year to the month's end, as far as is known what they did before.

    `left` `(accounts,)`: lost in that year; `indicators` `(accounts, COMPARED)` as they were then,
    NaN not known.
    """

    group: Integers
    left: NDArray[np.bool_]
    indicators: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Customers:
    """The drawn accounts; `segments` are the names of groups."""

    segments: Sequence[str]
    in_use: InUse
    beginnings: Beginnings
    growth: Growth
    fates: Fates


def insights_of(customers: Customers) -> list[Insight]:
    """What may be told of the customers; nothing if they are too few."""
    one = customers.in_use.group
    counted = Table.of(one, np.zeros_like(one), levels=1, groups=len(customers.segments))
    accounts = counted.count(None, 0)
    if accounts is None:
        return []
    sizes = {
        group: size
        for group in range(len(customers.segments))
        if (size := counted.count(group, 0)) is not None
    }
    views = _Views(customers, list(sizes))
    # By what is told of the size: the true order would tell more.
    ordered = sorted(sizes, key=lambda g: (-anonymity.rounded(sizes[g]), customers.segments[g]))
    return [views.insight(None, accounts), *(views.insight(g, sizes[g]) for g in ordered)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Accounts by group and level, and what of it may be told.

    `rows` `(accounts,)`: each one's group, the last one of whoever is told of in none. A group of
    None is all of them.
    """

    rows: Integers
    upto: Integers
    told: Release

    @classmethod
    def of(cls, rows: Integers, level: Integers, *, levels: int, groups: int) -> "Table":
        """`rows` `(accounts,)` -1 or `groups`: in none of them; `level` `(accounts,)`."""
        rows = np.where(rows < 0, groups, rows)
        counts = np.zeros((groups + 1, levels), np.int64)
        np.add.at(counts, (rows, level), 1)
        return cls(rows=rows, upto=np.cumsum(counts, axis=1), told=anonymity.release(counts))

    def split(self, level: Integers, *, levels: int) -> "Table":
        """The same accounts by other levels `(accounts,)`; the same totals are told."""
        return Table.of(self.rows, level, levels=levels, groups=len(self.upto) - 1)

    def count(self, group: int | None, level: int) -> int | None:
        """How many there are at the level, if it may be told."""
        if not self.tells(group, level) or (level and not self.tells(group, level - 1)):
            return None
        row = self._row(group)
        return int(row[level] - (row[level - 1] if level else 0))

    def share(self, group: int | None, level: int) -> float | None:
        """Which share of the group is at most at the level, as it is told."""
        if not self.tells(group, level):
            return None
        row = self._row(group)
        return anonymity.share(int(row[level]), int(row[-1]))

    def tells(self, group: int | None, level: int) -> bool:
        """Whether the number of those up to the level is told, or can be had."""
        return level in self.told.cuts if group is None else self.told.tells(group, level)

    def _row(self, group: int | None) -> Integers:
        row: Integers = self.upto.sum(axis=0) if group is None else self.upto[group]
        return row


class _Views:
    """The tables that a document is made of; a group is a place among those that are told of."""

    def __init__(self, customers: Customers, groups: Sequence[int]) -> None:
        self._customers = customers
        self._groups = len(groups)
        self._place = np.full(len(customers.segments) + 1, len(groups), np.int64)
        self._place[list(groups)] = np.arange(len(groups))
        born, growth, fates = customers.beginnings, customers.growth, customers.fates
        self._born = self._table(born.group, np.zeros_like(born.group), 1)
        self._soon = self._born.split((born.value_days > VALUE_DAYS).astype(np.int64), levels=2)
        self._features = self._adoption()
        self._has_grown = has_grown(growth)
        self._grown = self._table(growth.group, (~self._has_grown).astype(np.int64), 2)
        self._fates = self._table(fates.group, fates.left.astype(np.int64), 2)

    def insight(self, group: int | None, accounts: int) -> Insight:
        at = None if group is None else int(self._place[group])
        features, weeks = self._uses(at)
        return Insight(
            segment=None if group is None else self._customers.segments[group],
            accounts=anonymity.rounded(accounts),
            size=self._size(at),
            rhythm=self._rhythm(at),
            newcomers=_rounded(self._born.count(at, 0)),
            features=features,
            by_week=weeks,
            time_to_value=self._time_to_value(at),
            renewing=_rounded(self._fates.count(at, 0)),
            leaving=_rounded(self._fates.count(at, 1)),
            renewing_vs_leaving=self._comparisons(at),
            growth=self._growth(at),
        )

    def _table(self, group: Integers, level: Integers, levels: int) -> Table:
        return Table.of(self._place[group], level, levels=levels, groups=self._groups)

    def _chosen(self, group: Integers, at: int | None) -> NDArray[np.bool_]:
        return np.ones(len(group), np.bool_) if at is None else self._place[group] == at

    def _adoption(self) -> dict[int, Table]:
        """Of each feature that enough accounts use, who did by which week; the most used first."""
        born = self._customers.beginnings
        late = len(WEEKS)
        found: dict[int, tuple[float, Table]] = {}
        order = np.argsort(born.feature, kind="stable")
        bounds = np.searchsorted(born.feature[order], np.arange(len(born.features) + 1))
        for feature in np.argsort(-np.diff(bounds), kind="stable")[:_CANDIDATES].tolist():
            uses = order[bounds[feature] : bounds[feature + 1]]
            level = np.full(len(born.group), late, np.int64)
            # A life begins with day 0, so week 1 ends with day 6.
            np.minimum.at(level, born.user[uses], np.searchsorted(WEEKS, born.day[uses] // 7 + 1))
            table = self._born.split(level, levels=late + 1)
            share = table.share(None, late - 1)
            if share is not None:
                found[feature] = (share, table)
        ordered = sorted(found, key=lambda one: (-found[one][0], born.features[one]))
        return {one: found[one][1] for one in ordered[:MOST_FEATURES]}

    def _size(self, at: int | None) -> Size:
        one = self._customers.in_use
        users = one.users[self._chosen(one.group, at)]
        low, high = anonymity.middle(users, 0.25), anonymity.middle(users, 0.75)
        return Size(
            median_users=anonymity.middle(users),
            quartiles=None if low is None or high is None else (low, high),
        )

    def _rhythm(self, at: int | None) -> Rhythm:
        one = self._customers.in_use
        chosen = self._chosen(one.group, at)
        return Rhythm(
            days_per_week=anonymity.middle(one.days[chosen] / 4),
            hours_per_user_week=anonymity.middle(one.hours[chosen]),
        )

    def _uses(self, at: int | None) -> tuple[list[FeatureUse], list[Week]]:
        born = self._customers.beginnings
        features = []
        weeks: dict[int, list[Adopted]] = {week: [] for week in WEEKS}
        for feature, table in self._features.items():
            shares = {week: table.share(at, level) for level, week in enumerate(WEEKS)}
            final = shares[WEEKS[-1]]
            if final is None:
                continue
            name = born.features[feature]
            for week, share in shares.items():
                if share is not None:
                    weeks[week].append(Adopted(name=name, share=share))
            half = (week for week, share in shares.items() if share and share >= final / 2)
            features.append(FeatureUse(name=name, share=final, first_week=next(half, None)))
        features.sort(key=lambda one: (-one.share, one.name))
        told = [
            Week(week=week, adopted=sorted(found, key=lambda one: (-one.share, one.name)))
            for week, found in weeks.items()
            if found
        ]
        return features, told

    def _time_to_value(self, at: int | None) -> TimeToValue:
        born = self._customers.beginnings
        median = None
        if self._born.count(at, 0) is not None:
            median = anonymity.middle(born.value_days[self._chosen(born.group, at)])
        return TimeToValue(to=born.value, median_days=median, share_in_30=self._soon.share(at, 0))

    def _comparisons(self, at: int | None) -> list[Comparison]:
        fates = self._customers.fates
        if self._fates.count(at, 0) is None or self._fates.count(at, 1) is None:
            return []
        chosen = self._chosen(fates.group, at)
        found = []
        for column, (indicator, what) in enumerate(COMPARED):
            values = fates.indicators[:, column]
            # In per cent: the grid is made for numbers of that size.
            values = 100 * values if indicator in _SHARES else values
            renewing = anonymity.middle(values[chosen & ~fates.left])
            leaving = anonymity.middle(values[chosen & fates.left])
            if renewing is not None and leaving is not None:
                found.append(
                    Comparison(indicator=indicator, what=what, renewing=renewing, leaving=leaving)
                )
        return found

    def _growth(self, at: int | None) -> GrowthPath:
        growth = self._customers.growth
        share = self._grown.share(at, 0)
        if share is None:
            return GrowthPath(
                share=None,
                users_before=None,
                users_after=None,
                features_before=None,
                features_after=None,
            )
        chosen = self._chosen(growth.group, at) & self._has_grown

        def median(values: Floats) -> float | None:
            return anonymity.middle(values[chosen])

        return GrowthPath(
            share=share,
            users_before=median(growth.users_before),
            users_after=median(growth.users_after),
            features_before=median(growth.features_before),
            features_after=median(growth.features_after),
        )


def has_grown(growth: Growth) -> NDArray[np.bool_]:
    """Who has half as many users again as before, and two more at least, `(accounts,)`."""
    before, after = growth.users_before, growth.users_after
    grown: NDArray[np.bool_] = (after >= GROWTH * before) & (after >= before + 2)
    return grown


def _rounded(count: int | None) -> int | None:
    return None if count is None else anonymity.rounded(count)
