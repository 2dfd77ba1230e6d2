"""Success goals: how far each has come on its way, from the values that were reported of it.

A goal promises that a metric of the customer's own moves from its baseline to its target until a
day. Its *line* is the straight way there; it begins with the contract, or with the first value
where that is later: before it nobody knew. A value is compared with the line of its own day, so
that who reports by the quarter does not fall behind in between. Shares are of the whole way:
attained 0 is the baseline, 1 the target.

Values older than `usage.KEPT_DAYS` are forgotten, like all signals.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.grouping import group
from services.scoring.domain.signals import subject_key
from services.scoring.domain.usage import KEPT_DAYS, Floats, Integers, SignalKind, Signals
from shared.messages import AccountFields, Goal

Bools: TypeAlias = NDArray[np.bool_]

BEHIND_OVER: Final = 0.2
"""So much of the whole way behind its line, a goal is called behind."""

_DAY: Final = 86_400_000_000  # microseconds
_EPOCH: Final = date(1970, 1, 1).toordinal()
ROUNDING: Final = 1e-9


class GoalState(StrEnum):
    """How a goal stands."""

    REACHED = "reached"
    """Its newest value is at the target, or the one on the day it was due was."""
    ON_TRACK = "on_track"
    BEHIND = "behind"
    MISSED = "missed"
    """Its day has passed."""
    NO_VALUES = "no_values"


STATES: Final = tuple(GoalState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What was promised, flat `(goals,)`, by ascending `owner`, the account's index.

    `key` names the goal: another target or day makes it another goal. `sign`: 1 up, -1 down.
    `due`, `start` (the contract's) are ordinals, NaN where not known.
    """

    owner: Integers
    key: tuple[str, ...]
    metric: tuple[str, ...]
    subject: Integers
    baseline: Floats
    target: Floats
    sign: Floats
    due: Floats
    start: Floats

    def __len__(self) -> int:
        return len(self.owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What was reported, flat `(values,)`, by goal (its index), then time (epoch microseconds)."""

    goal: Integers
    at: Integers
    value: Floats


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How the goals of `accounts` accounts stand as of the day `as_of` (ordinal, complete).

    `now` in epoch microseconds: values count from their moment on. Vectors are `(goals,)`, NaN
    where a goal has no values, or no day. Improvement is the share of the baseline by which a value
    is better, NaN of a baseline of 0; `promised` is that of the target.
    """

    accounts: int
    as_of: int
    now: int
    goals: Goals
    values: Values

    def take(self, rows: Integers) -> "Standing":
        """Of some accounts only, in their new order; costs no more than they have goals."""
        begin = np.searchsorted(self.goals.owner, rows)
        sizes = np.searchsorted(self.goals.owner, rows, side="right") - begin
        owner = np.repeat(np.arange(len(rows)), sizes)
        return self._chosen(_ranges(begin, sizes), owner, len(rows))

    def without(self, keys: Collection[str]) -> "Standing":
        """All goals but these."""
        kept = np.array([key not in keys for key in self.goals.key], np.bool_)
        return self._chosen(np.flatnonzero(kept), self.goals.owner[kept], self.accounts)

    def _chosen(self, kept: Integers, owner: Integers, accounts: int) -> "Standing":
        goals, values = self.goals, self.values
        sizes = self.first[kept + 1] - self.first[kept]
        places = _ranges(self.first[kept], sizes)
        return replace(
            self,
            accounts=accounts,
            goals=Goals(
                owner=owner,
                key=tuple(goals.key[index] for index in kept.tolist()),
                metric=tuple(goals.metric[index] for index in kept.tolist()),
                subject=goals.subject[kept],
                baseline=goals.baseline[kept],
                target=goals.target[kept],
                sign=goals.sign[kept],
                due=goals.due[kept],
                start=goals.start[kept],
            ),
            values=Values(
                goal=np.repeat(np.arange(len(kept)), sizes),
                at=values.at[places],
                value=values.value[places],
            ),
        )

    @cached_property
    def first(self) -> Integers:
        """Where the values of each goal begin, and at the end where the last one's end."""
        return np.searchsorted(self.values.goal, np.arange(len(self.goals) + 1))

    @cached_property
    def value(self) -> Floats:
        """The newest."""
        return self._newest(self.values.value)

    @cached_property
    def value_at(self) -> Floats:
        return self._newest(self.values.at.astype(np.float64))

    @cached_property
    def improvement(self) -> Floats:
        return _improvement(self.goals, self.value)

    @cached_property
    def promised(self) -> Floats:
        return _improvement(self.goals, self.goals.target)

    @cached_property
    def attained(self) -> Floats:
        return self._newest(self._attained)

    @cached_property
    def expected_now(self) -> Floats:
        """Where the line is as of the day; NaN without a day it is due, or without values."""
        return self._line(np.arange(len(self.goals)), np.full(len(self.goals), float(self.as_of)))

    @cached_property
    def behind(self) -> Floats:
        """How much of the way the newest value is behind the line of its day; negative: ahead."""
        return self._newest(self._behind)

    @cached_property
    def is_due(self) -> Bools:
        """Its day is over."""
        past: Bools = self.goals.due <= self.as_of
        return past

    @cached_property
    def has_values(self) -> Bools:
        return np.diff(self.first) > 0

    @cached_property
    def at_target(self) -> Bools:
        return self._newest(self._at_target.astype(np.float64)) > 0

    @cached_property
    def reached(self) -> Bools:
        if not len(self.values.goal):
            return self.at_target
        in_time = _day_of(self.values.at) <= self.goals.due[self.values.goal]
        on_the_day = self._at_target[self._last(in_time)]
        return self.at_target | (self.is_due & self._any(in_time) & on_the_day)

    @cached_property
    def days_at_target(self) -> Floats:
        """For how long without a break; NaN where it is not."""
        return self._days_of(self._at_target)

    def days_behind(self, over: float) -> Floats:
        """For how long without a break by more than `over` of the way; NaN where it is not."""
        return self._days_of(self._behind > over + ROUNDING)

    @cached_property
    def state(self) -> Integers:
        """Of each goal, an index into `STATES`."""
        state = np.full(len(self.goals), STATES.index(GoalState.ON_TRACK))
        state[self.behind > BEHIND_OVER + ROUNDING] = STATES.index(GoalState.BEHIND)
        state[self.is_due] = STATES.index(GoalState.MISSED)
        state[self.reached] = STATES.index(GoalState.REACHED)
        state[~self.has_values] = STATES.index(GoalState.NO_VALUES)
        return state

    def count(self, chosen: Bools) -> Floats:
        """How many of the chosen goals each account has `(accounts,)`; NaN: it has no values."""
        owner = self.goals.owner
        known = np.bincount(owner[self.has_values], minlength=self.accounts)
        found = np.bincount(owner[chosen], minlength=self.accounts)
        return np.where(known > 0, found, np.nan)

    @cached_property
    def _attained(self) -> Floats:
        """Of each value."""
        goals, of = self.goals, self.values.goal
        with np.errstate(all="ignore"):
            way = (goals.sign * (goals.target - goals.baseline))[of]
            share = goals.sign[of] * (self.values.value - goals.baseline[of]) / way
        # A target that is not ahead of the baseline: there is no way, it is kept or it is not.
        return np.where(way > 0, _finite(share), self._at_target.astype(np.float64))

    @cached_property
    def _at_target(self) -> Bools:
        goals, of = self.goals, self.values.goal
        there: Bools = goals.sign[of] * self.values.value >= (goals.sign * goals.target)[of]
        return there

    @cached_property
    def _behind(self) -> Floats:
        return self._line(self.values.goal, _day_of(self.values.at)) - self._attained

    @cached_property
    def _begins(self) -> Floats:
        first = np.full(len(self.goals), np.nan)
        known = self.has_values
        first[known] = _day_of(self.values.at[self.first[:-1][known]])
        return np.where(known, np.fmax(first, self.goals.start), np.nan)

    def _line(self, goal: Integers, day: Floats) -> Floats:
        """The share of the way that was due on the days, of so many goals."""
        begins, due = self._begins[goal], self.goals.due[goal]
        days = due - begins
        with np.errstate(all="ignore"):
            share = np.clip((day - begins) / days, 0.0, 1.0)
        return np.where(days > 0, share, np.where(np.isnan(days), np.nan, day >= due))

    def _newest(self, of_values: Floats) -> Floats:
        newest = np.full(len(self.goals), np.nan)
        newest[self.has_values] = of_values[self.first[1:][self.has_values] - 1]
        return newest

    def _any(self, of_values: Bools) -> Bools:
        return np.bincount(self.values.goal[of_values], minlength=len(self.goals)) > 0

    def _last(self, of_values: Bools) -> Integers:
        """The place of each goal's last value that is so; any, where there is none."""
        places = np.flatnonzero(of_values)
        last = np.zeros(len(self.goals), np.int64)
        # In the order of time: the last one written stays.
        last[self.values.goal[places]] = places
        return last

    def _days_of(self, of_values: Bools) -> Floats:
        """Since when the values have been so without a break, in whole days of 24 hours."""
        broken = np.flatnonzero(~of_values)
        since = self.first[:-1].copy()
        since[self.values.goal[broken]] = broken + 1
        lasts = np.flatnonzero(since < self.first[1:])
        days = np.full(len(self.goals), np.nan)
        days[lasts] = (self.now - self.values.at[since[lasts]]) // _DAY
        return days


def standing(
    fields: Sequence[AccountFields], signals: Signals, *, as_of: date, now: int
) -> Standing:
    """How the goals in the accounts' records stand; the signals are of the same accounts.

    Only accounts with goals cost anything.
    """
    goals = _goals(fields)
    return Standing(
        accounts=len(fields),
        as_of=as_of.toordinal(),
        now=now,
        goals=goals,
        values=_values(goals, signals, now),
    )


def _goals(fields: Sequence[AccountFields]) -> Goals:
    promised = [
        (owner, one, goal) for owner, one in enumerate(fields) if one.goals for goal in one.goals
    ]
    return Goals(
        owner=np.array([owner for owner, _, _ in promised], np.int64),
        key=tuple(key_of(goal) for _, _, goal in promised),
        metric=tuple(goal.metric for _, _, goal in promised),
        subject=np.array([subject_key(goal.metric.strip()) for _, _, goal in promised], np.int64),
        baseline=np.array([goal.baseline for _, _, goal in promised], np.float64),
        target=np.array([goal.target for _, _, goal in promised], np.float64),
        sign=np.array([1.0 if goal.direction == "up" else -1.0 for _, _, goal in promised]),
        due=_ordinals([goal.due for _, _, goal in promised]),
        start=_ordinals([one.contract_start for _, one, _ in promised]),
    )


def key_of(goal: Goal) -> str:
    """The same for the same promise, whenever it is read."""
    words = (goal.metric, goal.baseline, goal.target, goal.direction, goal.due)
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def _values(goals: Goals, signals: Signals, now: int) -> Values:
    nothing = np.empty(0, np.int64)
    if not len(goals):
        return Values(goal=nothing, at=nothing, value=np.empty(0))
    counts = (signals.kind == SignalKind.GOAL_METRIC) & (signals.at <= now)
    chosen = np.flatnonzero(counts & (signals.at > now - KEPT_DAYS * _DAY))
    groups = group(
        np.concatenate((signals.owner[chosen], goals.owner)),
        np.concatenate((signals.subject[chosen], goals.subject)),
    )
    codes = np.empty(len(groups.order), np.int64)
    codes[groups.order] = np.repeat(np.arange(len(groups)), groups.sizes())
    known, wanted = codes[: len(chosen)], codes[len(chosen) :]
    order = np.lexsort((signals.value[chosen], signals.at[chosen], known))
    chosen, known = chosen[order], known[order]
    first = np.searchsorted(known, wanted)
    sizes = np.searchsorted(known, wanted, side="right") - first
    goal = np.repeat(np.arange(len(goals)), sizes)
    # Two goals of one account may be of the same metric: each has its own copy of the values.
    place = chosen[_ranges(first, sizes)]
    return Values(goal=goal, at=signals.at[place], value=signals.value[place])


def _ranges(begin: Integers, sizes: Integers) -> Integers:
    """`begin`, `begin` + 1 ... of each, so many as its size, one after the other."""
    offsets = np.repeat(begin - np.cumsum(sizes) + sizes, sizes)
    return np.arange(len(offsets)) + offsets


def _improvement(goals: Goals, value: Floats) -> Floats:
    with np.errstate(all="ignore"):
        better = goals.sign * (value - goals.baseline) / np.abs(goals.baseline)
    return np.where(goals.baseline == 0, np.nan, _finite(better))


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _day_of(at: Integers) -> Floats:
    return (at // _DAY + _EPOCH).astype(np.float64)


def _ordinals(days: Sequence[date | None]) -> Floats:
    # None becomes NaN.
    return np.array([None if day is None else day.toordinal() for day in days], np.float64)


NOBODYS: Final = standing(
    (),
    Signals(
        owner=np.empty(0, np.int64),
        at=np.empty(0, np.int64),
        kind=np.empty(0, np.int64),
        user=np.empty(0, np.int64),
        subject=np.empty(0, np.int64),
        value=np.empty(0),
    ),
    as_of=date(1970, 1, 1),
    now=0,
)
"""Of accounts without goals."""
