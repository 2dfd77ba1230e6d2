"""Indicators: windows agree with counting by hand, and each rule holds at its edge."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.indicators import (
    KEPT_DAYS,
    WINDOWS,
    History,
    Indicators,
    State,
    extract,
    usual_ratio,
)
from shared.messages import AccountFields
from tests.unit.scoring.factories import AS_OF, NOW, history, indicators_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    age: int
    events: int
    milliseconds: int
    users: frozenset[int]
    features: frozenset[str]


DAYS = st.lists(
    st.builds(
        Day,
        age=st.integers(-3, 450) | st.integers(-1, 100),
        events=st.integers(1, 50),
        milliseconds=st.integers(0, 100_000),
        users=st.frozensets(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=4),
        features=st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=3),
    ),
    max_size=40,
    unique_by=lambda day: day.age,
)


def as_history(days: Iterable[Day]) -> History:
    ordered = sorted(days, key=lambda day: -day.age)
    return History(
        days=[AS_OF.toordinal() - day.age for day in ordered],
        events=[day.events for day in ordered],
        milliseconds=[day.milliseconds for day in ordered],
        users=[tuple(day.users) for day in ordered],
        features=[tuple(day.features) for day in ordered],
    )


def check_windows(days: list[Day], found: Indicators) -> None:
    """Every windowed figure, counted day by day."""
    kept = [day for day in days if 0 <= day.age < KEPT_DAYS]
    names_users = any(day.users for day in kept)
    for window in WINDOWS:
        inside = [day for day in kept if day.age < window]
        assert getattr(found, f"events_{window}") == sum(day.events for day in inside)
        assert getattr(found, f"active_days_{window}") == len(inside)
        users = len(frozenset[int]().union(*(day.users for day in inside)))
        assert getattr(found, f"active_users_{window}") == (users if names_users else None)
    for window in (28, 365):
        used = frozenset[str]().union(*(day.features for day in kept if day.age < window))
        known = any(day.features for day in kept)
        assert getattr(found, f"breadth_{window}") == (len(used) if known else None)
    spent_90 = sum(day.milliseconds for day in kept if day.age < 90)
    spent_28 = sum(day.milliseconds for day in kept if day.age < 28)
    assert found.seconds_28 == (spent_28 / 1000 if spent_90 else None)
    assert found.seconds_90 == (spent_90 / 1000 if spent_90 else None)


def check_people(days: list[Day], found: Indicators) -> None:
    month = [day.users for day in days if 0 <= day.age < 28]
    quarter = [user for day in days if 0 <= day.age < 90 for user in day.users]
    visits, users = sum(map(len, month)), found.active_users_28
    if users is not None:
        assert found.stickiness == (visits / (28 * users) if users else 0)
    if quarter:
        assert found.champion_share == max(map(quarter.count, quarter)) / len(quarter)
    else:
        assert found.champion_share is None
    if users is not None and found.active_users_365:
        assert found.share_of_known_users == users / found.active_users_365


def check_rhythm(days: list[Day], found: Indicators) -> None:
    ages = sorted(day.age for day in days if 0 <= day.age < KEPT_DAYS)[:60]
    gaps = np.diff(ages)
    if gaps.size:
        assert found.mean_gap_days == pytest.approx(gaps.mean(), abs=1e-12)
        assert found.p95_gap_days == pytest.approx(np.percentile(gaps, 95), abs=1e-9)
    else:
        assert found.mean_gap_days == found.p95_gap_days == found.tenure_days


@given(st.lists(DAYS, min_size=1, max_size=4))
def test_the_figures_of_many_accounts_agree_with_counting_by_hand(
    accounts: list[list[Day]],
) -> None:
    found = extract([as_history(days) for days in accounts], [AccountFields()] * len(accounts), NOW)
    for days, one in zip(accounts, found, strict=True):
        check_windows(days, one)
        check_people(days, one)
        check_rhythm(days, one)
        seen = [day.age for day in days if day.age >= -1]
        assert one.recency_days == (max(min(seen), 0) if seen else None)


@given(st.lists(DAYS, min_size=1, max_size=4))
def test_an_account_looks_the_same_alone_and_among_others(accounts: list[list[Day]]) -> None:
    histories = [as_history(days) for days in accounts]
    together = extract(histories, [AccountFields()] * len(accounts), NOW)
    assert together == [indicators_of(one) for one in histories]


@given(DAYS)
def test_pruned_days_change_nothing(days: list[Day]) -> None:
    whole = as_history(days)
    kept = as_history(day for day in days if day.age < KEPT_DAYS)
    pruned = [day for day in days if day.age >= KEPT_DAYS]
    seen = [AS_OF.toordinal() - day.age for day in days if day.age >= -1]
    store = replace(
        kept,
        first_active=min(seen, default=None),
        last_active=max(seen, default=None),
        active_days_before=len(pruned),
    )
    assert indicators_of(store) == indicators_of(whole)


def test_no_account_gives_no_indicators() -> None:
    assert extract([], [], NOW) == []


def test_a_window_ends_with_the_last_complete_day() -> None:
    # Ages 0..6 are the window of 7 days; -1 is today, 7 the day before the window.
    found = indicators_of(history([-1, 0, 6, 7]))
    assert found.as_of == AS_OF
    assert found.active_days_7 == 2
    assert found.active_days_28 == 3


def test_only_recency_sees_the_running_day() -> None:
    found = indicators_of(history([-1, 40, 50]))
    assert found.recency_days == 0
    assert found.active_days_28 == 0
    assert indicators_of(history([40, 50])).recency_days == 40


def test_a_day_of_a_clock_that_runs_ahead_does_not_count_yet() -> None:
    assert indicators_of(history([-2, 5])).recency_days == 5


@pytest.mark.parametrize(
    ("ages", "state"),
    [
        pytest.param([], State.TOO_NEW, id="never active"),
        pytest.param([0, 5, 27], State.TOO_NEW, id="27 days old"),
        pytest.param([0, 5, 28], State.SCORED, id="28 days old, 3 active days"),
        pytest.param([0, 300], State.TOO_NEW, id="2 active days"),
        pytest.param([89, 95, 300], State.SCORED, id="last active 89 days ago"),
        pytest.param([90, 95, 300], State.LAPSED, id="last active 90 days ago"),
    ],
)
def test_the_cold_start_has_three_states(ages: list[int], state: State) -> None:
    assert indicators_of(history(ages)).state is state


def test_a_history_is_short_until_180_days() -> None:
    assert indicators_of(history([0, 1, 179])).short_history
    assert not indicators_of(history([0, 1, 180])).short_history


def test_tenure_begins_with_the_contract_or_the_first_active_day() -> None:
    signed = AccountFields(contract_start=AS_OF - timedelta(days=100))
    assert indicators_of(history([0, 10, 40]), signed).tenure_days == 100
    assert indicators_of(history([0, 10, 300]), signed).tenure_days == 300
    assert indicators_of(history([]), signed).tenure_days == 100


def test_an_account_silent_for_years_is_known_by_what_was_pruned() -> None:
    gone = AS_OF.toordinal() - 1000
    found = indicators_of(History(first_active=gone - 200, last_active=gone, active_days_before=50))
    assert (found.recency_days, found.tenure_days) == (1000, 1200)
    assert found.active_days_ever == 50
    assert found.state is State.LAPSED


def test_the_rhythm_is_that_of_the_last_sixty_active_days() -> None:
    assert indicators_of(history([*range(60), 300])).mean_gap_days == 1
    # 59 days in a row and one 242 days before: 59 gaps over 300 days.
    assert indicators_of(history([*range(59), 300])).mean_gap_days == pytest.approx(300 / 59)


def test_the_share_of_active_users_is_of_seats_where_they_are_known() -> None:
    three = history([0, 1, 200], users=[(4,), (1, 2), (3,)])  # Ascending: 200, 1, 0 days ago.
    by_users = indicators_of(three)
    # 1, 2 and 3 came in 28 days; 1 to 4 in 365.
    assert (by_users.share_of_active_users, by_users.share_basis) == (0.75, "known_users")
    by_seats = indicators_of(three, AccountFields(seats=10))
    assert (by_seats.share_of_active_users, by_seats.share_basis) == (0.3, "seats")
    assert by_seats.share_of_known_users == 0.75
    crowded = indicators_of(three, AccountFields(seats=1))
    assert crowded.share_of_active_users == 1.5
    assert indicators_of(three, AccountFields(seats=0)).share_basis == "known_users"


def test_where_no_event_names_a_user_users_are_missing_not_zero() -> None:
    found = indicators_of(history([0, 1, 100], users=[(), (), ()]), AccountFields(seats=5))
    assert found.active_users_28 is None
    assert found.stickiness is None
    assert (found.share_of_active_users, found.share_basis) == (None, None)


def test_where_users_are_known_but_none_came_they_are_zero() -> None:
    found = indicators_of(history([40, 41, 100]))
    assert (found.active_users_28, found.stickiness) == (0, 0)
    assert found.share_of_known_users == 0


def test_time_per_user_day_divides_by_visits() -> None:
    found = indicators_of(
        history([0, 1, 60], users=[(1,), (1, 2), (1,)], milliseconds=[9_000, 30_000, 15_000])
    )
    # 30 s + 15 s in 28 days, 3 user-days.
    assert (found.seconds_28, found.seconds_90) == (45, 54)
    assert found.seconds_per_user_day == 15


def weekly(recent: int, base: int, weeks: int = 30) -> History:
    """One active day a week: `recent` events in each of the last 4 weeks, `base` before."""
    ages = [7 * week for week in range(weeks)]
    counts = [recent if age < 28 else base for age in reversed(ages)]
    # The first day closes its week: 6 days older than the last bucket.
    return history([*ages, 7 * weeks - 1], events=[base, *counts])


def test_a_trend_compares_four_weeks_with_the_26_before() -> None:
    found = indicators_of(weekly(recent=5, base=10))
    # (26 x 10 + 10) / 26 = 10.38 a week, as the closing day adds 10 events.
    assert found.trend == pytest.approx(5 / (270 / 26))
    assert found.trend_z == pytest.approx((5**0.5 - (270 / 26) ** 0.5) / 0.5)


def test_a_fall_that_everybody_shares_is_not_the_accounts_own() -> None:
    half = weekly(recent=5, base=10)
    alone = indicators_of(half).trend
    assert alone is not None
    (shared,) = extract([half], [AccountFields()], NOW, cohort_ratio=0.5)
    assert shared.trend == pytest.approx(alone / 0.5)


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(weekly(recent=9, base=4), id="fewer than 5 events a week"),
        pytest.param(weekly(recent=9, base=9, weeks=15), id="11 weeks to compare with"),
    ],
)
def test_too_little_use_has_no_trend(one: History) -> None:
    found = indicators_of(one)
    assert (found.trend, found.trend_z) == (None, None)


def test_twelve_weeks_are_enough_for_a_trend() -> None:
    assert indicators_of(weekly(recent=9, base=9, weeks=16)).trend is not None


def test_the_usual_ratio_is_a_bounded_median_of_at_least_five() -> None:
    assert usual_ratio([0.5, 0.5, 0.5, 0.5]) == 1
    assert usual_ratio([0.1, 0.4, 0.5, 0.6, 9.0]) == 0.5
    assert usual_ratio([0.1] * 5) == 0.25
    assert usual_ratio([3.0] * 5) == 1.5


def test_a_leap_day_is_a_day_like_any_other() -> None:
    after = NOW.replace(year=2028, month=3, day=1)  # A is 29 February 2028.
    leap = date(2028, 2, 29).toordinal()
    days = replace(history([0, 1]), days=[leap - 1, leap])
    (found,) = extract([days], [AccountFields()], after)
    assert found.as_of == date(2028, 2, 29)
    assert found.active_days_7 == 2


def test_a_sequence_of_fields_too_short_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="one AccountFields per history"):
        extract([history([0])], [], NOW)
