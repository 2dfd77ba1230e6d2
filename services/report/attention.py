"""What to look at next month: sentences made of the figures, the most pressing first.

Pure: each states the number that it rests on, and none is made of fewer than ten accounts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.notifier.console.cuts import part_name
from services.notifier.console.economics_api import Forecast, Goals, Part, Portfolio
from services.notifier.console.figures import rate as stated
from services.notifier.console.figures import rate0

_CUT_NAMES = {"owner": "", "segment": "Segment ", "sales": ""}
_MOST_OF_A_KIND = 2
_MUCH_WORSE = 1.5
"""So many times the whole's churn rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    what: str
    because: str


def points(cuts: Mapping[str, Portfolio], forecast: Forecast, goals: Goals) -> tuple[Point, ...]:
    found: list[Point] = []
    for cut, portfolio in cuts.items():
        found += _below_target(cut, portfolio)
    for cut, portfolio in cuts.items():
        found += _leaving(cut, portfolio)
    found += _to_come(forecast)
    found += _behind(goals)
    return tuple(found)


def _below_target(cut: str, portfolio: Portfolio) -> Iterator[Point]:
    """Parts whose renewals are furthest below the target."""
    short = [
        (one, one.figures.renewals.rate)
        for one in portfolio.parts
        if one.figures.renewals.rate is not None and one.figures.renewals.rate < portfolio.target
    ]
    for one, rate in sorted(short, key=lambda each: each[1])[:_MOST_OF_A_KIND]:
        renewals = one.figures.renewals
        yield Point(
            what=f"{_name(cut, one)}: renewals at {stated(rate)}",
            because=f"{renewals.lost} of {renewals.due - renewals.pending} decided contracts were"
            f" lost; the target is {rate0(portfolio.target)}",
        )


def _leaving(cut: str, portfolio: Portfolio) -> Iterator[Point]:
    whole = portfolio.whole.churn.rate
    if not whole:
        return
    worse = [
        (one, one.figures.churn.rate)
        for one in portfolio.parts
        if one.figures.churn.rate is not None
        and one.figures.churn.rate > _MUCH_WORSE * whole
        and one.figures.accounts.lost > 1
    ]
    for one, rate in sorted(worse, key=lambda each: -each[1])[:_MOST_OF_A_KIND]:
        yield Point(
            what=f"{_name(cut, one)}: {stated(rate)} left in the month",
            because=f"{one.figures.accounts.lost} of {one.figures.churn.n} accounts,"
            f" {rate / whole:.1f} times the whole's {stated(whole)}",
        )


def _to_come(forecast: Forecast) -> Iterator[Point]:
    """The nearest horizon with contracts, whose losses the risks foretell."""
    for one in forecast.whole:
        if one.due:
            yield Point(
                what=_counted(one.due, "contract ends", "contracts end")
                + f" within {one.days} days",
                because=f"{one.expected_lost:.1f} of them are expected to be lost by their risk"
                + (f"; {one.without_risk} have no risk yet" if one.without_risk else ""),
            )
            return


def _behind(goals: Goals) -> Iterator[Point]:
    if goals.behind:
        yield Point(
            what=_counted(goals.behind, "goal of customers is", "goals of customers are")
            + " behind",
            because=f"of {goals.goals} that were promised; each is less far than its days would"
            " have it",
        )
    if goals.no_values:
        yield Point(
            what=_counted(goals.no_values, "goal has", "goals have") + " no values",
            because="nobody can say whether they are reached: ask for the numbers, or send them",
        )


def _name(cut: str, one: Part) -> str:
    name = part_name(cut, one.key)
    return f"{_CUT_NAMES.get(cut, '')}{name}" if one.key else f"{name} ({cut})"


def narrative(month: Portfolio, before: Portfolio) -> Sequence[str]:
    """The month in a few sentences, for who reads nothing else."""
    whole = month.whole
    renewals, churn = whole.renewals, whole.churn
    said = []
    if renewals.rate is None:
        said.append(
            _counted(renewals.due, "contract was", "contracts were") + " due: too few for a rate."
        )
    else:
        gap = (renewals.rate - month.target) * 100
        where = "on" if abs(gap) < 0.05 else f"{abs(gap):.1f} points {_side(gap)}"
        said.append(
            f"{stated(renewals.rate)} of the contracts that were decided were renewed, {where} the"
            f" target of {rate0(month.target)}: {renewals.renewed} renewed, {renewals.lost} lost,"
            f" {renewals.pending} still open."
        )
    if churn.rate is not None:
        change = ""
        if before.whole.churn.rate is not None:
            change = f", after {stated(before.whole.churn.rate)} the month before"
        said.append(
            f"{whole.accounts.lost} of {churn.n:,} accounts left, {stated(churn.rate)}{change};"
            f" {whole.accounts.new} came, so that {whole.accounts.end:,} are under contract."
        )
    if month.state != "final":
        said.append("The books of the month are not closed yet: these figures may still change.")
    return said


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _side(gap: float) -> str:
    return "above" if gap > 0 else "below"
