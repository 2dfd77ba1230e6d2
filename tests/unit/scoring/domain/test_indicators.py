"""Indicators: every column agrees with counting by hand, and each rule holds at its edge."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from math import isnan, nan
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.domain.indicators import (
    Indicators,
    State,
    indicators_of,
    measure,
    usual_ratio,
)
from services.scoring.domain.people import Person, people
from services.scoring.domain.table import COLUMNS, IndicatorTable
from services.scoring.domain.usage import (
    KEPT_DAYS,
    NO_OUTAGES,
    History,
    Members,
    Outages,
    Signal,
    SignalKind,
    Signals,
    Usage,
    code_of,
    directory_of,
    usage_of,
)
from shared.messages import AccountFields
from tests.unit.scoring.domain.by_hand import NONE, OutageDays, indicators_by_hand
from tests.unit.scoring.factories import AS_OF, NOW, history, measured, table_of

MOMENTS = st.sampled_from(
    [
        NOW,
        datetime(2028, 3, 1, tzinfo=UTC),  # A is the leap day; the running day has just begun.
        datetime(2026, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 3, 31, 1, 30, tzinfo=UTC).astimezone(None),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """Some time in which the same users came every `step` days, from `oldest` days ago on."""

    oldest: int
    days: int
    step: int
    events: int
    milliseconds: int
    users: frozenset[int]
    features: frozenset[str]
    sources: frozenset[str]


# The first and the last day of each window, and the days beside them.
EDGES = st.sampled_from([-2, -1, 0, 6, 7, 27, 28, 89, 90, 117, 118, 179, 180, 364, 365, 399, 400])
SPELLS = st.lists(
    st.builds(
        Spell,
        oldest=EDGES | st.integers(-3, 130) | st.integers(-3, 460),
        days=st.integers(1, 3) | st.integers(1, 80),
        step=st.sampled_from([1, 1, 2, 7, 30]),
        events=st.integers(1, 50),
        milliseconds=st.sampled_from([0, 0, 1, 90_000]),
        users=st.frozensets(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=4),
        features=st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=3),
        sources=st.frozensets(st.sampled_from(["app", "web"]), max_size=2),
    ),
    max_size=5,
)
# Few moments, so that signals meet: on edges of windows, and at the same moment.
AGES = st.sampled_from([-1, 0, 1, 13, 14, 27, 28, 89, 90, 179, 180, 399, 400])
SIGNALS = st.lists(
    st.tuples(
        AGES | st.integers(-2, 420),
        st.sampled_from([0, 0, 0, 1, -1]),
        st.sampled_from(SignalKind),
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from([nan, *range(11)]),
    ),
    max_size=12,
)
FIELDS = st.builds(
    AccountFields,
    seats=st.sampled_from([None, None, 0, 1, 5]),
    contract_start=st.none() | st.dates(date(2024, 6, 1), date(2028, 4, 1)),
    contract_end=st.none() | st.dates(date(2024, 6, 1), date(2029, 4, 1)),
    billing_period=st.sampled_from([None, "month", "year"]),
)
OUTAGE_AGES = st.lists(st.integers(-1, 40), max_size=6)  # A day may be told twice.


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One account at one moment."""

    history: History
    fields: AccountFields


def history_at(
    now: datetime,
    spells: Iterable[Spell],
    signals: Iterable[tuple[int, int, SignalKind, int, int, float]],
) -> History:
    a = now.astimezone(UTC).toordinal() - 1
    by_day: dict[int, Spell] = {}
    for spell in spells:
        for number in range(spell.days):
            age = spell.oldest - number * spell.step
            if age >= -3:
                by_day[a - age] = spell
    days = sorted(by_day)
    return History(
        days=days,
        events=[by_day[day].events for day in days],
        milliseconds=[by_day[day].milliseconds for day in days],
        users=[tuple(by_day[day].users) for day in days],
        features=[tuple(by_day[day].features) for day in days],
        sources=[tuple(by_day[day].sources) for day in days],
        signals=[
            Signal(
                at=now - timedelta(days=age, microseconds=shift),
                kind=kind,
                user=user,
                subject=subject,
                value=value,
            )
            for age, shift, kind, user, subject, value in signals
        ],
    )


