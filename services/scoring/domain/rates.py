"""Rates of losing customers, what they are in a month and a year, what a lifetime is worth."""

from dataclasses import dataclass
from typing import Final

FEWEST_ACCOUNTS: Final = 10
"""Of fewer accounts no rate is told: one of them would make it jump."""

MOST_MONTHS: Final = 60
"""Nobody knows of a customer what happens in more than five years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """`rate` is of the `n` accounts under contract at the start; the others are it in a month, in
    a year.
    """

    rate: float | None
    retention: float | None
    per_month: float | None
    per_year: float | None
    n: int


def churn(lost: int, start: int, months: float) -> Churn:
    """The churn of the accounts under contract at the start, lost within so many months."""
    rate = lost / start if start >= FEWEST_ACCOUNTS else None
    return Churn(
        rate=rate,
        retention=None if rate is None else 1 - rate,
        per_month=None if rate is None else per_months(rate, months, 1),
        per_year=None if rate is None else per_months(rate, months, 12),
        n=start,
    )


def per_months(rate: float, months: float, wanted: float) -> float:
    """A churn rate of some months as that of others, lost at the same pace all through.

    2 % a month is 1 - 0.98 ** 12 = 21.5 % a year; 10 % a year is 0.87 % a month.
    """
    lost: float = 1 - (1 - rate) ** (wanted / months)
    return lost


def months_of_life(monthly_churn: float) -> float:
    """How long a customer stays on average, at that pace; `MOST_MONTHS` at most."""
    return MOST_MONTHS if monthly_churn * MOST_MONTHS <= 1 else 1 / monthly_churn


def share_of(part: int, whole: int, n: int) -> float | None:
    """None where it is of too few accounts, or of nothing."""
    return part / whole if n >= FEWEST_ACCOUNTS and whole > 0 else None
