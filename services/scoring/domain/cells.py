"""Counts and sums by part and currency."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.cuts import Truths
from services.scoring.domain.ledger import UNKNOWN
from services.scoring.domain.usage import Floats, Integers

MOST_PARTS: Final = 500
"""Further ones are told together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Accounts, and terms of contracts."""

    start: int
    new: int
    lost: int
    end: int
    trials: int
    renewed: int
    not_renewed: int
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Whole cents of one currency, and how many accounts or terms they are of.

    Prices are those of the start and of the end. Who has a price in the currency at one of them
    only comes in or goes: the new, the lost, and who pays in another one since. `base` are the
    starters that are lost or still pay in it: what GRR and NRR are of.
    """

    start: int
    new: int
    expansion: int
    contraction: int
    lost: int
    end: int
    base: int
    base_lost: int
    base_accounts: int
    renewed: int
    not_renewed: int
    pending: int
    decided: int
    lifetime: int
    lifetime_margin: int
    lifetime_accounts: int
    lifetime_own: int
    value_at_risk: int
    lifetime_at_risk: int
    by_margin: int
    by_mrr: int


COUNTED: Final = tuple(one.name for one in fields(Counts))
SUMMED: Final = tuple(one.name for one in fields(Sums))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """`counts` `(parts, COUNTED)`, `sums` `(parts, currencies, SUMMED)`; the most accounts first.

    Beyond `MOST_PARTS` rows a last one has the `rest` further parts. `is_now`: what is at risk is
    in it.
    """

    keys: Sequence[str | None]
    rest: int
    currencies: Sequence[str | None]
    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    is_now: bool


class Cells:
    """Numbers by part, or by part and currency; one more part takes what is left out."""

    def __init__(self, *, parts: int, currencies: int) -> None:
        self.parts = parts
        self.currencies = currencies

    def of(self, part: Integers, currency: Integers) -> Integers:
        known = np.where(currency == UNKNOWN, self.currencies - 1, currency)
        cells: Integers = part * self.currencies + known
        return cells

    def count(self, part: Integers) -> Integers:
        return np.bincount(part, minlength=self.parts + 1)[: self.parts]

    def count_in(self, cell: Integers) -> Integers:
        return self._shaped(np.bincount(cell, minlength=self._size))

    def sum_in(self, cell: Integers, cents: Integers | Floats) -> Integers:
        """Exact as long as a sum stays below 2**53 cents."""
        return self._shaped(np.bincount(cell, cents, self._size).astype(np.int64))

    def nothing(self) -> Integers:
        return np.zeros((self.parts, self.currencies), np.int64)

    @property
    def _size(self) -> int:
        return (self.parts + 1) * self.currencies

    def _shaped(self, flat: Integers) -> Integers:
        return flat[: self.parts * self.currencies].reshape(self.parts, self.currencies)


def ranked(
    keys: Sequence[str | None], counted: Integers
) -> tuple[Sequence[str | None], int, Integers]:
    """The keys in the order of what was counted, those beyond the most in a last one.

    With how many of those have anything, and of each part (and of what is left out) its new place.
    """
    order = np.argsort(-counted, kind="stable")
    rest = int(np.count_nonzero(counted[order[MOST_PARTS:]]))
    place = np.empty(len(keys) + 1, np.int64)
    place[order] = np.minimum(np.arange(len(keys)), MOST_PARTS)
    kept = [keys[index] for index in order[:MOST_PARTS]]
    if len(keys) > MOST_PARTS:
        kept.append(None)
    place[-1] = len(kept)
    return kept, rest, place


def is_known(amounts: Floats, version: Integers) -> Truths:
    """Of versions that there are."""
    known: Truths = ~np.isnan(amounts[version])
    return known


def cents_of(amounts: Floats, version: Integers) -> Integers:
    """Whole cents, 0 where no amount is known: each account's are rounded, sums are exact."""
    cents: Integers = np.nan_to_num(np.rint(amounts[version] * 100)).astype(np.int64)
    return cents
