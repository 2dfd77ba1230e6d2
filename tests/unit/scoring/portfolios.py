"""A ledger's figures in one call, and vendors of many equal accounts."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from services.scoring.domain.books import Books
from services.scoring.domain.cuts import Cut
from services.scoring.domain.economics import Figures, Money, Portfolio, portfolio
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.periods import Period
from services.scoring.domain.tallies import tally
from services.scoring.domain.terms import terms_of
from tests.unit.scoring.ledgers import LedgerAccount, account

LONG_AGO = "2020-01-01"

# So that the directory is known to have begun long ago: what is told of others later is news.
FIRST_CHANGE = account(
    "~first", {LONG_AGO: {"status": "trial"}, "2020-01-02": {"status": "trial", "plan": "trial"}}
)


def period(first: str, end: str) -> Period:
    return Period(first=date.fromisoformat(first), end=date.fromisoformat(end))


def portfolio_of(
    ledger: Ledger,
    first: str,
    end: str,
    cut: Cut = Cut.WHOLE,
    filters: Mapping[Cut, str] | None = None,
) -> Portfolio:
    books = Books(ledger.versions, len(ledger.accounts))
    asked = period(first, end)
    found = tally(ledger, books, terms_of(books), asked, cut=cut, filters=filters or {})
    return portfolio(found, asked.months)


def whole_of(ledger: Ledger, first: str, end: str, **filters: str) -> Figures:
    wanted = {Cut(name): value for name, value in filters.items()}
    return portfolio_of(ledger, first, end, filters=wanted).whole


def money_of(ledger: Ledger, first: str, end: str, currency: str = "EUR") -> Money:
    (found,) = (one for one in whole_of(ledger, first, end).money if one.currency == currency)
    return found


def many(
    count: int, name: str, *changes: Mapping[str, Mapping[str, Any]], **today: Any
) -> list[LedgerAccount]:
    """Accounts of the same fields; versions name all of their fields, as the ledger has them."""
    versions = {since: fields for change in changes for since, fields in change.items()}
    return [account(f"{name}-{number:03d}", versions, **today) for number in range(count)]
