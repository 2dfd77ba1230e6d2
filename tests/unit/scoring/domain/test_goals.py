"""Goals: the line, the share of the way, what counts as reached, behind and missed."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from math import isnan
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.goals import STATES, Standing, key_of, standing
from services.scoring.domain.signals import subject_key
from services.scoring.domain.usage import History, Signal, SignalKind, microseconds, usage_of
from shared.messages import AccountFields, Goal
from tests.unit.scoring.domain.goals_by_hand import ByHand, stand
from tests.unit.scoring.factories import AS_OF

METRIC = "time_to_invoice"
START = date(2025, 11, 20)
# From START to DUE are 200 days, to AS_OF 100: half of the way is due.
DUE = START + timedelta(days=200)
HALFWAY = AS_OF


def goal(**changes: Any) -> Goal:
    """Down from 100 to 80 within 200 days: 20 % better."""
    one = Goal(metric=METRIC, baseline=100, target=80, direction="down", due=DUE)
    return msgspec.structs.replace(one, **changes)


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def reported(day: date, value: float, metric: str = METRIC) -> Signal:
    return Signal(
        at=noon(day), kind=SignalKind.GOAL_METRIC, subject=subject_key(metric), value=value
    )


def of_one(
    goals: Sequence[Goal],
    values: Sequence[Signal],
    *,
    as_of: date = AS_OF,
    start: date | None = START,
) -> Standing:
    """How one account's goals stand at noon of the day after `as_of`."""
    return standing(
        [AccountFields(goals=tuple(goals), contract_start=start)],
        usage_of([History(signals=values)]).signals,
        as_of=as_of,
        now=microseconds(noon(as_of + timedelta(days=1))),
    )


def state_of(found: Standing, index: int = 0) -> str:
    return STATES[int(found.state[index])].value


def test_the_dates_of_these_tests_are_as_they_say() -> None:
    assert (HALFWAY - START).days == 100
    assert (DUE - START).days == 200


def test_improvement_is_the_change_by_its_baseline_in_the_direction_of_the_goal() -> None:
    down = of_one([goal()], [reported(START, 100), reported(HALFWAY, 88)])
    # (100 - 88) / 100 of the 20 % promised; 12 of 20 of the way, 100 of 200 days.
    assert down.improvement[0] == pytest.approx(0.12)
    assert down.promised[0] == pytest.approx(0.20)
    assert down.attained[0] == pytest.approx(0.6)
    assert down.expected_now[0] == pytest.approx(0.5)
    up = of_one([goal(direction="up", target=115)], [reported(HALFWAY, 94)])
    # (94 - 100) / 100, -6 of 15.
    assert up.improvement[0] == pytest.approx(-0.06)
    assert up.attained[0] == pytest.approx(-0.4)


def test_the_improvement_of_a_negative_baseline_is_by_its_size() -> None:
    found = of_one([goal(baseline=-50, target=-25, direction="up")], [reported(HALFWAY, -40)])
    # From -50 to -40 it is better by 10, and 10 of 50 are a fifth.
    assert found.improvement[0] == pytest.approx(0.2)
    assert found.promised[0] == pytest.approx(0.5)


def test_of_a_baseline_of_nothing_there_is_a_way_but_no_share() -> None:
    found = of_one([goal(baseline=0, target=40, direction="up")], [reported(HALFWAY, 10)])
    assert np.isnan(found.improvement[0])
    assert np.isnan(found.promised[0])
    assert found.attained[0] == 0.25


@pytest.mark.parametrize(
    ("value", "state"),
    [
        # On day 100 of 200 half of the way is due: 90. A fifth of the way is 4.
        pytest.param(80.0, "reached", id="at the target"),
        pytest.param(80.1, "on_track", id="nearly at the target"),
        pytest.param(94.0, "on_track", id="a fifth of the way behind is not more than a fifth"),
        pytest.param(94.1, "behind", id="more than a fifth of the way behind"),
        pytest.param(130.0, "behind", id="it went the wrong way"),
    ],
)
def test_a_goal_is_behind_from_a_fifth_of_the_way_on(value: float, state: str) -> None:
    found = of_one([goal()], [reported(START, 100), reported(HALFWAY, value)])
    assert state_of(found) == state


