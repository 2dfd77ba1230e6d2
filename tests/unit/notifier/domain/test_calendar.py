"""When somebody works, and when something is due."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.calendar import (
    Calendar,
    calendar_of,
    is_known_place,
    known_zones,
    zone_of,
)
from services.notifier.domain.people import Away, Person, stranger

DAY = timedelta(days=1)
# Off the loop and before the first test: it reads the files of all zones.
known_zones()


def calendar(zone: str = "UTC", **changes: Any) -> Calendar:
    return Calendar(zone=zone_of(zone), **changes)


def at(zone: str, text: str, *, fold: int = 0) -> datetime:
    """The wall time `text` in `zone`."""
    return datetime.fromisoformat(text).replace(tzinfo=zone_of(zone), fold=fold)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "zone", "days", "due"),
    [
        pytest.param(
            utc("2026-06-01T09:00"),
            "UTC",
            1,
            utc("2026-06-02T18:00"),
            id="1 from Monday: end of Tuesday",
        ),
        pytest.param(
            utc("2026-06-04T09:00"),
            "UTC",
            3,
            utc("2026-06-09T18:00"),
            id="3 from Thursday: Tuesday, the weekend does not count",
        ),
        pytest.param(
            utc("2026-06-06T09:00"),
            "UTC",
            5,
            utc("2026-06-12T18:00"),
            id="5 from Saturday: Friday",
        ),
        pytest.param(
            utc("2026-06-05T19:00"),
            "Australia/Brisbane",
            1,
            utc("2026-06-08T08:00"),
            id="Friday 19:00 UTC is Saturday in Brisbane: their Monday, 18:00 at UTC+10",
        ),
        pytest.param(
            utc("2026-03-27T09:00"),
            "Europe/Berlin",
            1,
            utc("2026-03-30T16:00"),
            id="over the change to summer time: 18:00 at UTC+2, not UTC+1",
        ),
    ],
)
def test_the_end_of_a_working_day(now: datetime, zone: str, days: int, due: datetime) -> None:
    assert calendar(zone).end_of_working_day(now, days) == due


@pytest.mark.parametrize(
    "name", [None, "", "Mars/Olympus", "../../etc/passwd", "a\0b", "Europe", "x" * 5_000]
)
def test_an_unknown_or_hostile_zone_is_utc(name: str | None) -> None:
    assert zone_of(name) is UTC


@pytest.mark.parametrize(
    ("zone", "moment", "wall", "expected"),
    [
        pytest.param(
            "Europe/Berlin",
            utc("2026-03-28T12:00"),
            time(2, 30),
            utc("2026-03-29T01:30"),
            id="Berlin in spring: 02:30 is missing, 03:30 at UTC+2",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-10-24T12:00"),
            time(2, 30),
            utc("2026-10-25T00:30"),
            id="Berlin in autumn: the first 02:30, at UTC+2",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-10-25T00:45"),
            time(2, 30),
            utc("2026-10-26T01:30"),
            id="Berlin in autumn: the second 02:30 is none, so tomorrow's at UTC+1",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-03-28T12:00"),
            time(8, 30),
            utc("2026-03-29T06:30"),
            id="Berlin in spring: a digest at 08:30 comes 23 hours after the last",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-10-24T12:00"),
            time(8, 30),
            utc("2026-10-25T07:30"),
            id="Berlin in autumn: a digest at 08:30 comes 25 hours after the last",
        ),
        pytest.param(
            "America/New_York",
            utc("2026-03-07T17:00"),
            time(2, 30),
            utc("2026-03-08T07:30"),
            id="New York in spring: 02:30 is missing, 03:30 at UTC-4",
        ),
        pytest.param(
            "America/New_York",
            utc("2026-10-31T17:00"),
            time(1, 30),
            utc("2026-11-01T05:30"),
            id="New York in autumn: the first 01:30, at UTC-4",
        ),
        pytest.param(
            "Australia/Lord_Howe",
            utc("2026-10-03T10:00"),
            time(2, 15),
            utc("2026-10-03T15:45"),
            id="Lord Howe in spring: the gap is half an hour, 02:15 is 02:45 at UTC+11",
        ),
        pytest.param(
            "Australia/Lord_Howe",
            utc("2026-04-04T10:00"),
            time(1, 45),
            utc("2026-04-04T14:45"),
            id="Lord Howe in autumn: 01:45 comes twice, the first at UTC+11",
        ),
        pytest.param(
            "Pacific/Apia",
            utc("2011-12-29T22:00"),
            time(9),
            utc("2011-12-30T19:00"),
            id="Samoa left out a whole Friday: its 09:00 is Saturday's",
        ),
    ],
)
def test_the_next_time_a_clock_shows(
    zone: str, moment: datetime, wall: time, expected: datetime
) -> None:
    assert calendar(zone).next_local(moment, wall) == expected


def test_the_next_time_on_a_working_day_leaves_out_the_weekend() -> None:
    friday = utc("2026-06-05T09:00")
    assert calendar().next_local(friday, time(8, 30), working=True) == utc("2026-06-08T08:30")
    assert calendar().next_local(friday, time(8, 30)) == utc("2026-06-06T08:30")


@pytest.mark.parametrize(
    ("zone", "moment", "expected"),
    [
        pytest.param(
            "UTC", utc("2026-06-03T12:00"), utc("2026-06-03T12:00"), id="at noon it is open"
        ),
        pytest.param("UTC", utc("2026-06-03T09:00"), utc("2026-06-03T09:00"), id="at the opening"),
        pytest.param("UTC", utc("2026-06-03T04:00"), utc("2026-06-03T09:00"), id="in the morning"),
        pytest.param(
            "UTC", utc("2026-06-03T18:00"), utc("2026-06-04T09:00"), id="at the end it is closed"
        ),
        pytest.param(
            "UTC", utc("2026-06-05T20:00"), utc("2026-06-08T09:00"), id="Friday night: Monday"
        ),
        pytest.param(
            "Australia/Brisbane",
            utc("2026-06-05T19:00"),
            utc("2026-06-07T23:00"),
            id="Friday 19:00 UTC is Saturday 05:00 in Brisbane: their Monday 09:00 at UTC+10",
        ),
        pytest.param(
            "Australia/Brisbane",
            utc("2026-06-07T23:30"),
            utc("2026-06-07T23:30"),
            id="Sunday 23:30 UTC is Monday 09:30 in Brisbane: open",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-03-28T12:00"),
            utc("2026-03-30T07:00"),
            id="over Berlin's change in spring: 09:00 at UTC+2",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-10-24T12:00"),
            utc("2026-10-26T08:00"),
            id="over Berlin's change in autumn: 09:00 at UTC+1",
        ),
    ],
)
def test_the_next_opening(zone: str, moment: datetime, expected: datetime) -> None:
    mine = calendar(zone)
    assert mine.opens_at(moment) == expected
    assert mine.is_open(moment) == (moment == expected)


def test_hours_that_come_twice_are_open_once() -> None:
    """A Saudi week in Berlin: on Sunday, a working day, 02:20 comes twice."""
    night = calendar("Europe/Berlin", opens=time(2, 10), closes=time(2, 40), country="SA")
    assert night.is_open(at("Europe/Berlin", "2026-10-25T02:20"))
    assert not night.is_open(at("Europe/Berlin", "2026-10-25T02:20", fold=1))


@pytest.mark.parametrize(
    ("country", "region", "day", "works"),
    [
        pytest.param(None, None, "2026-12-25", True, id="nowhere there are no holidays"),
        pytest.param("DE", None, "2026-12-25", False, id="Germany: Christmas"),
        pytest.param("DE", "BY", "2026-01-06", False, id="Bavaria: Epiphany"),
        pytest.param("DE", "HH", "2026-01-06", True, id="Hamburg works on Epiphany"),
        pytest.param("DE", "BY", "2026-10-31", False, id="a Saturday"),
        pytest.param("US", None, "2026-07-03", False, id="USA: 4 July on a Saturday, so Friday"),
        pytest.param("US", "CA", "2026-03-31", False, id="California: Cesar Chavez Day"),
        pytest.param("US", "NY", "2026-03-31", True, id="New York works on it"),
        pytest.param("SA", None, "2026-06-05", False, id="Saudi Arabia: Friday is weekend"),
        pytest.param("SA", None, "2026-06-06", False, id="Saudi Arabia: Saturday is weekend"),
        pytest.param("SA", None, "2026-06-07", True, id="Saudi Arabia: Sunday is a working day"),
        pytest.param("AE", None, "2021-06-04", False, id="Emirates: Friday was weekend in 2021"),
        pytest.param("AE", None, "2026-06-05", True, id="Emirates: Friday is none since 2022"),
        pytest.param("CN", None, "2026-02-14", True, id="China: a Saturday worked for New Year"),
        pytest.param("CN", None, "2026-02-20", False, id="China: the Friday it was worked for"),
        pytest.param("HU", None, "2026-08-08", True, id="Hungary: Saturday worked for 21 August"),
        pytest.param("HU", None, "2026-08-21", False, id="Hungary: the Friday it was worked for"),
        pytest.param("XX", None, "2026-06-06", False, id="an unknown country: Saturday"),
        pytest.param("XX", None, "2026-06-05", True, id="an unknown country: Friday"),
    ],
)
def test_working_days(country: str | None, region: str | None, day: str, *, works: bool) -> None:
    mine = calendar(country=country, region=region)
    assert mine.is_working_day(date.fromisoformat(day)) is works


def test_working_days_do_not_depend_on_which_year_was_asked_first() -> None:
    """The library knows a year's swapped days only once it has built it."""
    asked_first = date(2018, 12, 29)
    assert calendar(country="CN").is_working_day(asked_first)


