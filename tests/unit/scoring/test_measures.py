"""The measures agree with scikit-learn's, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from services.scoring.measures import (
    average_precision,
    calibration_error,
    lift_at,
    ranking_auc,
    reliability,
)

OUTCOMES = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60).filter(
    lambda pairs: 0 < sum(lost for lost, _ in pairs) < len(pairs)
)


@given(OUTCOMES)
def test_auc_and_average_precision_are_the_usual_ones(pairs: list[tuple[bool, int]]) -> None:
    lost = np.array([one for one, _ in pairs])
    score = np.array([one / 10 for _, one in pairs])
    assert ranking_auc(lost, score) == pytest.approx(roc_auc_score(lost, score))
    assert average_precision(lost, score) == pytest.approx(average_precision_score(lost, score))


def test_the_lift_is_the_share_of_losses_at_the_top_over_the_base() -> None:
    lost = np.array([True, True, False, False, False, False, False, False, False, False])
    score = np.arange(10, 0, -1).astype(np.float64)
    # The top 2 of 10 are both lost; base 0.2.
    assert lift_at(lost, score, 0.2) == pytest.approx(5)
    # The top 4 hold 2: 0.5 / 0.2.
    assert lift_at(lost, score, 0.4) == pytest.approx(2.5)


def test_rows_tied_at_the_cut_count_in_part() -> None:
    lost = np.array([True, False, False, False])
    # The first of four equals: a quarter of a loss in one row, base a quarter.
    assert lift_at(lost, np.ones(4), 0.25) == pytest.approx(1)


def test_the_calibration_error_is_the_weighted_gap() -> None:
    lost = np.array([False, True] * 10)
    # Ten bins of two rows: each one predicts 0.4 and observes 0.5.
    assert calibration_error(lost, np.full(20, 0.4)) == pytest.approx(0.1)


def test_the_bins_hold_equally_many_rows_from_low_to_high() -> None:
    probability = np.linspace(0, 1, 40)
    bins = reliability(probability > 0.5, probability)
    assert [one.rows for one in bins] == [4] * 10
    assert [one.observed for one in bins] == [0] * 5 + [1] * 5