@st.composite
def cases(draw: st.DrawFn, now: datetime) -> Case:
    return Case(history=history_at(now, draw(SPELLS), draw(SIGNALS)), fields=draw(FIELDS))


def measure_cases(
    several: list[Case],
    now: datetime,
    *,
    cohort_ratio: float = 1.0,
    outages: Outages = NO_OUTAGES,
) -> IndicatorTable:
    usage = usage_of([one.history for one in several])
    directory = directory_of([one.fields for one in several])
    return measure(usage, directory, now, cohort_ratio=cohort_ratio, outages=outages)


def coded(outages: OutageDays) -> Outages:
    named = [(code_of(name), day) for name, days in outages.by_source.items() for day in days]
    return Outages(
        source=np.array([code for code, _ in named], np.int64),
        day=np.array([day for _, day in named], np.int64),
        everywhere=np.array(list(outages.everywhere), np.int64),
    )


def assert_same(found: IndicatorTable, wanted: IndicatorTable) -> None:
    for name in COLUMNS:
        assert np.array_equal(found.column(name), wanted.column(name), equal_nan=True), name


@given(st.data())
def test_every_column_of_many_accounts_agrees_with_counting_by_hand(data: st.DataObject) -> None:
    now = data.draw(MOMENTS)
    several = data.draw(st.lists(cases(now), max_size=3))
    a = now.astimezone(UTC).toordinal() - 1
    outages = OutageDays(
        by_source={
            name: [a - age for age in data.draw(OUTAGE_AGES)] for name in ("app", "web", "other")
        },
        everywhere=[a - age for age in data.draw(OUTAGE_AGES)],
    )
    if data.draw(st.booleans()):
        outages = NONE
    ratio = data.draw(st.sampled_from([1.0, 0.7]))
    table = measure_cases(several, now, cohort_ratio=ratio, outages=coded(outages))
    assert table.as_of.toordinal() == a
    for index, one in enumerate(several):
        wanted = indicators_by_hand(
            one.history, one.fields, now, cohort_ratio=ratio, outages=outages
        )
        assert wanted.keys() == set(COLUMNS)
        found = table.row(index)
        for name, value in wanted.items():
            assert found[name] == pytest.approx(float(value), rel=1e-12, nan_ok=True), name


@settings(max_examples=25)
@given(st.data())
def test_an_account_looks_the_same_alone_and_among_others(data: st.DataObject) -> None:
    several = data.draw(st.lists(cases(NOW), min_size=1, max_size=4))
    table = measure_cases(several, NOW)
    for index, one in enumerate(several):
        assert_same(measure_cases([one], NOW), table.where(np.array([index])))


@settings(max_examples=25)
@given(st.data(), st.randoms(use_true_random=False))
def test_members_and_signals_may_come_in_any_order(data: st.DataObject, random: Random) -> None:
    several = data.draw(st.lists(cases(NOW), min_size=1, max_size=3))
    usage = usage_of([one.history for one in several])
    directory = directory_of([one.fields for one in several])
    outages = coded(OutageDays(by_source={"app": [AS_OF.toordinal()]}, everywhere=()))
    found = measure(shuffled(usage, random), directory, NOW, outages=outages)
    assert_same(found, measure(usage, directory, NOW, outages=outages))


def shuffled(usage: Usage, random: Random) -> Usage:
    def members(those: Members) -> Members:
        order = list(range(len(those.owner)))
        random.shuffle(order)
        return Members(owner=those.owner[order], day=those.day[order], code=those.code[order])

    order = list(range(len(usage.signals.at)))
    random.shuffle(order)
    names = [field.name for field in fields(Signals)]
    return replace(
        usage,
        users=members(usage.users),
        features=members(usage.features),
        sources=members(usage.sources),
        signals=Signals(**{name: getattr(usage.signals, name)[order] for name in names}),
    )


@given(st.data())
def test_what_retention_has_deleted_changes_nothing(data: st.DataObject) -> None:
    one = data.draw(cases(NOW))
    outages = coded(
        OutageDays(by_source={"app": [AS_OF.toordinal() - age for age in range(30)]}, everywhere=())
    )
    whole = measure_cases([one], NOW, outages=outages)
    pruned = measure_cases([replace(one, history=prune(one.history))], NOW, outages=outages)
    assert_same(pruned, whole)