def test_own_days_off_do_not_count() -> None:
    may_day = date(2026, 5, 1)
    mine = calendar(days_off=frozenset({may_day}))
    assert mine.working_day_after(date(2026, 4, 30), 1) == date(2026, 5, 4)


def test_the_region_moves_the_due_date() -> None:
    monday = utc("2026-01-05T10:00")  # Epiphany is Tuesday.
    bavaria = calendar("Europe/Berlin", country="DE", region="BY")
    hamburg = calendar("Europe/Berlin", country="DE", region="HH")
    assert hamburg.end_of_working_day(monday, 1) == utc("2026-01-06T17:00")
    assert bavaria.end_of_working_day(monday, 1) == utc("2026-01-07T17:00")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        pytest.param("2026-06-04T10:00", "2026-06-04T18:00", id="during the day: its end"),
        pytest.param("2026-06-04T20:00", "2026-06-05T18:00", id="in the evening: tomorrow"),
        pytest.param("2026-06-06T10:00", "2026-06-08T18:00", id="on Saturday: Monday"),
    ],
)
def test_due_in_no_days_is_what_is_left_of_today(moment: str, expected: str) -> None:
    assert calendar().end_of_working_day(utc(moment), 0) == utc(expected)


@pytest.mark.parametrize(
    ("zone", "moment", "days", "expected"),
    [
        pytest.param(
            "Europe/Berlin",
            utc("2026-03-27T10:00"),
            1,
            utc("2026-03-30T09:00"),
            id="Friday 11:00 in Berlin + 1 over the change: Monday 11:00, 71 hours later",
        ),
        pytest.param(
            "Europe/Berlin",
            utc("2026-10-23T09:00"),
            1,
            utc("2026-10-26T10:00"),
            id="Friday 11:00 in Berlin + 1 over the change back: 73 hours later",
        ),
        pytest.param(
            "UTC", utc("2026-06-06T10:00"), 1, utc("2026-06-08T10:00"), id="from Saturday"
        ),
        pytest.param("UTC", utc("2026-06-03T10:00"), 0, utc("2026-06-03T10:00"), id="no days"),
        pytest.param(
            "Australia/Brisbane",
            utc("2026-06-05T19:00"),
            1,
            utc("2026-06-07T19:00"),
            id="Saturday 05:00 in Brisbane + 1: Monday 05:00, Sunday in UTC",
        ),
    ],
)
def test_business_days_keep_the_wall_time(
    zone: str, moment: datetime, days: int, expected: datetime
) -> None:
    assert calendar(zone).add_business_days(moment, days) == expected


