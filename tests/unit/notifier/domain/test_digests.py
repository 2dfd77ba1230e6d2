"""When a digest is due, by the clock on the recipient's wall."""

from datetime import UTC, date, datetime, time
from typing import Any

import pytest

from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.digests import DigestKind, leads_of, reports_of, slots
from services.notifier.domain.people import (
    Mode,
    Person,
    Preference,
    Roster,
    Team,
    preferring,
)

DAILY, WEEKLY, TEAM = DigestKind.DAILY, DigestKind.WEEKLY, DigestKind.TEAM
ANNA = "anna@vendor.example"


def utc(month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def due(
    now: datetime, *, mode: Mode = Mode.REAL_TIME, leads: bool = False, **person: Any
) -> list[tuple[DigestKind, date, datetime]]:
    who = Person(address=ANNA, **person)
    found = slots(who, calendar_of(who), mode=mode, leads=leads, now=now)
    return [(one.kind, one.local_date, one.at) for one in found]


@pytest.mark.parametrize(
    ("zone", "digest_at", "now", "at"),
    [
        # Clocks go forward on Sunday 29 March 2026, back on 25 October, at 01:00 UTC.
        pytest.param(
            "Europe/Berlin", time(8, 30), utc(3, 27, 9), utc(3, 27, 7, 30), id="Berlin in winter"
        ),
        pytest.param(
            "Europe/Berlin", time(8, 30), utc(3, 30, 9), utc(3, 30, 6, 30), id="Berlin in summer"
        ),
        pytest.param(
            "Europe/Berlin", time(8, 30), utc(10, 26, 9), utc(10, 26, 7, 30), id="and back again"
        ),
        # Friday 19:00 UTC is Saturday 05:00 in Brisbane; Thursday 23:00 is Friday 09:00.
        pytest.param(
            "Australia/Brisbane",
            time(8, 30),
            utc(6, 4, 23),
            utc(6, 4, 22, 30),
            id="Friday in Brisbane is Thursday in UTC",
        ),
    ],
)
def test_a_digest_comes_at_the_same_wall_time_all_year(
    zone: str, digest_at: time, now: datetime, at: datetime
) -> None:
    found = due(now, zone=zone, digest_at=digest_at)
    assert [one[0] for one in found] == [DAILY]
    assert found[0][2] == at


@pytest.mark.parametrize(
    ("now", "person"),
    [
        pytest.param(utc(6, 3, 8), {}, id="half an hour too early"),
        pytest.param(utc(6, 6, 12), {}, id="a Saturday"),
        pytest.param(
            utc(6, 5, 23), {"zone": "Australia/Brisbane"}, id="a Saturday in Brisbane, not in UTC"
        ),
        pytest.param(utc(6, 5, 12), {"country": "SA"}, id="a Friday in Saudi Arabia"),
        pytest.param(utc(12, 25, 12), {"country": "DE"}, id="Christmas Day in Germany"),
        pytest.param(utc(6, 3, 12), {"days_off": (date(2026, 6, 3),)}, id="a day off of their own"),
    ],
)
def test_no_digest_comes_when_nobody_is_at_work(now: datetime, person: dict[str, Any]) -> None:
    assert [one for one in due(now, **person) if one[0] is DAILY] == []


def test_a_missing_wall_time_moves_by_the_gap_and_a_doubled_one_is_the_first() -> None:
    # A Sunday is a working day in Saudi Arabia, a change of clocks there is in Berlin: an odd
    # person, but the one whom both happen to.
    odd: dict[str, Any] = {"zone": "Europe/Berlin", "country": "SA", "digest_at": time(2, 30)}
    assert due(utc(3, 29, 12), **odd)[0][2] == utc(3, 29, 1, 30)  # 03:30 in summer time
    assert due(utc(10, 25, 12), **odd)[0][2] == utc(10, 25, 0, 30)  # 02:30, still summer time


def test_late_is_the_same_day_and_then_never() -> None:
    wednesday = date(2026, 6, 3)
    assert due(utc(6, 3, 23, 59))[0][1] == wednesday
    assert due(utc(6, 4, 9))[0][1] == date(2026, 6, 4)


def test_a_weekly_digest_comes_on_the_first_working_day_and_all_week_if_it_is_late() -> None:
    monday, tuesday = date(2026, 5, 25), date(2026, 5, 26)  # Whit Monday: a holiday in Germany
    assert due(utc(5, 25, 12), mode=Mode.WEEKLY) == [(WEEKLY, monday, utc(5, 25, 8, 30))]
    assert due(utc(5, 25, 12), mode=Mode.WEEKLY, country="DE") == []
    assert [one[:2] for one in due(utc(5, 30, 12), mode=Mode.WEEKLY, country="DE")] == [
        (WEEKLY, tuesday)
    ]


def test_who_leads_others_hears_of_them_weekly_beside_their_own_work() -> None:
    assert [one[0] for one in due(utc(6, 3, 12), leads=True)] == [DAILY, TEAM]


def test_who_wants_nothing_gets_nothing() -> None:
    assert due(utc(6, 3, 12), mode=Mode.NEVER, leads=True) == []


def test_managers_and_leads_see_the_work_of_theirs_and_not_their_own() -> None:
    roster = Roster(
        fallback_owner="desk@vendor.example",
        fallback_lead="Lea@vendor.example",
        people=(
            Person(address="Ben@vendor.example", manager="lea@vendor.example"),
            Person(address="lea@vendor.example"),
        ),
        teams=(
            Team(name="north", lead="kim@vendor.example", members=(ANNA, "kim@vendor.example")),
        ),
    )
    assert leads_of(roster) == {"lea@vendor.example", "kim@vendor.example"}
    assert reports_of("LEA@vendor.example", roster) == {
        "ben@vendor.example",
        "desk@vendor.example",
    }
    assert reports_of("kim@vendor.example", roster) == {ANNA}
    assert reports_of(ANNA, roster) == frozenset()


def test_what_a_person_has_chosen_goes_over_the_team_file() -> None:
    roster = Roster(
        fallback_owner="desk@vendor.example",
        fallback_lead="desk@vendor.example",
        people=(Person(address="Anna@vendor.example", zone="Europe/Paris", slack="U1"),),
    )
    wanted = {
        ANNA: Preference(email=Mode.DAILY, digest_at=time(7)),
        "new@vendor.example": Preference(mode=Mode.NEVER),
    }
    merged = preferring(roster, wanted)
    anna = merged.person(ANNA)
    assert (anna.zone, anna.slack, anna.digest_at) == ("Europe/Paris", "U1", time(7))
    assert (anna.mode_at("email"), anna.mode_at("slack")) == (Mode.DAILY, Mode.REAL_TIME)
    assert merged.person("new@vendor.example").mode_at("email") is Mode.NEVER
    assert preferring(roster, {}) is roster


def test_hours_that_do_not_fit_the_team_file_any_more_do_not_hold() -> None:
    # Chosen beside 09:00, which the team file has made 11:00 since.
    roster = Roster(
        fallback_owner="desk@vendor.example",
        fallback_lead="desk@vendor.example",
        people=(Person(address=ANNA, opens=time(11)),),
    )
    anna = preferring(roster, {ANNA: Preference(closes=time(10), zone="Asia/Tokyo")}).person(ANNA)
    calendar = calendar_of(anna)
    assert (calendar.opens, calendar.closes) == (time(11), time(18))
    assert anna.zone == "Asia/Tokyo"
