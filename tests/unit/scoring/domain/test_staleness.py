"""A source's own rhythm tells whether it is out: nights, weekends and slow decline do not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.domain import rules
from services.scoring.domain.staleness import (
    Freshness,
    Hours,
    Outage,
    OutageCause,
    Shortfall,
    freshness,
    hour_of,
    hours_of,
    hours_read,
    missing_days,
    moment_of,
    mostly_from,
    shortfalls,
)
from services.scoring.domain.usage import History, code_of, usage_of

RULES = rules.read_default().staleness
MONDAY = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)


def office(moment: datetime) -> int:
    """An office product: 100 events an hour on working days from 8 to 18, nothing else."""
    return 100 if moment.weekday() < 5 and 8 <= moment.hour < 18 else 0


def always(_: datetime) -> int:
    return 100


def sent(
    rhythm: Callable[[datetime], float],
    now: datetime,
    *,
    source: str = "app",
    weeks: int = 5,
    gap: tuple[datetime, datetime] | None = None,
) -> Hours:
    """What a source with this rhythm has sent until now, except in the gap."""
    rows = []
    for hour in range(hour_of(now) - weeks * 168, hour_of(now)):
        moment = moment_of(hour)
        if gap is None or not gap[0] <= moment < gap[1]:
            rows.append((source, hour, round(rhythm(moment))))
    return hours_of(rows, now, RULES)


def out(hours: Hours) -> list[Shortfall]:
    return shortfalls(hours, RULES)


def test_a_busy_source_that_stops_is_out_after_two_hours() -> None:
    stop = MONDAY - timedelta(hours=2)
    [found] = out(sent(always, MONDAY, gap=(stop, MONDAY)))
    assert (found.source, found.hours, found.expected, found.came) == ("app", 2, 200, 0)
    assert moment_of(found.began) == stop
    # After one hour without, 100 of 200 have come.
    assert out(sent(always, MONDAY, gap=(MONDAY - timedelta(hours=1), MONDAY))) == []


def test_a_quarter_of_the_usual_is_enough_and_less_is_not() -> None:
    hours = sent(always, MONDAY)
    events = hours.events.copy()
    events[0, -2:] = (25, 25)
    assert out(replace(hours, events=events)) == []
    events[0, -2:] = (25, 24)
    [found] = out(replace(hours, events=events))
    assert found.came == 49


@pytest.mark.parametrize("hour", range(0, 168, 3))
def test_nights_and_weekends_are_no_outage(hour: int) -> None:
    now = MONDAY + timedelta(hours=hour)
    assert out(sent(office, now)) == []


def test_an_outage_over_the_weekend_is_seen_on_monday_and_began_on_friday() -> None:
    friday = datetime(2026, 2, 27, 15, 0, tzinfo=UTC)
    # On Friday at 16:00 one hour is missing; at Saturday noon the window reaches back over it.
    saturday = datetime(2026, 2, 28, 12, 0, tzinfo=UTC)
    [found] = out(sent(office, saturday, gap=(friday, saturday)))
    assert moment_of(found.began) == friday
    [found] = out(sent(office, MONDAY, gap=(friday, MONDAY)))
    assert moment_of(found.began) == friday


def test_a_quiet_source_is_told_by_the_days_back() -> None:
    """One event an hour: 51 hours expect 50, since the last one may come later."""
    stop = MONDAY - timedelta(hours=39)
    assert out(sent(lambda _: 1, MONDAY, gap=(stop, MONDAY))) == [
        Shortfall(source="app", hours=51, expected=50, came=12, began=hour_of(stop))
    ]  # 12 of 50 are less than a quarter, 13 were more
    assert out(sent(lambda _: 1, MONDAY, gap=(stop + timedelta(hours=1), MONDAY))) == []


def test_too_quiet_a_source_is_never_called_out() -> None:
    """Half an event an hour: 36 in 72 hours."""
    stop = MONDAY - timedelta(days=10)
    assert out(sent(lambda at: at.hour % 2, MONDAY, gap=(stop, MONDAY))) == []


def test_a_source_younger_than_a_week_has_no_usual() -> None:
    end = hour_of(MONDAY)

    def aged(hours: int) -> Hours:
        return hours_of([("app", end - age, 100) for age in range(4, hours)], MONDAY, RULES)

    assert out(aged(168)) == []
    assert [found.expected for found in out(aged(168 + 4))] == [200]  # of the one week it has


def test_the_week_of_an_earlier_outage_does_not_move_the_median() -> None:
    last_week = (MONDAY - timedelta(days=8), MONDAY - timedelta(days=5))
    hours = sent(always, MONDAY, gap=last_week)
    events = hours.events.copy()
    events[0, -5:] = 0
    [found] = out(replace(hours, events=events))
    assert found.expected == 200  # the median of 0, 200, 200, 200


def test_the_change_to_winter_time_is_no_outage() -> None:
    """People come an hour later in UTC: at 9:00 the first hour of the usual ones is missing."""
    change = datetime(2026, 10, 25, tzinfo=UTC)
    now = datetime(2026, 10, 26, 9, 0, tzinfo=UTC)

    def local(moment: datetime) -> int:
        return office(moment if moment < change else moment - timedelta(hours=1))

    assert out(sent(local, now)) == []
    assert out(sent(office, now, gap=(now - timedelta(hours=1), now))) == []
    assert out(sent(office, now + timedelta(hours=1), gap=(now - timedelta(hours=1), now))) == []


def test_one_of_two_sources_is_out_alone() -> None:
    stop = MONDAY - timedelta(hours=4)
    one, other = sent(always, MONDAY), sent(always, MONDAY, gap=(stop, MONDAY))
    hours = replace(one, sources=("a", "b"), events=np.concatenate([one.events, other.events]))
    assert [found.source for found in out(hours)] == ["b"]


@settings(max_examples=60, deadline=None)
@given(
    week=st.lists(st.integers(0, 400), min_size=168, max_size=168),
    shift=st.integers(0, 167),
    fall=st.floats(0.80, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_weekly_rhythm_is_an_outage_even_as_it_slowly_shrinks(
    week: list[int], shift: int, fall: float, seed: int
) -> None:
    """Any week, repeated with Poisson noise, up to a fifth less each week."""
    now = MONDAY + timedelta(hours=shift)
    noise = np.random.default_rng(seed)
    first = hour_of(now) - 5 * 168

    def rhythm(moment: datetime) -> float:
        hour = hour_of(moment)
        return float(noise.poisson(week[hour % 168] * fall ** ((hour - first) / 168)))

    assert out(sent(rhythm, now)) == []


@settings(max_examples=30, deadline=None)
@given(
    week=st.lists(st.integers(0, 400), min_size=168, max_size=168).filter(
        lambda one: sum(sorted(one)[:96]) > 400  # something on every three days
    ),
    shift=st.integers(0, 167),
)
def test_any_rhythm_that_stops_for_three_days_is_an_outage(week: list[int], shift: int) -> None:
    now = MONDAY + timedelta(hours=shift)
    stop = now - timedelta(days=3)
    [found] = out(sent(lambda at: week[hour_of(at) % 168], now, gap=(stop, now)))
    assert found.came == 0
    assert stop <= moment_of(found.began) < now


def test_only_whole_days_of_which_nothing_came_are_missing() -> None:
    began = datetime(2026, 2, 25, 15, 0, tzinfo=UTC)
    ended = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
    hours = sent(always, MONDAY, gap=(began, ended))
    days = missing_days(hours, "app", began, ended, RULES)
    assert days == {date(2026, 2, day).toordinal() for day in (26, 27, 28)}
    # What waited in the log has been taken in since: nothing is missing.
    assert missing_days(sent(always, MONDAY), "app", began, ended, RULES) == set()
    assert missing_days(hours, "", began, ended, RULES) == days
    assert missing_days(hours, "another", began, ended, RULES) == days


def test_a_day_on_which_a_trickle_came_is_missing() -> None:
    began, ended = MONDAY - timedelta(days=4), MONDAY
    hours = sent(always, MONDAY)
    events = hours.events.copy()
    events[0, -96:] = 24  # of 100
    few = missing_days(replace(hours, events=events), "app", began, ended, RULES)
    assert len(few) == 3
    events[0, -96:] = 25
    assert missing_days(replace(hours, events=events), "app", began, ended, RULES) == set()


def test_an_account_is_judged_by_the_days_before_it_fell_silent() -> None:
    today = date(2026, 3, 1).toordinal()

    def came(last: int, *sources: str) -> History:
        days = [last - age for age in range(len(sources) - 1, -1, -1)]
        return History(
            days=days,
            events=[1] * len(days),
            milliseconds=[0] * len(days),
            sources=[one.split("+") for one in sources],
        )

    usage = usage_of(
        [
            came(today - 60, "a", "a", "b", "b"),
            came(today, "a", "b", "b", "b"),
            came(today, "a+b", "b", "b"),
            came(today, *["a"] * 28, *["b"] * 28),  # only the last 28 days count
            History(),
        ]
    )

    def of(*names: str) -> list[bool]:
        return list(mostly_from(usage, [code_of(name) for name in names], RULES))

    assert of("a") == [True, False, False, False, False]
    assert of("b") == [True, True, True, True, False]
    assert of("a", "b") == [True, True, True, True, False]
    assert of("c") == [False] * 5


def outage(**changes: object) -> Outage:
    one = Outage(
        id=1,
        source="app",
        code=7,
        began_at=MONDAY - timedelta(days=3),
        ended_at=MONDAY,
        seen_at=MONDAY,
        why=OutageCause.SILENT,
        missing_days=frozenset({739_000}),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def test_a_source_is_not_trusted_until_a_day_after_its_outage() -> None:
    def found(after: timedelta, **changes: object) -> Freshness:
        return freshness([outage(**changes)], MONDAY + after, RULES)

    day = timedelta(hours=24)
    assert found(timedelta(0), ended_at=None).out == {"app"}
    assert found(day - timedelta(seconds=1)).codes == {7}
    assert found(day - timedelta(seconds=1)).out == set()
    assert not found(day).is_stale
    assert found(day).outages.day.tolist() == [739_000]
    everywhere = found(timedelta(0), source="", code=0)
    assert everywhere.everywhere
    assert everywhere.outages.everywhere.tolist() == [739_000]
    assert everywhere.outages.source.tolist() == []


def test_hours_that_are_not_complete_or_too_old_are_left_out() -> None:
    end = hour_of(MONDAY)
    rows = [("app", end, 5), ("app", end - 1, 7), ("app", end - hours_read(RULES) - 1, 9)]
    assert hours_of(rows, MONDAY + timedelta(minutes=59), RULES).events.sum() == 7
