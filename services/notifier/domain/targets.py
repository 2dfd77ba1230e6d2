"""What a year is to bring: the department's target, each person's share of it, and what it became.

A target breaks down into individual ones that make it up again: by their sum where the measure
counts, by their mean where it is a rate. Each person's rate weighs as many accounts as they have
(all alike where nobody has any), as it does in what the year brings in fact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Final

WHOLE: Final = ""
"""In the place of a person: the department."""
MOST: Final = Decimal(1_000_000)


class Makes(StrEnum):
    """How individual plans make the department's."""

    SUM = "sum"
    MEAN = "mean"


class Measure(StrEnum):
    """What can be aimed at; rates are in per cent."""

    MEAN_IMPROVEMENT = "mean_improvement"
    TOP_IMPROVEMENT = "top_improvement"
    RENEWAL_RATE = "renewal_rate"
    ACCOUNTS_SAVED = "accounts_saved"

    @property
    def makes(self) -> Makes:
        return Makes.SUM if self is Measure.ACCOUNTS_SAVED else Makes.MEAN

    @property
    def unit(self) -> Decimal:
        """The smallest difference that is stated."""
        return Decimal(1) if self.makes is Makes.SUM else Decimal("0.1")


class Why(StrEnum):
    """Why a plan is refused."""

    NO_WHOLE = "no_whole"
    OUT_OF_RANGE = "out_of_range"
    TOO_FINE = "too_fine"
    PARTS_DIFFER = "parts_differ"
    """The individual plans do not make the department's."""
    STALE = "stale"
    """Somebody else has changed it since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One measure in one year; `parts` are by a person's address. Per cent, or a number."""

    measure: Measure
    whole: Decimal
    parts: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Plan against actual; `owner` is WHOLE for the department. `n`: what the actual rests on."""

    owner: str
    plan: Decimal | None
    actual: float | None
    n: int

    @property
    def gap(self) -> float | None:
        """What is missing (below zero), or beyond the plan."""
        if self.plan is None or self.actual is None:
            return None
        return self.actual - float(self.plan)


def make(measure: Measure, parts: Mapping[str, Decimal], weights: Mapping[str, int]) -> Decimal:
    """What individual plans come to, unrounded; 0 of nobody."""
    if not parts:
        return Decimal(0)
    if measure.makes is Makes.SUM:
        return sum(parts.values(), Decimal(0))
    weighing = _weighing(parts, weights)
    total = sum(weighing.values())
    return sum((plan * weighing[who] for who, plan in parts.items()), Decimal(0)) / total


def spread(measure: Measure, whole: Decimal, weights: Mapping[str, int]) -> dict[str, Decimal]:
    """The department's plan on its people: a rate is everybody's, a number goes by their accounts.

    The rest that rounding leaves goes to whom it has taken most from.
    """
    if not weights:
        return {}
    if measure.makes is Makes.MEAN:
        return dict.fromkeys(weights, whole)
    weighing = _weighing(weights, weights)
    total = sum(weighing.values())
    units = int(whole / measure.unit)
    shares = {who: divmod(units * weight, total) for who, weight in weighing.items()}
    given = {who: quotient for who, (quotient, _) in shares.items()}
    left = units - sum(given.values())
    for who in sorted(shares, key=lambda who: (-shares[who][1], who))[:left]:
        given[who] += 1
    return {who: number * measure.unit for who, number in given.items()}


def complete(
    measure: Measure,
    whole: Decimal,
    given: Mapping[str, Decimal | None],
    weights: Mapping[str, int],
) -> dict[str, Decimal]:
    """Plans for those without one (None), so that all together make the department's.

    What is left over may be below zero, or more than is possible: `why_refused` says so.
    """
    named = {who: plan for who, plan in given.items() if plan is not None}
    open_ones = [who for who, plan in given.items() if plan is None]
    if not open_ones:
        return named
    if measure.makes is Makes.SUM:
        rest = whole - sum(named.values(), Decimal(0))
        theirs = {who: weights.get(who, 0) for who in open_ones}
        return {**named, **_signed_spread(measure, rest, theirs)}
    weighing = _weighing(given, weights)
    open_weight = sum(weighing[who] for who in open_ones)
    if open_weight == 0:
        return {**named, **dict.fromkeys(open_ones, whole)}
    told = sum((plan * weighing[who] for who, plan in named.items()), Decimal(0))
    rate = (whole * sum(weighing.values()) - told) / open_weight
    rounded = rate.quantize(measure.unit, rounding=ROUND_HALF_EVEN)
    return {**named, **dict.fromkeys(open_ones, rounded)}


def why_refused(plan: Plan, weights: Mapping[str, int]) -> Why | None:
    """Whether it holds together; rates within half a unit, which is what rounding can take."""
    measure = plan.measure
    for value in (plan.whole, *plan.parts.values()):
        if not Decimal(0) <= value <= _most(measure):
            return Why.OUT_OF_RANGE
        if value % measure.unit:
            return Why.TOO_FINE
    if not plan.parts:
        return None
    missing = abs(plan.whole - make(measure, plan.parts, weights))
    allowed = Decimal(0) if measure.makes is Makes.SUM else measure.unit / 2
    return Why.PARTS_DIFFER if missing > allowed else None


def lines(
    plan: Plan | None,
    whole: tuple[float | None, int],
    actuals: Mapping[str, tuple[float | None, int]],
) -> Sequence[Line]:
    """Everybody who has a plan or an actual, the furthest behind first; the department begins."""
    parts = plan.parts if plan else {}
    owners = dict.fromkeys((*parts, *actuals))
    found = []
    for owner in owners:
        actual, n = actuals.get(owner, (None, 0))
        found.append(Line(owner=owner, plan=parts.get(owner), actual=actual, n=n))
    found.sort(key=lambda one: (one.gap is None, one.gap or 0.0, one.owner))
    first = Line(owner=WHOLE, plan=plan.whole if plan else None, actual=whole[0], n=whole[1])
    return [first, *found]


def _signed_spread(
    measure: Measure, whole: Decimal, weights: Mapping[str, int]
) -> dict[str, Decimal]:
    sign = -1 if whole < 0 else 1
    return {who: sign * part for who, part in spread(measure, abs(whole), weights).items()}


def _weighing(who: Mapping[str, object], weights: Mapping[str, int]) -> dict[str, int]:
    found = {one: max(0, weights.get(one, 0)) for one in who}
    return found if any(found.values()) else dict.fromkeys(found, 1)


def _most(measure: Measure) -> Decimal:
    return Decimal(100) if measure is Measure.RENEWAL_RATE else MOST
