"""Walk-forward: what a period is told by, and how calibration is learnt beside it."""

from datetime import date, timedelta

import numpy as np
import pytest

from services.scoring.domain.features import Rows
from services.scoring.domain.model import Vector, logit, sigmoid
from services.scoring.walkforward import (
    Days,
    Lost,
    Predict,
    calibrated,
    calibration_of,
    folds,
    walk_forward,
)


def weekly(first: date, last: date) -> Days:
    return np.arange(first.toordinal(), last.toordinal() + 1, 7)


def alternating(day: Days) -> Lost:
    even: Lost = np.arange(len(day)) % 2 == 0
    return even


def starts(begin: date, end: date, *, first: date | None = None) -> list[date]:
    day = weekly(begin, end)
    found = folds(day, alternating(day), horizon_days=90, first=first)
    return [date.fromordinal(fold.start) for fold in found]


def by_first_column(rows: Rows, lost: Lost) -> Predict:
    """The mean outcome of what was taught, and one column as it is."""
    base = logit(float(lost.mean()))

    def predict(tested: Rows) -> Vector:
        logits: Vector = tested[:, 0] + base + 0 * rows[0, 0]
        return logits

    return predict


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        pytest.param(
            date(2020, 1, 1),
            date(2024, 1, 15),  # 1,475 days, of which the first 369 are learnt from
            [date(2022, 1, 1), date(2023, 1, 1), date(2024, 1, 1)],
            id="four years: years",
        ),
        pytest.param(
            date(2022, 1, 1),
            date(2024, 2, 1),
            [date(2023, 1, 1), date(2023, 7, 1), date(2024, 1, 1)],
            id="two years: halves",
        ),
        pytest.param(
            date(2024, 1, 1),
            date(2024, 12, 1),
            # 90 days after the first rows are over: from 1 April on, but both rows of 1 and 8
            # January must be known, the second on 7 April.
            [date(2024, 7, 1), date(2024, 10, 1)],
            id="less: quarters",
        ),
    ],
)
def test_periods_are_those_of_the_calendar(first: date, last: date, expected: list[date]) -> None:
    assert starts(first, last) == expected


def test_the_first_tested_day_may_be_chosen() -> None:
    found = starts(date(2012, 1, 1), date(2018, 6, 1), first=date(2016, 1, 1))
    assert found == [date(2016, 1, 1), date(2017, 1, 1), date(2018, 1, 1)]


def test_a_row_teaches_only_what_was_known_when_the_period_began() -> None:
    day = weekly(date(2012, 1, 1), date(2018, 6, 1))
    for fold in folds(day, alternating(day), horizon_days=90):
        assert (day[fold.train] + 90 < fold.start).all()
        assert (day[fold.test] >= fold.start).all()
        assert (day[fold.test] < fold.end).all()


def test_what_came_later_changes_no_fold_before() -> None:
    day = weekly(date(2012, 1, 1), date(2018, 6, 1))
    lost, first = alternating(day), date(2014, 1, 1)
    cut = date(2016, 12, 31).toordinal()
    known = day <= cut
    whole = folds(day, lost, horizon_days=90, first=first)
    shorter = folds(day[known], lost[known], horizon_days=90, first=first)
    assert len(shorter) == 3
    for one, other in zip(whole, shorter, strict=False):
        assert np.array_equal(one.train[known], other.train)
        assert np.array_equal(one.test[known], other.test)


def test_nothing_to_learn_from_is_an_error() -> None:
    day = weekly(date(2020, 1, 1), date(2020, 3, 1))
    periods = folds(day, alternating(day), horizon_days=90)
    with pytest.raises(ValueError, match="no period"):
        walk_forward(np.zeros((len(day), 1)), alternating(day), by_first_column, periods)
    assert folds(day[:0], alternating(day[:0]), horizon_days=90) == ()


def simulated(count: int, *, slope: float, shift: float) -> tuple[Vector, Lost]:
    """Log-odds and losses that happen with the risk of slope x log-odds + shift."""
    generator = np.random.default_rng(5)
    said = generator.normal(-1, 1, count)
    return said, generator.random(count) < sigmoid(slope * said + shift)


def test_a_calibration_finds_what_the_risk_really_was() -> None:
    said, lost = simulated(40_000, slope=0.6, shift=0.4)
    found = calibration_of(said, lost)
    assert found.slope == pytest.approx(0.6, abs=0.03)
    assert found.intercept == pytest.approx(0.4, abs=0.05)
    # Of maximum likelihood: the mean risk is the mean loss, exactly.
    risk = sigmoid(found.slope * said + found.intercept)
    assert risk.mean() == pytest.approx(lost.mean(), abs=1e-6)


def test_too_few_losses_calibrate_nothing() -> None:
    said, lost = simulated(2_000, slope=0.6, shift=0.4)
    few = np.flatnonzero(lost)[199:]
    lost[few] = False
    assert calibration_of(said, lost).losses == 0
    lost[few[0]] = True
    assert calibration_of(said, lost).losses == 200


def test_a_ranking_that_is_upside_down_is_not_turned_round() -> None:
    said, lost = simulated(5_000, slope=-1.0, shift=0.0)
    assert calibration_of(said, lost).slope == 1.0


def test_a_period_is_calibrated_by_those_before_it_alone() -> None:
    day = np.repeat(weekly(date(2012, 1, 1), date(2018, 12, 20)), 20)
    said, lost = simulated(len(day), slope=0.5, shift=0.0)
    tested = walk_forward(said[:, None], lost, by_first_column, folds(day, lost, horizon_days=90))
    risks = calibrated(tested, lost, day, horizon_days=90)
    first = tested.start == tested.start.min()
    assert np.array_equal(risks[first], sigmoid(tested.logit[first]))
    assert not np.allclose(risks[~first], sigmoid(tested.logit[~first]))
    # The last period's outcomes change nothing that was said.
    last = int(tested.start.max())
    other = np.where(day >= last - 90, ~lost, lost)
    assert np.array_equal(calibrated(tested, other, day, horizon_days=90), risks)


def test_dates_count_from_the_day_itself() -> None:
    # 1 January 2016 less 90 days is 3 October: its outcome is known on the evening of 1 January.
    day = np.array([(date(2016, 1, 1) - timedelta(days=age)).toordinal() for age in (92, 91, 90)])
    day = np.append(day, date(2016, 1, 1).toordinal())
    lost = np.array([True, False, True, True])
    (fold,) = folds(day, lost, horizon_days=90, first=date(2016, 1, 1))
    assert fold.train.tolist() == [True, True, False, False]
