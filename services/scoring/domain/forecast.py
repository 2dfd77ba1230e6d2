"""Renewals that come up, and how many of them the risk says will be lost.

The risk is that of being lost within 90 days. A contract that ends sooner is lost with it; one that
ends later had the same risk every 90 days until then: 1 - (1 - p) ** (days / 90). Who has given
notice already is lost for sure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np

from services.scoring.domain.books import Books
from services.scoring.domain.cells import MOST_PARTS, Cells, cents_of, is_known, ranked
from services.scoring.domain.cuts import Cut, Truths, matching, parts
from services.scoring.domain.ledger import UNKNOWN, Dimension, Ledger
from services.scoring.domain.periods import day_of
from services.scoring.domain.rates import FEWEST_ACCOUNTS
from services.scoring.domain.usage import Floats, Integers

HORIZONS: Final = (30, 90, 180)

_RISK_DAYS: Final = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Cents of a year's price that come up for renewal, and how many of them may be lost."""

    currency: str | None
    due: int
    expected_lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The contracts that end within so many days, the running one included.

    `without_risk` of those due nobody has a risk for: they are in neither `expected_lost` nor
    `expected_rate`.
    """

    days: int
    due: int
    without_risk: int
    expected_lost: float
    expected_rate: float | None
    money: Sequence[Due]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`key` None: not known."""

    key: str | None
    horizons: Sequence[Horizon]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The whole and its parts, who has the most contracts to renew first."""

    whole: Sequence[Horizon]
    parts: Sequence[Part]
    others: Sequence[Horizon] | None
    rest: int


def expected_loss(risk: Floats, days: Floats) -> Floats:
    """The share of a contract that is lost by its end, so many days ahead; NaN without a risk."""
    return 1 - (1 - risk) ** np.maximum(days / _RISK_DAYS, 1)


def forecast(
    ledger: Ledger, books: Books, *, cut: Cut = Cut.WHOLE, filters: Mapping[Cut, str]
) -> Forecast:
    """Of the customers of today, as they stand now."""
    versions, today = books.versions, day_of(ledger.as_of)
    version, stage = ledger.newest_version(), ledger.today.stage
    chosen = books.customers_at((today + timedelta(days=1)).toordinal())
    chosen &= matching(ledger, filters, version=version, stage=stage)
    account = np.flatnonzero(chosen)
    version = version[account]
    days = versions.contract_end[version] - today.toordinal()
    is_due = ~versions.monthly[version] & (days >= 0) & (days < max(HORIZONS))
    account, version, days = account[is_due], version[is_due], days[is_due]
    told = parts(ledger, cut, version=version, stage=stage[account])
    names = () if cut is Cut.WHOLE else told.names
    part = np.where(told.code == UNKNOWN, len(names), told.code)
    keys, rest, place = ranked((*names, None), np.bincount(part, minlength=len(names) + 1))
    loss = expected_loss(ledger.today.risk[account], days)
    loss[books.says_lost[version]] = 1
    terms = _Terms(
        cells=Cells(parts=len(keys), currencies=len(ledger.names[Dimension.CURRENCY]) + 1),
        currencies=(*ledger.names[Dimension.CURRENCY], None),
        part=place[part],
        currency=versions.currency[version],
        cents=12 * cents_of(versions.mrr, version),
        is_priced=is_known(versions.mrr, version),
        loss=loss,
    )
    sums = [_summed(terms, days < ahead, ahead) for ahead in HORIZONS]
    told_apart = [[one[index] for one in sums] for index in range(len(keys) + 1)]
    whole = told_apart.pop()
    others = told_apart.pop() if len(keys) > MOST_PARTS else None
    return Forecast(
        whole=whole,
        parts=[
            Part(key=key, horizons=horizons)
            for key, horizons in zip(keys, told_apart, strict=False)
            if horizons[-1].due
        ],
        others=others if others and others[-1].due else None,
        rest=rest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """The contracts that come up; columns `(terms,)`."""

    cells: Cells
    currencies: Sequence[str | None]
    part: Integers
    currency: Integers
    cents: Integers
    is_priced: Truths
    loss: Floats


def _summed(terms: _Terms, ahead: Truths, days: int) -> list[Horizon]:
    """The horizon of each part, and at the end that of the whole."""
    cells = terms.cells
    told = ahead & ~np.isnan(terms.loss)
    cell = cells.of(terms.part, terms.currency)
    priced, at_stake = ahead & terms.is_priced, told & terms.is_priced
    due = cells.count(terms.part[ahead])
    known = cells.count(terms.part[told])
    lost = np.bincount(terms.part[told], terms.loss[told], len(due))
    losses = np.rint(terms.cents[at_stake] * terms.loss[at_stake])
    money = np.stack(
        [
            cells.count_in(cell[priced]),
            cells.sum_in(cell[priced], terms.cents[priced]),
            cells.sum_in(cell[at_stake], losses),
        ],
        axis=-1,
    )
    return [
        Horizon(
            days=days,
            due=its_due,
            without_risk=its_due - its_known,
            expected_lost=its_lost,
            expected_rate=1 - its_lost / its_known if its_known >= FEWEST_ACCOUNTS else None,
            money=[
                Due(currency=currency, due=amount, expected_lost=loss)
                for currency, (count, amount, loss) in zip(terms.currencies, its_money, strict=True)
                if count
            ],
        )
        for its_due, its_known, its_lost, its_money in zip(
            [*due.tolist(), int(due.sum())],
            [*known.tolist(), int(known.sum())],
            [*lost.tolist(), float(lost.sum())],
            [*money.tolist(), money.sum(axis=0).tolist()],
            strict=True,
        )
    ]
