"""Months, quarters, years and the last twelve months, by name, as reports speak of them."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

LAST_TWELVE: Final = "last12"
_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")
_QUARTER: Final = re.compile(r"(\d{4})-Q([1-4])")
_YEAR: Final = re.compile(r"\d{4}")
_YEARS: Final = range(2000, 2101)
_MONTHS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The days `[first, until)` under a name that stands in an address."""

    name: str
    title: str
    first: date
    until: date

    @property
    def last(self) -> date:
        return self.until - timedelta(days=1)


def period_of(name: str, *, today: date) -> Period | None:
    """`2026-10`, `2026-Q4`, `2026` or `last12` (twelve whole months before this one); else None."""
    if name == LAST_TWELVE:
        return last_twelve(today)
    if (found := _MONTH.fullmatch(name)) and 1 <= int(found[2]) <= _MONTHS:
        return month(int(found[1]), int(found[2])) if int(found[1]) in _YEARS else None
    if found := _QUARTER.fullmatch(name):
        return quarter(int(found[1]), int(found[2])) if int(found[1]) in _YEARS else None
    if _YEAR.fullmatch(name) and int(name) in _YEARS:
        return year(int(name))
    return None


def last_twelve(today: date) -> Period:
    """Whole months: the one that is not over yet is not in it."""
    until = today.replace(day=1)
    return Period(
        name=LAST_TWELVE, title="Last 12 months", first=_moved(until, -_MONTHS), until=until
    )


def month(of_year: int, number: int) -> Period:
    first = date(of_year, number, 1)
    return Period(
        name=f"{first:%Y-%m}", title=f"{first:%B %Y}", first=first, until=_moved(first, 1)
    )


def quarter(of_year: int, number: int) -> Period:
    first = date(of_year, 3 * number - 2, 1)
    return Period(
        name=f"{of_year}-Q{number}",
        title=f"Q{number} {of_year}",
        first=first,
        until=_moved(first, 3),
    )


def year(number: int) -> Period:
    return Period(
        name=str(number), title=str(number), first=date(number, 1, 1), until=date(number + 1, 1, 1)
    )


def month_before(one: Period, months: int = 1) -> Period:
    """The month so many months before a month."""
    first = _moved(one.first, -months)
    return month(first.year, first.month)


def choices(today: date) -> tuple[tuple[str, tuple[Period, ...]], ...]:
    """What a chooser offers, the newest first; this month, quarter and year are not over."""
    this = month(today.year, today.month)
    months = tuple(month_before(this, number) for number in range(13))
    quarters, first = [], date(today.year, (today.month - 1) // 3 * 3 + 1, 1)
    for number in range(5):
        begins = _moved(first, -3 * number)
        quarters.append(quarter(begins.year, begins.month // 3 + 1))
    years = tuple(year(today.year - number) for number in range(3))
    last = (last_twelve(today),)
    return (("", last), ("Months", months), ("Quarters", tuple(quarters)), ("Years", years))


def _moved(first: date, months: int) -> date:
    """The first day of a month so many months on."""
    index = first.year * _MONTHS + first.month - 1 + months
    return date(index // _MONTHS, index % _MONTHS + 1, 1)
