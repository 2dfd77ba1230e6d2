"""The figures of a period: churn, renewals, what comes in and goes out, what customers are worth.

Amounts are whole cents per currency, summed as integers: what comes in, grows, shrinks and goes
leads from the first sum to the last one, and the parts of a cut sum to the whole, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from services.scoring.domain.cells import COUNTED, MOST_PARTS, SUMMED, Counts, Sums, Tally
from services.scoring.domain.rates import Churn, churn, share_of
from services.scoring.domain.usage import Integers

RENEWAL_TARGET: Final = 0.9

Basis: TypeAlias = Literal["segment", "vendor", "mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewals:
    """Terms, or cents a year of them; `rate` = renewed / (due - pending)."""

    due: int
    renewed: int
    lost: int
    pending: int
    rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """`start` + `new` - `lost` = `end`."""

    start: int
    new: int
    lost: int
    end: int
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifetimeValue:
    """Cents of margin that a customer brings on average, of the `n` whose margin is known."""

    average: int | None
    months: float | None
    of: Basis | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """In cents a month, but for the last ones; `n`: starters that GRR and NRR are of.

    `mrr_start` + `new` + `expansion` - `contraction` - `lost` = `mrr_end`. The values at risk are
    None for the past; `by_margin` accounts have theirs from the margin, `by_mrr` from the price.
    """

    currency: str | None
    mrr_start: int
    new: int
    expansion: int
    contraction: int
    lost: int
    mrr_end: int
    grr: float | None
    nrr: float | None
    n: int
    renewals: Renewals
    lifetime: LifetimeValue
    value_at_risk: int | None
    lifetime_at_risk: int | None
    by_margin: int
    by_mrr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that is told of a part, or of the whole."""

    accounts: Accounts
    churn: Churn
    renewals: Renewals
    money: Sequence[Money]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`key` None: not known."""

    key: str | None
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """The whole and its parts, the largest first; `others` are `rest` further ones in one."""

    whole: Figures
    parts: Sequence[Part]
    others: Figures | None
    rest: int


def portfolio(tally: Tally, months: float) -> Portfolio:
    """The figures of a period of so many months; parts of which there is nothing are left out."""
    rows = [
        Part(key=key, figures=_figures(tally, counts, sums, months))
        if counts.any() or sums.any()
        else None
        for key, counts, sums in zip(tally.keys, tally.counts, tally.sums, strict=True)
    ]
    others = rows.pop() if len(rows) > MOST_PARTS else None
    return Portfolio(
        whole=_figures(tally, tally.counts.sum(axis=0), tally.sums.sum(axis=0), months),
        parts=[one for one in rows if one is not None],
        others=None if others is None else others.figures,
        rest=max(tally.rest, 1) if others else 0,
    )


def _figures(tally: Tally, counted: Integers, summed: Integers, months: float) -> Figures:
    """Of a row of counts `(COUNTED,)` and one of sums `(currencies, SUMMED)`."""
    counts = Counts(**dict(zip(COUNTED, counted.tolist(), strict=True)))
    return Figures(
        accounts=Accounts(
            start=counts.start,
            new=counts.new,
            lost=counts.lost,
            end=counts.end,
            trials=counts.trials,
        ),
        churn=churn(counts.lost, counts.start, months),
        renewals=_renewals(
            counts.renewed,
            counts.not_renewed,
            counts.pending,
            n=counts.renewed + counts.not_renewed,
        ),
        money=[
            _money(Sums(**dict(zip(SUMMED, row, strict=True))), currency, is_now=tally.is_now)
            for currency, row in zip(tally.currencies, summed.tolist(), strict=True)
            if any(row)
        ],
    )


def _renewals(renewed: int, lost: int, pending: int, *, n: int) -> Renewals:
    return Renewals(
        due=renewed + lost + pending,
        renewed=renewed,
        lost=lost,
        pending=pending,
        rate=share_of(renewed, renewed + lost, n),
    )


def _money(sums: Sums, currency: str | None, *, is_now: bool) -> Money:
    return Money(
        currency=currency,
        mrr_start=sums.start,
        new=sums.new,
        expansion=sums.expansion,
        contraction=sums.contraction,
        lost=sums.lost,
        mrr_end=sums.end,
        grr=share_of(sums.base - sums.base_lost - sums.contraction, sums.base, sums.base_accounts),
        nrr=share_of(
            sums.base - sums.base_lost - sums.contraction + sums.expansion,
            sums.base,
            sums.base_accounts,
        ),
        n=sums.base_accounts,
        renewals=_renewals(sums.renewed, sums.not_renewed, sums.pending, n=sums.decided),
        lifetime=_lifetime(sums),
        value_at_risk=sums.value_at_risk if is_now else None,
        lifetime_at_risk=sums.lifetime_at_risk if is_now else None,
        by_margin=sums.by_margin,
        by_mrr=sums.by_mrr,
    )


def _lifetime(sums: Sums) -> LifetimeValue:
    n = sums.lifetime_accounts
    if not n:
        return LifetimeValue(average=None, months=None, of=None, n=0)
    basis: Basis = "mixed"
    if sums.lifetime_own in {0, n}:
        basis = "segment" if sums.lifetime_own else "vendor"
    margin = sums.lifetime_margin
    return LifetimeValue(
        average=round(sums.lifetime / n),
        months=sums.lifetime / margin if margin else None,
        of=basis,
        n=n,
    )
