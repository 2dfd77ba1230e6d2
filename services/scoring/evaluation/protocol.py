"""When a file's accounts are looked at, what counts as lost then, and which looks are tested.

By default (scoring.md, section 7): a look T every 28 days from 1 January of the year of the first
arrival, while T + horizon is closed 14 days before the last one; accounts take part that the
product gives a risk (`scored`); periods are tested in turn, each on models of what was known before
it (`walkforward.folds`: years, or shorter ones in files that span less than four).

A ledger of days (no arrival times) is use of another kind: rare, and most accounts never become
`scored`. There every account that was ever active takes part; where it spans less than two years,
one look is learnt from and one is tested, a horizon apart: earlier ones would see a history too
short to compare. Looks can be named instead (`as_of`); then each from the second on is tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal, TypeAlias

import numpy as np

from services.scoring.evaluation.event_file import EventFile, UnusableFile
from services.scoring.walkforward import Days, Fold, Lost, folds

Eligible: TypeAlias = Literal["scored", "any"]

LOOK_EVERY_DAYS: Final = 28
HORIZON_DAYS: Final = 90
SETTLING_DAYS: Final = 14
SHORT_LEDGER_DAYS: Final = 2 * 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller asks for; None: as the file suggests."""

    first_year: int | None = None
    as_of: tuple[date, ...] = ()
    horizon_days: int = HORIZON_DAYS
    eligible: Eligible | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`days`: every T, ascending. `apart`: each T from the second on is tested by itself."""

    days: tuple[date, ...]
    horizon_days: int
    eligible: Eligible
    first_test: date | None
    apart: bool

    def folds(self, day: Days, lost: Lost) -> tuple[Fold, ...]:
        """What is tested and what teaches it; both vectors are `(rows,)`, `day` an ordinal."""
        if not self.apart:
            return folds(day, lost, horizon_days=self.horizon_days, first=self.first_test)
        found = []
        for start in np.unique(day).tolist():
            train, test = day + self.horizon_days <= start, day == start
            if 0 < lost[train].sum() < train.sum():
                found.append(Fold(start=start, end=start + 1, train=train, test=test))
        return tuple(found)


def plan(file: EventFile, wishes: Wishes) -> Plan:
    """The looks at a file; raises UnusableFile where it is too short for any."""
    first = file.events[0].received_at.date()
    last = file.events[-1].received_at.date()
    eligible = wishes.eligible or ("scored" if file.has_arrivals else "any")
    horizon = timedelta(days=wishes.horizon_days)
    if wishes.as_of:
        days, apart = _named(wishes.as_of, last, horizon), True
    elif eligible == "any" and (last - first).days < SHORT_LEDGER_DAYS:
        days, apart = (last - 2 * horizon, last - horizon), True
    else:
        # What is late is waited for, where anything can be.
        settled = last - timedelta(days=SETTLING_DAYS if file.has_arrivals else 0)
        days, apart = _every_28_days(date(first.year, 1, 1), first, settled - horizon), False
    if not days or days[0] < first:
        raise UnusableFile(
            f"the events span {(last - first).days} days, from {first} to {last}: too short to"
            f" look at the accounts and to see what became of them {wishes.horizon_days} days later"
        )
    return Plan(
        days=days,
        horizon_days=wishes.horizon_days,
        eligible=eligible,
        first_test=None if wishes.first_year is None else date(wishes.first_year, 1, 1),
        apart=apart,
    )


def _named(as_of: Sequence[date], last: date, horizon: timedelta) -> tuple[date, ...]:
    days = tuple(sorted(set(as_of)))
    if len(days) < 2:
        raise UnusableFile("--as-of is needed twice at least: one day to learn from, one to test")
    if days[-1] + horizon > last:
        raise UnusableFile(
            f"{days[-1]} cannot be tested: the events end on {last}, before the"
            f" {horizon.days} days after it are over"
        )
    return days


def _every_28_days(anchor: date, first: date, end: date) -> tuple[date, ...]:
    """Every 28 days from `anchor` on, those from `first` on and before `end`."""
    step = timedelta(days=LOOK_EVERY_DAYS)
    count = max((end - anchor).days, 0) // LOOK_EVERY_DAYS + 1
    days = (anchor + number * step for number in range(count))
    return tuple(day for day in days if first <= day < end)