def test_business_days_between_two_moments() -> None:
    friday, tuesday = utc("2026-06-05T23:00"), utc("2026-06-09T01:00")
    assert calendar().business_days_between(friday, tuesday) == 2
    assert calendar().business_days_between(tuesday, friday) == 0


def test_hours_that_never_open_are_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        calendar(opens=time(18), closes=time(9))


def test_a_person_s_calendar_ignores_that_they_are_away() -> None:
    """Their deputy has the work; where there is none it must escalate, not wait."""
    away = Away(first=date(2026, 6, 1), last=date(2026, 6, 30))
    anna = Person(
        address="anna@vendor.example",
        zone="Europe/Berlin",
        country="DE",
        days_off=(date(2026, 6, 8),),
        away=(away,),
    )
    mine = calendar_of(anna)
    assert mine.is_working_day(date(2026, 6, 9))
    assert not mine.is_working_day(date(2026, 6, 8))
    assert calendar_of(anna) is mine


async def test_a_place_that_was_asked_about_is_computed_without_reading_files() -> None:
    """Else this fails: nothing of ours may block the loop."""
    assert await asyncio.to_thread(is_known_place, "GB", "SCT")
    scotland = calendar("Europe/London", country="GB", region="SCT")
    for year in range(2020, 2040):
        assert not scotland.is_working_day(date(year, 1, 2))


