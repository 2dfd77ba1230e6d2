"""The figures of a ledger, as the read API asks for them: computed in threads, closed months kept.

What is kept of a closed month depends only on what its books know. It stays until something of that
is gone (an erasure) or came after all (the first load of a directory).
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.domain.books import ALWAYS, Books
from services.scoring.domain.cuts import Cut
from services.scoring.domain.economics import Figures, Portfolio, portfolio
from services.scoring.domain.forecast import Forecast, forecast
from services.scoring.domain.ledger import Ledger
from services.scoring.domain.periods import Period, books_close, day_of
from services.scoring.domain.tallies import tally
from services.scoring.domain.terms import Terms, terms_of

_MOST_KEPT: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """The books of a ledger, and the contracts in them."""

    books: Books
    terms: Terms


class Accounting:
    """May be asked from several threads at once."""

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._opened: _Opened | None = None
        self._kept: OrderedDict[Hashable, Figures] = OrderedDict()

    def portfolio(
        self, ledger: Ledger, period: Period, cut: Cut, filters: Mapping[Cut, str]
    ) -> Portfolio:
        opened = self._open(ledger)
        found = tally(ledger, opened.books, opened.terms, period, cut=cut, filters=filters)
        # A pace is that of the days that have been.
        return portfolio(found, period.so_far(day_of(ledger.as_of)).months)

    def figures(self, ledger: Ledger, period: Period, filters: Mapping[Cut, str]) -> Figures:
        """The whole; kept where the period's books are closed."""
        if not period.is_final(ledger.as_of):
            return self.portfolio(ledger, period, Cut.WHOLE, filters).whole
        books = self._open(ledger).books
        closed = books_close(period.end)
        key = (
            period,
            tuple(sorted(filters.items())),
            int(np.count_nonzero(books.versions.since < closed)),
            int(np.count_nonzero(ledger.stages.since < closed)),
            int(np.count_nonzero(books.told == ALWAYS)),
        )
        found = self._kept.get(key)
        if found is None:
            found = self.portfolio(ledger, period, Cut.WHOLE, filters).whole
            self._kept[key] = found
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def forecast(self, ledger: Ledger, cut: Cut, filters: Mapping[Cut, str]) -> Forecast:
        return forecast(ledger, self._open(ledger).books, cut=cut, filters=filters)

    def _open(self, ledger: Ledger) -> _Opened:
        """The books are made anew when the register has read something of the directory."""
        with self._opening:
            opened = self._opened
            versions, accounts = ledger.versions, len(ledger.accounts)
            if (
                opened is None
                or opened.books.versions is not versions
                or opened.books.accounts != accounts
            ):
                books = Books(versions, accounts, erased_since=ledger.erased_since)
                opened = _Opened(books=books, terms=terms_of(books))
                self._opened = opened
            return opened