def test_who_reports_by_the_quarter_is_compared_with_the_line_of_that_day() -> None:
    # On day 40 a fifth of the way was due: 96; half of it is due by now.
    found = of_one([goal()], [reported(START, 100), reported(START + timedelta(days=40), 96)])
    assert found.expected_now[0] == pytest.approx(0.5)
    assert found.behind[0] == pytest.approx(0.0)
    assert state_of(found) == "on_track"


def test_the_line_begins_with_the_first_value_where_that_is_later_than_the_contract() -> None:
    # Of the 100 days from HALFWAY to DUE none has gone.
    late = of_one([goal()], [reported(HALFWAY, 100)])
    assert late.expected_now[0] == 0.0
    assert state_of(late) == "on_track"
    # Without a contract's start, from the first value on too.
    assert of_one([goal()], [reported(START, 99)], start=None).expected_now[0] == 0.5


def test_a_goal_without_a_day_is_never_behind_nor_missed() -> None:
    found = of_one([goal(due=None)], [reported(START, 100), reported(HALFWAY, 140)])
    assert np.isnan(found.expected_now[0])
    assert state_of(found) == "on_track"


def test_a_goal_is_missed_once_its_day_is_over() -> None:
    values = [reported(START, 100), reported(HALFWAY, 81)]
    assert state_of(of_one([goal()], values, as_of=DUE - timedelta(days=1))) == "on_track"
    assert state_of(of_one([goal()], values, as_of=DUE)) == "missed"


def test_what_was_reached_on_its_day_stays_reached_and_late_is_better_than_never() -> None:
    after = DUE + timedelta(days=30)
    fell_back = [reported(DUE, 80), reported(DUE + timedelta(days=1), 95)]
    assert state_of(of_one([goal()], fell_back, as_of=after)) == "reached"
    late = [reported(DUE, 81), reported(DUE + timedelta(days=1), 80)]
    assert state_of(of_one([goal()], late, as_of=after)) == "reached"
    before_only = [reported(HALFWAY, 80), reported(DUE, 95)]
    assert state_of(of_one([goal()], before_only, as_of=after)) == "missed"


def test_without_values_nothing_is_said_of_a_goal() -> None:
    others = [reported(HALFWAY, 70, "something_else")]
    for as_of in (HALFWAY, DUE + timedelta(days=90)):
        found = of_one([goal()], others, as_of=as_of)
        assert state_of(found) == "no_values"
        assert np.isnan(found.attained[0])
        assert np.isnan(found.count(np.array([True]))[0])


def test_values_count_from_their_moment_on_and_for_four_hundred_days() -> None:
    noon_after = HALFWAY + timedelta(days=1)
    future = [reported(START, 100), reported(noon_after + timedelta(days=1), 80)]
    assert of_one([goal()], future).value[0] == 100
    # 400 days before the noon of the look is too long ago, 399 are not.
    old = goal(due=None)
    for age, state in ((400, "no_values"), (399, "on_track")):
        values = [reported(noon_after - timedelta(days=age), 90)]
        assert state_of(of_one([old], values)) == state


def test_a_target_behind_the_baseline_is_kept_or_not() -> None:
    # "Stay below 120": there is no way to go.
    keep = goal(target=120)
    assert of_one([keep], [reported(HALFWAY, 110)]).attained[0] == 1.0
    assert state_of(of_one([keep], [reported(HALFWAY, 110)])) == "reached"
    assert of_one([keep], [reported(HALFWAY, 121)]).attained[0] == 0.0


def test_two_goals_of_one_metric_have_the_same_values() -> None:
    year = goal(target=60, due=START + timedelta(days=400))
    found = of_one([goal(), year], [reported(START, 100), reported(HALFWAY, 90)])
    assert found.attained.tolist() == [0.5, 0.25]
    assert found.value.tolist() == [90, 90]


