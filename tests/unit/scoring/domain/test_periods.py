"""Periods: how many months they are, leap years included, and when their books close."""

from datetime import date

import pytest

from services.scoring.domain.periods import (
    day_of,
    latest_months,
    midnight,
)
from tests.unit.scoring.ledgers import micros
from tests.unit.scoring.portfolios import period


@pytest.mark.parametrize(
    ("first", "end", "months"),
    [
        pytest.param("2026-01-01", "2026-02-01", 1, id="a month of 31 days"),
        pytest.param("2026-02-01", "2026-03-01", 1, id="a month of 28 days"),
        pytest.param("2024-02-01", "2024-03-01", 1, id="a month of 29 days"),
        pytest.param("2025-01-01", "2026-01-01", 12, id="a year"),
        pytest.param("2024-01-01", "2025-01-01", 12, id="a leap year"),
        pytest.param("2024-02-29", "2025-02-28", 12, id="a year from a leap day"),
        pytest.param("2024-02-29", "2025-03-01", 12 + 1 / 29, id="and 1 of 29 days"),
        pytest.param("2026-01-31", "2026-02-28", 1, id="to the last day of a shorter month"),
        pytest.param("2026-03-01", "2026-03-11", 10 / 31, id="ten days of March"),
        pytest.param("2026-01-15", "2026-03-01", 1 + 14 / 28, id="a month and a half"),
    ],
)
def test_a_period_is_so_many_months(first: str, end: str, months: float) -> None:
    assert period(first, end).months == pytest.approx(months)


def test_the_books_close_seven_days_after_the_period() -> None:
    january = period("2026-01-01", "2026-02-01")
    assert not january.is_final(micros("2026-02-07T23:59:59"))
    assert january.is_final(micros("2026-02-08"))


def test_the_last_months_end_with_the_running_one() -> None:
    found = latest_months(date(2024, 2, 29), 3)
    assert [f"{one.first}..{one.end}" for one in found] == [
        "2023-12-01..2024-01-01",
        "2024-01-01..2024-02-01",
        "2024-02-01..2024-03-01",
    ]


def test_days_begin_at_midnight_before_the_epoch_too() -> None:
    for day in (date(1969, 12, 31), date(2024, 2, 29)):
        begun = midnight(day)
        assert [day_of(begun), day_of(begun - 1)] == [day, date.fromordinal(day.toordinal() - 1)]
        at = micros(day.isoformat())
        assert at == begun
