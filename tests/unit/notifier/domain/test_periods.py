"""Periods by name."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain import periods

TODAY = date(2026, 11, 22)


@pytest.mark.parametrize(
    ("name", "first", "until"),
    [
        ("2026-10", date(2026, 10, 1), date(2026, 11, 1)),
        ("2024-02", date(2024, 2, 1), date(2024, 3, 1)),
        ("2026-12", date(2026, 12, 1), date(2027, 1, 1)),
        ("2026-Q4", date(2026, 10, 1), date(2027, 1, 1)),
        ("2026", date(2026, 1, 1), date(2027, 1, 1)),
        ("last12", date(2025, 11, 1), date(2026, 11, 1)),
    ],
)
def test_a_name_is_whole_months(name: str, first: date, until: date) -> None:
    found = periods.period_of(name, today=TODAY)
    assert found is not None
    assert (found.name, found.first, found.until) == (name, first, until)


@pytest.mark.parametrize("name", ["", "2026-13", "2026-00", "2026-Q5", "1999", "9999-01", "x"])
def test_what_is_no_period_is_none(name: str) -> None:
    assert periods.period_of(name, today=TODAY) is None


@given(st.dates(date(2003, 1, 1), date(2099, 1, 1)))
def test_every_choice_can_be_named_and_the_newest_holds_today(today: date) -> None:
    for title, group in periods.choices(today):
        for one in group:
            assert periods.period_of(one.name, today=today) == one
        if title:
            assert group[0].first <= today < group[0].until
        for newer, older in pairwise(group):
            assert older.until == newer.first
            assert older.last + timedelta(days=1) == newer.first