def prune(whole: History) -> History:
    deleted = [day for day in whole.days if day <= AS_OF.toordinal() - KEPT_DAYS]
    kept = slice(len(deleted), None)
    return replace(
        whole,
        days=whole.days[kept],
        events=whole.events[kept],
        milliseconds=whole.milliseconds[kept],
        users=whole.users[kept],
        features=whole.features[kept],
        sources=whole.sources[kept],
        signals=[s for s in whole.signals if s.at > NOW - timedelta(days=KEPT_DAYS)],
        first_deleted=min(deleted, default=None),
        last_deleted=max(deleted, default=None),
        deleted_days=len(deleted),
    )


@settings(max_examples=25)
@given(st.data())
def test_what_lies_in_the_future_changes_nothing(data: st.DataObject) -> None:
    one = data.draw(cases(NOW))
    past = sum(day <= NOW.toordinal() for day in one.history.days)
    until_now = replace(
        one.history,
        days=one.history.days[:past],
        events=one.history.events[:past],
        milliseconds=one.history.milliseconds[:past],
        users=one.history.users[:past],
        features=one.history.features[:past],
        sources=one.history.sources[:past],
        signals=[s for s in one.history.signals if s.at <= NOW],
    )
    assert_same(measure_cases([replace(one, history=until_now)], NOW), measure_cases([one], NOW))


@settings(max_examples=25)
@given(st.data())
def test_one_account_for_people_is_its_row(data: st.DataObject) -> None:
    table = measure_cases([data.draw(cases(NOW))], NOW)
    found = indicators_of(table, 0)
    assert [field.name for field in fields(Indicators)] == ["as_of", *COLUMNS]
    for name, value in table.row(0).items():
        read = getattr(found, name)
        if isnan(value):
            assert read is None
        elif name == "state":
            assert read is (State.TOO_NEW, State.SCORED, State.LAPSED)[int(value)]
        elif name == "share_basis":
            assert read == ("seats", "known_users")[int(value)]
        else:
            assert read == value
            assert type(read) in {bool, int, float}


def test_no_account_gives_no_indicators() -> None:
    assert len(table_of([])) == 0


def test_a_window_ends_with_the_last_complete_day() -> None:
    # Ages 0..6 are the window of 7 days; -1 is today, 7 the day before the window.
    found = measured(history([-1, 0, 6, 7]))
    assert found.as_of == AS_OF
    assert found.active_days_7 == 2
    assert found.active_days_28 == 3


def test_only_recency_sees_the_running_day() -> None:
    found = measured(history([-1, 40, 50]))
    assert found.recency_days == 0
    assert found.active_days_28 == 0
    assert measured(history([40, 50])).recency_days == 40


def test_a_day_of_a_clock_that_runs_ahead_does_not_count_yet() -> None:
    assert measured(history([-2, 5])).recency_days == 5


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
    assert measured(history(ages)).state is state


def test_a_history_is_short_until_180_days() -> None:
    assert measured(history([0, 1, 179])).short_history
    assert not measured(history([0, 1, 180])).short_history


def test_tenure_begins_with_the_contract_or_the_first_active_day() -> None:
    signed = AccountFields(contract_start=AS_OF - timedelta(days=100))
    assert measured(history([0, 10, 40]), signed).tenure_days == 100
    assert measured(history([0, 10, 300]), signed).tenure_days == 300
    assert measured(history([]), signed).tenure_days == 100


def test_an_account_silent_for_years_is_known_by_what_was_pruned() -> None:
    gone = AS_OF.toordinal() - 1000
    found = measured(History(first_deleted=gone - 200, last_deleted=gone, deleted_days=50))
    assert (found.recency_days, found.tenure_days) == (1000, 1200)
    assert found.active_days_ever == 50
    assert found.state is State.LAPSED


def test_the_rhythm_is_that_of_the_last_sixty_active_days() -> None:
    assert measured(history([*range(60), 300])).mean_gap_days == 1
    # 59 days in a row and one 242 days before: 59 gaps over 300 days.
    assert measured(history([*range(59), 300])).mean_gap_days == pytest.approx(300 / 59)