def test_another_day_or_target_makes_it_another_goal() -> None:
    keys = {
        key_of(one) for one in (goal(), goal(), goal(due=None), goal(target=79), goal(metric="x"))
    }
    assert len(keys) == 4


def test_a_run_at_the_target_begins_anew_after_each_break() -> None:
    days = [START + timedelta(days=n) for n in (0, 30, 60, 80)]
    kept = of_one([goal()], [reported(day, 79) for day in days])
    # From noon of day 0 to noon of day 101.
    assert kept.days_at_target[0] == 101
    values = [reported(day, value) for day, value in zip(days, (79, 90, 79, 78), strict=True)]
    assert of_one([goal()], values).days_at_target[0] == 41
    broken = [reported(day, value) for day, value in zip(days, (79, 79, 79, 81), strict=True)]
    assert np.isnan(of_one([goal()], broken).days_at_target[0])


def test_numbers_as_large_as_they_come_break_nothing() -> None:
    found = of_one([goal(baseline=-1.5e308, target=1.5e308, direction="up")], [reported(START, 0)])
    assert np.isnan(found.promised[0])
    assert state_of(found) == "on_track"


DAYS = st.integers(-150, 250).map(lambda days: AS_OF + timedelta(days=days - 100))
NUMBERS = st.integers(-4, 4).map(float)
GOALS = st.builds(
    Goal,
    metric=st.sampled_from(["a", "b"]),
    baseline=NUMBERS,
    target=NUMBERS,
    direction=st.sampled_from(["up", "down"]),
    due=st.none() | DAYS,
)
ACCOUNTS = st.lists(
    st.tuples(
        st.lists(GOALS, max_size=3),
        st.none() | DAYS,
        st.lists(
            st.tuples(st.sampled_from(["a", "b"]), DAYS, NUMBERS),
            max_size=6,
            unique_by=lambda value: value[:2],
        ),
    ),
    max_size=4,
)


@given(accounts=ACCOUNTS)
def test_all_goals_at_once_stand_as_each_one_by_hand(
    accounts: list[tuple[list[Goal], date | None, list[tuple[str, date, float]]]],
) -> None:
    now = noon(AS_OF + timedelta(days=1))
    found = standing(
        [AccountFields(goals=tuple(goals), contract_start=start) for goals, start, _ in accounts],
        usage_of(
            [
                History(signals=[reported(day, value, name) for name, day, value in values])
                for _, _, values in accounts
            ]
        ).signals,
        as_of=AS_OF,
        now=microseconds(now),
    )
    expected = [
        stand(
            one,
            start,
            sorted((noon(day), value) for name, day, value in values if name == one.metric),
            as_of=AS_OF,
            now=now,
        )
        for goals, start, values in accounts
        for one in goals
    ]
    assert [_seen(found, index) for index in range(len(found.goals))] == expected
    # Each account alone, and all of them backwards, are the same goals.
    rows = np.arange(len(accounts))[::-1]
    turned = found.take(rows)
    back = turned.take(rows)
    assert [_seen(back, index) for index in range(len(back.goals))] == expected
    for index in range(len(accounts)):
        alone = found.take(np.array([index]))
        own = [_seen(alone, place) for place in range(len(alone.goals))]
        assert own == [
            expected[place] for place in np.flatnonzero(found.goals.owner == index).tolist()
        ]


def _seen(found: Standing, index: int) -> ByHand:
    def number(value: float) -> Any:
        return None if isnan(value) else pytest.approx(value)

    def days(value: float) -> int | None:
        return None if isnan(value) else int(value)

    return ByHand(
        state=state_of(found, index),
        improvement=number(float(found.improvement[index])),
        attained=number(float(found.attained[index])),
        expected_now=number(float(found.expected_now[index])),
        behind=number(float(found.behind[index])),
        days_at_target=days(float(found.days_at_target[index])),
        days_behind=days(float(found.days_behind(0.2)[index])),
        is_due=bool(found.is_due[index]),
    )
