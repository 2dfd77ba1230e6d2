"""Spans of whole UTC days, and how many months they are."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from services.scoring.domain.renewal import months_after
from services.scoring.domain.usage import Integers

BOOKS_CLOSE_DAYS: Final = 7
"""How long after a day news of it still count for it; later ones count when they come."""

_DAY: Final = 86_400_000_000  # microseconds
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The days from `first` to before `end`."""

    first: date
    end: date

    @property
    def months(self) -> float:
        """Calendar months, the rest of one as a share of it: a year is 12, leap year or not."""
        whole = (self.end.year - self.first.year) * 12 + self.end.month - self.first.month
        if months_after(self.first, whole) > self.end:
            whole -= 1
        begun = months_after(self.first, whole)
        length = months_after(self.first, whole + 1) - begun
        return whole + (self.end - begun) / length

    def so_far(self, today: date) -> "Period":
        """What of it is not to come: up to the running day, which counts as a whole."""
        return replace(self, end=min(self.end, today + timedelta(days=1)))

    def is_final(self, as_of: int) -> bool:
        """Whether its books are closed at the moment (epoch microseconds)."""
        return books_close(self.end) <= as_of


def month(first: date) -> Period:
    """The calendar month of a day."""
    begun = first.replace(day=1)
    return Period(first=begun, end=months_after(begun, 1))


def latest_months(today: date, count: int) -> list[Period]:
    """The last months, the running one at the end."""
    this = today.replace(day=1)
    return [month(months_after(this, -ago)) for ago in reversed(range(count))]


def books_close(day: date) -> int:
    """When the books of the day's beginning close, in epoch microseconds."""
    return midnight(day + timedelta(days=BOOKS_CLOSE_DAYS))


def midnight(day: date) -> int:
    """Its beginning in epoch microseconds."""
    return (day.toordinal() - _EPOCH) * _DAY


def day_of(moment: int) -> date:
    """The UTC day in which a moment (epoch microseconds) lies."""
    return date.fromordinal(moment // _DAY + _EPOCH)


def days_of(moments: Integers) -> Integers:
    """The ordinals of the UTC days in which moments lie."""
    return moments // _DAY + _EPOCH


def first_days_after(moments: Integers) -> Integers:
    """The ordinals of the first days that begin at the moments or later."""
    return -(-moments // _DAY) + _EPOCH