def test_a_day_older_than_400_days_is_no_part_of_the_rhythm() -> None:
    assert measured(history([0, 399, 400])).mean_gap_days == 399


def test_the_share_of_active_users_is_of_seats_where_they_are_known() -> None:
    three = history([0, 1, 200], users=[(4,), (1, 2), (3,)])  # Ascending: 200, 1, 0 days ago.
    by_users = measured(three)
    # 1, 2 and 3 came in 28 days; 1 to 4 in 365.
    assert (by_users.share_of_active_users, by_users.share_basis) == (0.75, "known_users")
    by_seats = measured(three, AccountFields(seats=10))
    assert (by_seats.share_of_active_users, by_seats.share_basis) == (0.3, "seats")
    assert by_seats.share_of_known_users == 0.75
    crowded = measured(three, AccountFields(seats=1))
    assert crowded.share_of_active_users == 1.5
    assert measured(three, AccountFields(seats=0)).share_basis == "known_users"


def test_where_no_event_names_a_user_users_are_missing_not_zero() -> None:
    found = measured(history([0, 1, 100], users=[(), (), ()]), AccountFields(seats=5))
    assert found.active_users_28 is None
    assert found.stickiness is None
    assert (found.share_of_active_users, found.share_basis) == (None, None)


def test_where_users_are_known_but_none_came_they_are_zero() -> None:
    found = measured(history([40, 41, 100]))
    assert (found.active_users_28, found.stickiness) == (0, 0)
    assert found.share_of_known_users == 0


def test_time_per_user_day_divides_by_visits() -> None:
    found = measured(
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
    found = measured(weekly(recent=5, base=10))
    # (26 x 10 + 10) / 26 = 10.38 a week, as the closing day adds 10 events.
    assert found.trend == pytest.approx(5 / (270 / 26))
    assert found.trend_z == pytest.approx((5**0.5 - (270 / 26) ** 0.5) / 0.5)


def test_a_fall_that_everybody_shares_is_not_the_accounts_own() -> None:
    half = weekly(recent=5, base=10)
    alone = measured(half).trend
    assert alone is not None
    table = measure(usage_of([half]), directory_of([AccountFields()]), NOW, cohort_ratio=0.5)
    shared = indicators_of(table, 0)
    assert shared.trend == pytest.approx(alone / 0.5)


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(weekly(recent=9, base=4), id="fewer than 5 events a week"),
        pytest.param(weekly(recent=9, base=9, weeks=15), id="11 weeks to compare with"),
    ],
)
def test_too_little_use_has_no_trend(one: History) -> None:
    found = measured(one)
    assert (found.trend, found.trend_z) == (None, None)


def test_twelve_weeks_are_enough_for_a_trend() -> None:
    assert measured(weekly(recent=9, base=9, weeks=16)).trend is not None


def test_five_events_a_week_are_enough_for_a_trend() -> None:
    # Day 209 and 25 days from 196 to 28: 26 x 5 in 26 weeks.
    ages = [*range(0, 203, 7), 209]
    events = [5] * len(ages)
    assert measured(history(ages, events=events)).base_events_per_week == 5
    events[3] = 4
    assert measured(history(ages, events=events)).base_events_per_week is None


def test_the_usual_ratio_is_a_bounded_median_of_at_least_five() -> None:
    assert usual_ratio([0.5, 0.5, 0.5, 0.5]) == 1
    assert usual_ratio([0.1, 0.4, 0.5, 0.6, 9.0]) == 0.5
    assert usual_ratio([0.1] * 5) == 0.25
    assert usual_ratio([3.0] * 5) == 1.5


def test_a_leap_day_is_a_day_like_any_other() -> None:
    after = NOW.replace(year=2028, month=3, day=1)  # A is 29 February 2028.
    leap = date(2028, 2, 29).toordinal()
    days = replace(history([0, 1]), days=[leap - 1, leap])
    found = indicators_of(table_of([days], now=after), 0)
    assert found.as_of == date(2028, 2, 29)
    assert found.active_days_7 == 2


