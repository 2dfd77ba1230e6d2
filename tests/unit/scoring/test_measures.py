"""The measures agree with scikit-learn's, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from services.scoring.measures import (
    auc_intervals,
    average_precision,
    brier,
    calibration_error,
    lift_at,
    precision_and_recall,
    precision_at_capacity,
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


def test_the_brier_score_is_the_mean_squared_gap() -> None:
    # The gaps are 0.3, 0.4 and 0.
    lost = np.array([True, False, True])
    assert brier(lost, np.array([0.7, 0.4, 1.0])) == pytest.approx((0.09 + 0.16) / 3)


def test_precision_at_capacity_is_of_the_highest_of_each_group() -> None:
    lost = np.array([True, False, True, True, False, False])
    score = np.array([0.9, 0.8, 0.1, 0.3, 0.5, 0.4])
    group = np.array([1, 1, 1, 2, 2, 2])
    # The top 2 of group 1 hold 1 loss, those of group 2 none: 1 of 4.
    assert precision_at_capacity(lost, score, group, 2) == pytest.approx(1 / 4)
    # A capacity above a group's size takes all of it: 3 of 6.
    assert precision_at_capacity(lost, score, group, 10) == pytest.approx(3 / 6)


def test_ties_at_the_capacity_count_in_part() -> None:
    lost = np.array([True, False, False, False])
    assert precision_at_capacity(lost, np.ones(4), np.zeros(4, np.int64), 1) == pytest.approx(1 / 4)


def test_precision_and_recall_go_from_the_highest_score_down() -> None:
    lost = np.array([True, False, True, False])
    precision, recall = precision_and_recall(lost, np.array([4.0, 3.0, 2.0, 1.0]))
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4])
    assert recall.tolist() == pytest.approx([1 / 2, 1 / 2, 1, 1])


def test_the_interval_is_that_of_drawn_accounts_written_out() -> None:
    generator = np.random.default_rng(7)
    account = generator.integers(0, 30, 300)
    lost = generator.random(300) < 0.3
    score = np.round(lost + generator.normal(0, 1.5, 300), 1)  # With ties.
    fast = auc_intervals(lost, {"one": score}, account, resamples=400)["one"]
    names = np.unique(account)
    draws = np.random.default_rng(0).integers(0, len(names), (400, len(names)))
    slow = []
    for draw in draws:
        rows = np.concatenate([np.flatnonzero(account == names[one]) for one in draw.tolist()])
        slow.append(roc_auc_score(lost[rows], score[rows]))
    assert fast == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))


def test_an_interval_of_one_outcome_is_not_known() -> None:
    lost = np.zeros(6, np.bool_)
    found = auc_intervals(lost, {"one": np.arange(6.0)}, np.arange(6), resamples=10)
    assert np.isnan(found["one"]).all()


def test_rows_of_one_account_widen_the_interval() -> None:
    generator = np.random.default_rng(1)
    lost = np.repeat(generator.random(40) < 0.4, 20)
    score = np.repeat(generator.normal(0, 1, 40), 20) + lost
    by_account = auc_intervals(lost, {"one": score}, np.repeat(np.arange(40), 20))["one"]
    by_row = auc_intervals(lost, {"one": score}, np.arange(800))["one"]
    assert by_account[1] - by_account[0] > 2 * (by_row[1] - by_row[0])
