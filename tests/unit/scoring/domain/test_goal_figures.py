"""The department's view of goals: counted and averaged by hand, and the parts sum to the whole."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.goal_figures import NO_PART, GoalFigures, figures
from services.scoring.domain.goals import Standing, standing
from services.scoring.domain.usage import History, microseconds, usage_of
from shared.messages import AccountFields, Goal
from tests.unit.scoring.domain.test_goals import noon, reported
from tests.unit.scoring.factories import AS_OF


def of(*accounts: Sequence[float | None], target: float = 110) -> Standing:
    """Accounts with goals from 100 up, each with its newest value; None: it has none."""
    day = AS_OF - timedelta(days=1)
    fields, histories = [], []
    for values in accounts:
        names = [f"metric {place}" for place in range(len(values))]
        fields.append(
            AccountFields(goals=tuple(Goal(metric=n, baseline=100, target=target) for n in names))
        )
        told = [(name, value) for name, value in zip(names, values, strict=True) if value]
        histories.append(History(signals=[reported(day, value, name) for name, value in told]))
    return standing(
        fields,
        usage_of(histories).signals,
        as_of=AS_OF,
        now=microseconds(noon(AS_OF + timedelta(days=1))),
    )


def whole(goals: Standing) -> GoalFigures:
    return figures(goals, np.zeros(len(goals.goals), np.int64), 1)[0]


def test_the_department_is_better_by_five_percent_and_its_best_tenth_by_fifteen() -> None:
    # 115 once, 104 eighteen times, 103 once: (15 + 18 x 4 + 3) / 20 = 4.5; the best two: 9.5.
    found = whole(of([115.0], *[[104.0]] * 18, [103.0]))
    assert found.mean_improvement == pytest.approx(0.045)
    assert found.top_improvement == pytest.approx((0.15 + 0.04) / 2)
    # 1 of 20 has come to 110.
    assert (found.reached, found.on_track, found.success_rate) == (1, 19, 0.05)


def test_an_account_with_two_goals_counts_once_and_each_goal_once() -> None:
    found = whole(of([112.0, 104.0], [None]))
    assert (found.accounts, found.goals, found.no_values) == (2, 3, 1)
    assert found.mean_improvement == pytest.approx(0.08)


def test_no_rate_is_told_of_fewer_than_ten_accounts() -> None:
    assert whole(of(*[[120.0]] * 9)).success_rate is None
    assert whole(of(*[[120.0]] * 10)).success_rate == 1.0
    assert whole(of(*[[None]] * 10)).success_rate is None


def test_without_values_there_is_no_mean() -> None:
    found = whole(of([None]))
    assert (found.mean_improvement, found.top_improvement) == (None, None)
    nobody = whole(of())
    assert (nobody.accounts, nobody.goals, nobody.mean_improvement) == (0, 0, None)


ACCOUNTS = st.lists(
    st.tuples(
        st.sampled_from([NO_PART, 0, 1, 2]),
        st.lists(st.sampled_from([None, 90.0, 100.0, 105.0, 112.0, 130.0]), max_size=3),
    ),
    max_size=30,
)


@given(accounts=ACCOUNTS)
def test_the_parts_sum_to_the_whole(
    accounts: list[tuple[int, list[float | None]]],
) -> None:
    goals = of(*[values for _, values in accounts])
    part = np.array([accounts[owner][0] for owner in goals.goals.owner.tolist()], np.int64)
    parts = figures(goals, part, 3)
    (all_of,) = figures(goals, np.minimum(part, 0), 1)
    for name in ("accounts", "goals", "reached", "on_track", "behind", "missed", "no_values"):
        assert sum(getattr(one, name) for one in parts) == getattr(all_of, name), name
    told = [one.goals - one.no_values for one in parts]
    sums = [(one.mean_improvement or 0.0) * count for one, count in zip(parts, told, strict=True)]
    assert (all_of.mean_improvement or 0.0) * sum(told) == pytest.approx(sum(sums))
    for one in parts:
        if one.mean_improvement is not None:
            assert one.top_improvement is not None
            assert one.top_improvement >= one.mean_improvement - 1e-12