def test_a_directory_of_other_accounts_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="a directory of other accounts"):
        measure(usage_of([history([0])]), directory_of([]), NOW)


def signals_of(*signals: Signal, ages: Iterable[int] = (0, 1, 40)) -> Indicators:
    return measured(replace(history(ages), signals=signals))


def signal(
    kind: SignalKind, days_ago: float, *, user: int = 0, subject: int = 0, value: float = nan
) -> Signal:
    at = NOW - timedelta(days=days_ago)
    return Signal(at=at, kind=kind, user=user, subject=subject, value=value)


def test_a_cancellation_is_seen_at_its_moment_and_not_before() -> None:
    requested = signal(SignalKind.CANCELLATION_REQUESTED, 0)
    assert signals_of(requested).cancellation_age_days == 0
    early = replace(requested, at=NOW + timedelta(microseconds=1))
    assert signals_of(early).cancellation_age_days is None


def test_a_cancellation_stands_until_it_is_withdrawn() -> None:
    requested = signal(SignalKind.CANCELLATION_REQUESTED, 9, value=AS_OF.toordinal() + 30)
    withdrawn = signal(SignalKind.CANCELLATION_WITHDRAWN, 5)
    again = signal(SignalKind.CANCELLATION_REQUESTED, 2)
    found = signals_of(requested)
    assert (found.cancellation_age_days, found.cancellation_effective_days) == (9, 30)
    assert signals_of(requested, withdrawn).cancellation_age_days is None
    assert signals_of(again, withdrawn, requested).cancellation_age_days == 2


def test_failed_payments_count_for_14_days_and_until_one_succeeds() -> None:
    first, second = (signal(SignalKind.PAYMENT_FAILED, days) for days in (13.9, 3))
    found = signals_of(first, second, signal(SignalKind.PAYMENT_FAILED, 14))
    assert (found.payments_failed_14, found.payment_failed_age_days) == (2, 3)
    assert found.payment_succeeded_since is False
    paid = signals_of(first, second, signal(SignalKind.PAYMENT_SUCCEEDED, 1))
    assert paid.payment_succeeded_since is True
    assert signals_of().payments_failed_14 is None


def test_a_ticket_is_one_ticket_however_often_it_is_reported() -> None:
    ticket = signal(SignalKind.TICKET_OPENED, 40, subject=7, value=2)
    update = replace(ticket, at=NOW - timedelta(days=3), value=3)
    found = signals_of(ticket, update)
    # Opened 40 days ago; severe by what was said last, and open since the beginning.
    assert (found.tickets_28, found.tickets_180, found.tickets_open) == (0, 1, 1)
    assert found.ticket_severe_age_days == 40
    closed = signal(SignalKind.TICKET_CLOSED, 1, subject=7)
    found = signals_of(ticket, update, closed)
    assert (found.tickets_open, found.ticket_severe_age_days) == (0, None)
    again = replace(ticket, at=NOW - timedelta(days=0.5))
    # What was said last is severity 2 now.
    found = signals_of(ticket, update, closed, again)
    assert (found.tickets_open, found.ticket_severe_age_days) == (1, None)


def test_what_ends_a_thing_ends_it_at_its_own_moment_too() -> None:
    paid = signals_of(signal(SignalKind.PAYMENT_SUCCEEDED, 1), signal(SignalKind.PAYMENT_FAILED, 1))
    assert paid.payment_succeeded_since is True
    closed = signals_of(
        signal(SignalKind.TICKET_CLOSED, 1, subject=7),
        signal(SignalKind.TICKET_OPENED, 1, subject=7, value=4),
    )
    assert (closed.tickets_28, closed.tickets_open) == (1, 0)
    kinds = (SignalKind.CANCELLATION_WITHDRAWN, SignalKind.CANCELLATION_REQUESTED)
    withdrawn = signals_of(*(signal(kind, 1) for kind in kinds))
    assert withdrawn.cancellation_age_days is None


def test_of_two_requests_of_one_moment_the_later_day_counts() -> None:
    days = (AS_OF.toordinal() + 10, AS_OF.toordinal() + 40)
    requested = SignalKind.CANCELLATION_REQUESTED
    found = signals_of(*(signal(requested, 1, value=day) for day in (*days, nan)))
    assert found.cancellation_effective_days == 40


