"""Walk-forward: each period of the calendar is ranked by what was learnt before it began.

For training's gate and for `perennial evaluate` alike, and for any learner: the folds depend on
days and outcomes alone. A row teaches a fold only if its outcome was known when the fold began.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import Rows
from services.scoring.domain.model import Calibration, Vector, sigmoid

Lost: TypeAlias = NDArray[np.bool_]
Days: TypeAlias = NDArray[np.int64]

Predict: TypeAlias = Callable[[Rows], Vector]
"""Rows `(rows, features)` to the log-odds of a loss, `(rows,)`."""

Learn: TypeAlias = Callable[[Rows, Lost], Predict]

MIN_LOSSES_TO_CALIBRATE: Final = 200
LEARNT_FIRST: Final = 0.25
"""The share of the span that no fold tests: something must be there to learn from."""

_YEARS_FROM_DAYS = 4 * 365
_HALVES_FROM_DAYS = 2 * 365
_NEWTON_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A period `[start, end)`, ordinals; `train` and `test` `(rows,)`."""

    start: int
    end: int
    train: Lost
    test: Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The tested rows by their index, in the order of time, each with what was said of it.

    `logit` is as the learner said it; `start` is when the row's fold began, an ordinal.
    """

    index: NDArray[np.int64]
    logit: Vector
    start: Days


def folds(
    day: Days, lost: Lost, *, horizon_days: int, first: date | None = None
) -> tuple[Fold, ...]:
    """The periods that can be tested: rows in them, and both outcomes known before them.

    Years where the rows span four years, half-years from two years on, else quarters; `first` is
    the first day that is tested, by default when a quarter of the span is over. `day` `(rows,)`
    is T as an ordinal, `lost` what happened in the `horizon_days` after it.
    """
    if not day.size:
        return ()
    span = int(day.max() - day.min())
    earliest = int(day.min() + LEARNT_FIRST * span) if first is None else first.toordinal()
    found = []
    for start, end in _periods(int(day.min()), int(day.max()), _months(span)):
        train = day + horizon_days < start
        test = (day >= start) & (day < end)
        if start >= earliest and test.any() and 0 < lost[train].sum() < train.sum():
            found.append(Fold(start=start, end=end, train=train, test=test))
    return tuple(found)


def walk_forward(rows: Rows, lost: Lost, learn: Learn, periods: Sequence[Fold]) -> Tested:
    """What `learn` says of each period's rows, having seen what was known before it.

    `rows` `(rows, features)`, `lost` `(rows,)`; raises ValueError without a period.
    """
    if not periods:
        raise ValueError("no period has both rows to test and losses before it to learn from")
    index, logits, starts = [], [], []
    for fold in periods:
        predict = learn(rows[fold.train], lost[fold.train])
        index.append(np.flatnonzero(fold.test))
        logits.append(predict(rows[fold.test]))
        starts.append(np.full(len(index[-1]), fold.start, np.int64))
    return Tested(
        index=np.concatenate(index), logit=np.concatenate(logits), start=np.concatenate(starts)
    )


def calibration_of(logit: Vector, lost: Lost) -> Calibration:
    """The slope and intercept that make log-odds as large as what happened (Platt 1999).

    Fewer than 200 losses cannot tell them: then nothing is changed. A slope never turns round
    what the weights say.
    """
    losses = int(lost.sum())
    if losses < MIN_LOSSES_TO_CALIBRATE or losses == len(lost):
        return Calibration()
    slope, intercept = _newton(logit, lost.astype(np.float64))
    if slope <= 0:
        return Calibration()
    return Calibration(slope=slope, intercept=intercept, losses=losses)


def calibrated(tested: Tested, lost: Lost, day: Days, *, horizon_days: int) -> Vector:
    """The risk of each tested row as it would have been served, `(tested,)`.

    A fold's calibration knows the predictions of earlier folds whose outcomes were known when it
    began, and nothing else: measured on these, calibration is not flattered. `lost` and `day` are
    those of all rows.
    """
    risks = np.empty(len(tested.index))
    happened, when = lost[tested.index], day[tested.index]
    for start in np.unique(tested.start).tolist():
        known = when + horizon_days < start
        found = calibration_of(tested.logit[known], happened[known])
        chosen = tested.start == start
        risks[chosen] = sigmoid(found.slope * tested.logit[chosen] + found.intercept)
    return risks


def _months(span_days: int) -> int:
    if span_days >= _YEARS_FROM_DAYS:
        return 12
    return 6 if span_days >= _HALVES_FROM_DAYS else 3


def _periods(first: int, last: int, months: int) -> list[tuple[int, int]]:
    """Calendar periods of so many months that hold a day from `first` to `last`."""
    start = date.fromordinal(first)
    number = (start.year * 12 + start.month - 1) // months
    found = []
    while (begin := _month(number * months)) <= last:
        number += 1
        found.append((begin, _month(number * months)))
    return found


def _month(number: int) -> int:
    return date(number // 12, number % 12 + 1, 1).toordinal()


def _newton(logit: Vector, lost: Vector) -> tuple[float, float]:
    """Maximum likelihood of two parameters; steps are halved until they help."""
    # Standardised, so that the equations are well conditioned whatever the logits' scale.
    mean, sd = float(logit.mean()), float(logit.std())
    if sd == 0:
        return 0.0, 0.0
    x = (logit - mean) / sd
    base = float(lost.mean())
    parameters = np.array([0.0, np.log(base) - np.log1p(-base)])

    def loss(at: Vector) -> float:
        z = at[0] * x + at[1]
        return float((np.logaddexp(0.0, z) - lost * z).sum())

    now = loss(parameters)
    for _ in range(_NEWTON_STEPS):
        risk = sigmoid(parameters[0] * x + parameters[1])
        residual, spread = risk - lost, risk * (1 - risk)
        gradient = np.array([residual @ x, residual.sum()])
        cross = float(spread @ x)
        hessian = np.array([[spread @ (x * x), cross], [cross, spread.sum()]])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        scale = 1.0
        while (then := loss(parameters - scale * step)) > now and scale > 1e-6:
            scale /= 2
        parameters = parameters - scale * step
        if now - then < 1e-10:
            break
        now = then
    slope = float(parameters[0]) / sd
    return slope, float(parameters[1]) - slope * mean
