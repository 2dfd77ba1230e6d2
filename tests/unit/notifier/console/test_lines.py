"""Risk over time as a line, and the marks in it."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.notifier.console.lines import Point, lines
from services.notifier.console.marks import Mark, MarkKind, marks_of, notice_by, placed
from shared.messages import AccountFields

TODAY = date(2026, 6, 30)
NOON = datetime(2026, 6, 30, 12, tzinfo=UTC)


def point(ago: float, value: float, band: str = "watch") -> Point:
    return Point(at=NOON - timedelta(days=ago), value=value, band=band)


def mark(ago: int, what: str = "Flag") -> Mark:
    return Mark(day=TODAY - timedelta(days=ago), what=what, kind=MarkKind.FLAG)


def test_without_a_point_there_is_no_line() -> None:
    assert lines([], today=TODAY, width=800) is None
    assert lines([point(365, 0.5)], today=TODAY, width=800) is None


def test_the_axis_ends_above_the_highest_and_halves_are_half() -> None:
    made = lines([point(60, 0.1), point(0, 0.4)], today=TODAY, width=800, height=100)
    assert made is not None
    assert [one.text for one in made.grid] == ["0 %", "20 %", "40 %"]
    # 40 % of 40 % is the top of the axis, 10 % a quarter of its 100 units above the base.
    rises = [float(pair.split(",")[1]) for pair in made.line.split(" ")]
    assert rises == [made.base - 25, made.top]
    assert made.last[0] == made.now


def test_bands_are_stretches_that_meet_and_end_today() -> None:
    points = [point(60, 0.1, "watch"), point(50, 0.1, "watch"), point(20, 0.5, "critical")]
    made = lines(points, today=TODAY, width=800)
    assert made is not None
    first, second = made.zones
    assert (first.band, second.band) == ("watch", "critical")
    assert first.x + first.width == pytest.approx(second.x, abs=0.11)
    assert second.x + second.width == pytest.approx(made.now, abs=0.11)


def test_what_of_the_contract_lies_ahead_is_drawn_and_what_is_far_off_is_not() -> None:
    ahead, far = mark(-100, "Notice by"), mark(-151, "Contract ends")
    made = lines([point(10, 0.2)], today=TODAY, width=800, marks=[mark(5), ahead, far])
    assert made is not None
    assert [one.text for one in made.marks] == ["Flag 25 Jun", "Notice by 8 Oct"]
    assert made.now < made.marks[1].at <= made.right


def test_of_marks_that_lie_close_the_newest_is_named() -> None:
    found = placed(
        [mark(ago) for ago in (0, 3, 60, 170)],
        lambda day: 44 + (day - TODAY).days * 5 + 850,
        left=154,
        right=952,
    )
    # Five units a day: "Flag 30 Jun" has no room on its right, and three days before it are 15
    # units, where a text takes 75; 170 days before is left of where texts may begin.
    assert [(one.text, one.ends) for one in found] == [
        ("", False), ("Flag 1 May", False), ("", True), ("Flag 30 Jun", True)
    ]  # fmt: skip


def test_a_contract_has_three_marks_and_notice_is_days_before_its_end() -> None:
    fields = AccountFields(
        contract_start=date(2025, 10, 1), contract_end=date(2026, 9, 30), notice_days=30
    )
    # 30 days before 30 September.
    assert notice_by(fields) == date(2026, 8, 31)
    assert [one.text for one in marks_of([NOON, NOON], [], fields)] == [
        "Contract began 1 Oct", "Flag 30 Jun", "Notice by 31 Aug", "Contract ends 30 Sep"
    ]  # fmt: skip
    assert notice_by(AccountFields(contract_end=date(2026, 9, 30), notice_days=0)) is None
    assert marks_of([], [], None) == ()