def test_only_an_opening_says_how_severe_a_ticket_is() -> None:
    found = signals_of(
        signal(SignalKind.TICKET_OPENED, 3, subject=7, value=4),
        signal(SignalKind.TICKET_CLOSED, 2, subject=7, value=1),
        signal(SignalKind.TICKET_OPENED, 1, subject=7),
    )
    assert found.ticket_severe_age_days == 1  # Open again since then; still severity 4.


def test_the_support_load_is_per_ten_active_users() -> None:
    opened = [signal(SignalKind.TICKET_OPENED, 3, subject=ticket) for ticket in (1, 2, 3)]
    assert signals_of(*opened).tickets_28_per_10_users == 30  # 3 tickets, 1 user.
    assert signals_of(*opened, ages=[40, 41, 42]).tickets_28_per_10_users is None
    assert signals_of().tickets_28 is None


def test_satisfaction_is_the_mean_of_each_users_newest_score() -> None:
    nps = SignalKind.FEEDBACK_NPS
    found = signals_of(
        signal(nps, 100, user=1, value=2),
        signal(nps, 10, user=1, value=9),
        signal(nps, 89, user=2, value=6),
        signal(nps, 180, user=3, value=0),
    )
    # 9 and 6: the first user's 2 is outdated, the third answered too long ago.
    assert (found.nps_mean, found.nps_answers) == (7.5, 2)
    assert (found.csat_mean, found.csat_answers) == (None, None)
    assert found.unhappy_users == 1


def test_a_low_score_makes_a_user_unhappy_for_90_days_or_until_a_higher_one() -> None:
    low = [
        signal(SignalKind.FEEDBACK_NPS, 89, user=1, value=6),
        signal(SignalKind.FEEDBACK_CSAT, 5, user=1, value=2),
        signal(SignalKind.FEEDBACK_CES, 5, user=2, value=3),
        signal(SignalKind.FEEDBACK_CES, 90, user=3, value=1),
    ]
    assert signals_of(*low).unhappy_users == 2
    better = signal(SignalKind.FEEDBACK_CES, 4, user=2, value=4)
    assert signals_of(*low, better).unhappy_users == 1


def champion_gone(champion: Iterable[int], others: Iterable[int]) -> bool | None:
    """User 1 came on the days of these ages, 2 and 3 on the others."""
    visits: dict[int, tuple[int, ...]] = dict.fromkeys(others, (2, 3))
    for age in champion:
        visits[age] = (*visits.get(age, ()), 1)
    ages = sorted(visits, reverse=True)
    return measured(history(ages, users=[visits[age] for age in ages])).champion_gone


@pytest.mark.parametrize(
    ("champion", "others", "gone"),
    [
        pytest.param(range(28, 38), range(5), True, id="10 days, none in 28"),
        pytest.param(range(28, 37), range(5), None, id="9 days"),
        pytest.param(range(27, 38), range(5), False, id="came 28 days ago"),
        pytest.param(range(108, 118), range(5), True, id="10 days, up to the 118th"),
        pytest.param(range(109, 119), range(5), None, id="one of the 10 is the 119th"),
        # 10 of 20 user-days; 10 of 22.
        pytest.param(range(28, 38), range(60, 65), True, id="half of the user-days"),
        pytest.param(range(28, 38), range(60, 66), None, id="less than half"),
    ],
)
def test_a_champion_is_gone_or_there_or_was_never(
    champion: range, others: range, *, gone: bool | None
) -> None:
    assert champion_gone(champion, others) is gone


def test_an_account_of_two_has_no_champion_to_lose() -> None:
    two = history([*range(28, 38), 0], users=[(1,)] * 10 + [(2,)])
    assert measured(two).champion_gone is None
    three = history([*range(28, 38), 0], users=[(1,)] * 10 + [(2, 3)])
    assert measured(three).champion_gone is True