def test_places_are_known_by_their_codes() -> None:
    assert is_known_place("DE", "BY")
    assert not is_known_place("DE", "XX")
    assert not is_known_place("../etc", None)


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Riyadh"]
PLACES = [(None, None), ("DE", "BY"), ("SA", None), ("CN", None), ("XX", None)]
moments = st.datetimes(
    min_value=datetime(2019, 1, 1),  # noqa: DTZ001
    max_value=datetime(2031, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    hours = sorted(draw(st.lists(st.times(), min_size=2, max_size=2, unique=True)))
    country, region = draw(st.sampled_from(PLACES))
    return calendar(
        draw(st.sampled_from(ZONES)),
        opens=hours[0],
        closes=hours[1],
        country=country,
        region=region,
        days_off=frozenset(draw(st.lists(st.dates(date(2019, 1, 1), date(2031, 1, 1))))),
    )


@given(calendars(), moments)
def test_an_opening_is_open_never_earlier_and_its_own_next(
    mine: Calendar, moment: datetime
) -> None:
    opening = mine.opens_at(moment)
    assert opening >= moment
    assert mine.is_open(opening)
    assert mine.opens_at(opening) == opening


@given(calendars(), moments, st.timedeltas(timedelta(0), 60 * DAY))
def test_a_later_moment_never_opens_earlier(
    mine: Calendar, moment: datetime, later: timedelta
) -> None:
    assert mine.opens_at(moment) <= mine.opens_at(moment + later)


@given(calendars(), moments, st.integers(1, 30))
def test_one_working_day_more_is_later_and_on_a_working_day(
    mine: Calendar, moment: datetime, n: int
) -> None:
    earlier, later = mine.end_of_working_day(moment, n), mine.end_of_working_day(moment, n + 1)
    assert moment < earlier < later
    assert mine.is_working_day(mine.day_of(later))


@given(calendars(), moments, st.integers(0, 30))
def test_business_days_are_counted_as_they_are_added(
    mine: Calendar, moment: datetime, n: int
) -> None:
    assert mine.business_days_between(moment, mine.add_business_days(moment, n)) == n


@given(calendars(), moments, st.times())
def test_the_next_time_a_clock_shows_is_within_two_days_and_a_change(
    mine: Calendar, moment: datetime, wall: time
) -> None:
    following = mine.next_local(moment, wall)
    assert moment < following <= moment + 2 * DAY + timedelta(hours=1)


def test_whose_hours_are_not_known_is_told_at_any_hour_and_due_by_working_days() -> None:
    friday_night = datetime(2026, 6, 5, 23, tzinfo=UTC)
    found = calendar_of(stranger("new@vendor.example"))
    assert found.opens_at(friday_night) == friday_night
    # The first working day after Friday is Monday, 8 June; it closes at 18:00.
    assert found.end_of_working_day(friday_night, 1) == datetime(2026, 6, 8, 18, tzinfo=UTC)
