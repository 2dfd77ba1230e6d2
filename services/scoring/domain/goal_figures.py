"""What became of many goals: how many stand where, and how much better the metrics are."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.domain.goals import STATES, GoalState, Standing
from services.scoring.domain.usage import Floats, Integers

FEWEST_ACCOUNTS: Final = 10
"""Of fewer no rate is told."""

NO_PART: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalFigures:
    """Of the goals of some accounts.

    `mean_improvement`: of all goals with a value and a baseline that is not 0, each counts once;
    `top_improvement`: of the best tenth of them, at least one. `success_rate`: the share that is
    reached of those with values; None of fewer than 10 accounts.
    """

    accounts: int
    goals: int
    reached: int
    on_track: int
    behind: int
    missed: int
    no_values: int
    mean_improvement: float | None
    top_improvement: float | None
    success_rate: float | None


def figures(standing: Standing, part: Integers, parts: int) -> list[GoalFigures]:
    """The figures of each part; `part` `(goals,)` is the part of each goal, or `NO_PART`."""
    chosen = part != NO_PART
    owner, state, part = standing.goals.owner[chosen], standing.state[chosen], part[chosen]
    counts = np.zeros((parts, len(STATES)), np.int64)
    np.add.at(counts, (part, state), 1)
    # An account is in one part.
    pairs = np.unique(np.column_stack((part, owner)), axis=0)
    accounts = np.bincount(pairs[:, 0], minlength=parts)
    means, tops = _improvements(standing.improvement[chosen], part, parts)
    return [
        _figures(int(accounts[index]), counts[index].tolist(), means[index], tops[index])
        for index in range(parts)
    ]


def _figures(accounts: int, counts: list[int], mean: float, top: float) -> GoalFigures:
    by = dict(zip(STATES, counts, strict=True))
    told = sum(counts) - by[GoalState.NO_VALUES]
    is_enough = accounts >= FEWEST_ACCOUNTS and told > 0
    return GoalFigures(
        accounts=accounts,
        goals=sum(counts),
        reached=by[GoalState.REACHED],
        on_track=by[GoalState.ON_TRACK],
        behind=by[GoalState.BEHIND],
        missed=by[GoalState.MISSED],
        no_values=by[GoalState.NO_VALUES],
        mean_improvement=None if np.isnan(mean) else mean,
        top_improvement=None if np.isnan(top) else top,
        success_rate=by[GoalState.REACHED] / told if is_enough else None,
    )


def _improvements(improvement: Floats, part: Integers, parts: int) -> tuple[list[float], ...]:
    """The mean of each part, and that of its best tenth; NaN where there is none."""
    known = ~np.isnan(improvement)
    improvement, part = improvement[known], part[known]
    order = np.lexsort((-improvement, part))
    improvement, part = improvement[order], part[order]
    sizes = np.bincount(part, minlength=parts)
    place = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # A tenth, rounded up: 1 of 10, 2 of 11.
    best = place < -(-sizes // 10)[part]
    return (
        _means(improvement, part, parts),
        _means(improvement[best], part[best], parts),
    )


def _means(values: Floats, part: Integers, parts: int) -> list[float]:
    sizes = np.bincount(part, minlength=parts)
    sums = np.bincount(part, values, parts)
    means: list[float] = np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan).tolist()
    return means