@pytest.mark.parametrize(
    ("everywhere", "of_app", "of_web", "recency"),
    [
        pytest.param([], [], [], 10, id="none"),
        pytest.param([0, 1, 2], [], [], 7, id="three days of all sources"),
        pytest.param([], [0, 1, 2], [], 7, id="three days of its main source"),
        pytest.param([], [], [0, 1, 2], 10, id="another source"),
        pytest.param([0, 1], [1, 2], [], 7, id="the same day counts once"),
        pytest.param([0, 0, 1], [], [], 8, id="however often it is told"),
        pytest.param([-1, 10, 11], [12], [], 10, id="before the last active day, and today"),
    ],
)
def test_outage_days_do_not_add_to_recency(
    everywhere: list[int], of_app: list[int], of_web: list[int], recency: int
) -> None:
    # Of the 28 days up to the last one app saw two, web one.
    sources = [("web",), ("web",), ("app",), ("app",), ("web",)]
    one = history([200, 201, 10, 11, 12], sources=sources)
    outages = coded(
        OutageDays(
            by_source={
                "app": [AS_OF.toordinal() - age for age in of_app],
                "web": [AS_OF.toordinal() - age for age in of_web],
            },
            everywhere=[AS_OF.toordinal() - age for age in everywhere],
        )
    )
    table = measure(usage_of([one]), directory_of([AccountFields()]), NOW, outages=outages)
    assert table.column("recency_days").tolist() == [recency]


@pytest.mark.parametrize(
    ("main", "other"), [pytest.param("app", "web"), pytest.param("web", "app")]
)
@pytest.mark.parametrize(
    ("of_main", "of_other"),
    [
        pytest.param([10, 11], [37], id="two days and one"),
        pytest.param([10, 11], [37, 38, 39], id="28 days count"),
        pytest.param([36, 37], [10], id="up to the 28th"),
        pytest.param([10], [-2, -3], id="a clock that runs ahead does not"),
        pytest.param([390, 399], [400, 401, 402], id="what is old enough to be deleted does not"),
    ],
)
def test_the_main_source_is_that_of_most_days_in_the_28_up_to_the_last(
    main: str, other: str, of_main: list[int], of_other: list[int]
) -> None:
    sources = dict.fromkeys(of_main, (main,)) | dict.fromkeys(of_other, (other,))
    ages = sorted(sources, reverse=True)
    one = history(ages, sources=[sources[age] for age in ages])
    outages = coded(OutageDays(by_source={main: [AS_OF.toordinal()]}, everywhere=()))
    table = measure(usage_of([one]), directory_of([AccountFields()]), NOW, outages=outages)
    last = min(age for age in ages if age >= 0)
    assert table.column("recency_days").tolist() == [last - 1]


def test_the_first_14_days_begin_with_the_contract_or_the_first_use() -> None:
    used = history([20, 21, 30, 34])  # The first day, 34 days ago; then days 4, 13 and 14.
    assert measured(used).active_days_first_14 == 3
    signed = AccountFields(contract_start=AS_OF - timedelta(days=40))
    assert measured(used, signed).active_days_first_14 == 2
    long_ago = AccountFields(contract_start=AS_OF - timedelta(days=KEPT_DAYS))
    assert measured(used, long_ago).active_days_first_14 is None
    assert measured(history([-1, 0, 3])).active_days_first_14 == 2  # Not the running day.


def test_the_last_14_days_end_with_the_last_complete_one() -> None:
    assert measured(history([-1, 0, 13, 14])).active_days_14 == 2


def test_the_people_of_an_account_are_its_users_with_their_days() -> None:
    users = [(3,), (1,), (1, 2), (1,), (2, 4)]  # 420, 95, 30 and 0 days before A, and today.
    usage = usage_of([history([0]), history([420, 95, 30, 0, -1], users=users)])
    assert people(usage, 1, AS_OF) == (
        Person(
            user=1,
            first=AS_OF - timedelta(days=95),
            last=AS_OF,
            active_days_28=1,
            active_days_90=2,
            active_days_365=3,
        ),
        Person(
            user=2,
            first=AS_OF - timedelta(days=30),
            last=AS_OF - timedelta(days=30),
            active_days_28=0,
            active_days_90=1,
            active_days_365=1,
        ),
    )
    assert people(usage_of([History()]), 0, AS_OF) == ()
