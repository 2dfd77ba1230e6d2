"""How long customers stay: of each segment that is large enough, else of the vendor as a whole."""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from services.scoring.domain.books import Books
from services.scoring.domain.cuts import Truths
from services.scoring.domain.ledger import UNKNOWN
from services.scoring.domain.rates import churn, months_of_life
from services.scoring.domain.renewal import months_after
from services.scoring.domain.usage import Floats

SEGMENT_ACCOUNTS: Final = 30
"""Fewer accounts do not tell how long those of a segment stay."""

_MONTHS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """`months` `(accounts,)`, NaN where nobody can tell yet; `is_own`: of the account's segment."""

    months: Floats
    is_own: Truths


def lifetimes_at(books: Books, until: date) -> Lifetimes:
    """From the churn of the twelve months before the day.

    Pace alone counts, not age: a customer of today stays as long as one that has just come.
    """
    first = months_after(until, -_MONTHS).toordinal()
    started = books.customers_at(first)
    lost = started & ~books.customers_at(until.toordinal())
    before = _segments(books, first)
    started_in = np.bincount(before[started])
    lost_in = np.bincount(before[lost], minlength=len(started_in))
    vendor = _months(int(lost_in.sum()), int(started_in.sum()))
    now = _segments(books, until.toordinal())
    size = max(len(started_in), int(now.max(initial=0)) + 1)
    months, is_own = np.full(size, vendor), np.zeros(size, np.bool_)
    for segment in np.flatnonzero(started_in >= SEGMENT_ACCOUNTS):
        if segment > 0:  # The first one are those without a segment.
            months[segment] = _months(int(lost_in[segment]), int(started_in[segment]))
            is_own[segment] = True
    return Lifetimes(months=months[now], is_own=is_own[now])


def _segments(books: Books, day: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The accounts' segments at the day, from 1; 0 where none is known."""
    version = books.version_at(day)
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        np.append(books.versions.segment, UNKNOWN)[version] + 1
    )
    return found


def _months(lost: int, started: int) -> float:
    monthly = churn(lost, started, _MONTHS).per_month
    return float("nan") if monthly is None else months_of_life(monthly)
