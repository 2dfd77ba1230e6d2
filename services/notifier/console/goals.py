"""What customers were promised and what came of it; the year's targets, broken down to people."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import endings, targets
from services.notifier.console import cuts, fields
from services.notifier.console.cuts import Choosing, Cut
from services.notifier.console.economics_api import Facets, Goals, GoalsFound, Portfolio
from services.notifier.console.figures import decided
from services.notifier.console.pages import Pages
from services.notifier.console.portfolio import is_missing, span
from services.notifier.console.rights import needs, viewer_of
from services.notifier.console.scoring import Missing, ScoringApi
from services.notifier.domain import periods
from services.notifier.domain.access import Right
from services.notifier.domain.periods import Period
from services.notifier.domain.targets import (
    Line,
    Makes,
    Measure,
    Plan,
    Why,
    complete,
    lines,
    make,
    spread,
    why_refused,
)
from services.notifier.targets import Stored
from shared.messages import OutcomeKind

PATH: Final = "/goals"
MEASURES: Final = {
    Measure.MEAN_IMPROVEMENT: "Mean improvement of customers' goals",
    Measure.TOP_IMPROVEMENT: "Improvement of the best tenth",
    Measure.RENEWAL_RATE: "Renewal rate",
    Measure.ACCOUNTS_SAVED: "Accounts saved",
}
RESTS_ON: Final = {
    Measure.MEAN_IMPROVEMENT: ("goal", "goals"),
    Measure.TOP_IMPROVEMENT: ("goal", "goals"),
    Measure.RENEWAL_RATE: ("renewal decided", "renewals decided"),
    Measure.ACCOUNTS_SAVED: ("saved, churned or downsold",) * 2,
}
"""What an actual is made of: one, or another number of them."""
MAKES: Final = {
    Makes.SUM: "Individual plans add up to the department's.",
    Makes.MEAN: "The mean of the individual plans is the department's; each weighs as many accounts"
    " as its owner has.",
}
REFUSALS: Final = {
    Why.NO_WHOLE: "Give the department's plan: a number.",
    Why.OUT_OF_RANGE: "A plan is never below zero, and a renewal rate at most 100 %. Where fields"
    " were left open, the others leave too little or too much for them.",
    Why.TOO_FINE: "Plans are stated to a tenth of a per cent, or in whole accounts.",
    Why.PARTS_DIFFER: "The individual plans do not make the department's. Leave a field open and it"
    " gets what is missing.",
    Why.STALE: "Somebody else has changed this target since you opened the page. Nothing was"
    " changed; see theirs first.",
}
_YEARS: Final = range(2000, 2101)
_TRUE: Final = frozenset({OutcomeKind.SAVED, OutcomeKind.CHURNED, OutcomeKind.DOWNSOLD})

Actuals = Mapping[str, tuple[float | None, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """One measure of the year: the department's line, everybody's, and what their plans make."""

    measure: Measure
    stored: Stored | None
    lines: Sequence[Line]
    made: Decimal | None
    """What the individual plans come to now; None without any."""

    @property
    def whole(self) -> Line:
        return self.lines[0]

    @property
    def version(self) -> int:
        return self.stored.version if self.stored else 0

    @property
    def drifted(self) -> bool:
        """Accounts have changed hands since it was broken down."""
        if self.stored is None or self.made is None:
            return False
        return abs(self.made - self.stored.plan.whole) > self.measure.unit / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """All that a year's page rests on."""

    number: int
    aims: Mapping[Measure, Aim]
    weights: Mapping[str, int]
    """How many accounts each owner has."""
    missing: Missing | None


def add_goals(app: FastAPI, pages: Pages) -> None:
    @app.get(PATH)
    async def page(request: Request) -> Response:
        query = request.query_params
        now = pages.clock()
        number = _year(query.get("year", ""), now)
        measure = fields.choice(Measure, query.get("measure", "")) or Measure.MEAN_IMPROVEMENT
        kept = {name: query.get(name, "") for name in ("year", "measure")}
        chosen = cuts.choosing(query, kept=kept, usual=Cut.SEGMENT)
        year, found, facets = await asyncio.gather(
            read_year(pages.engine, pages.scoring, number, now=now),
            _ask_goals(pages, number, chosen),
            pages.scoring.ask(Facets, "/v1/facets", {**chosen.params}),
        )
        return pages.page(
            "goals.html",
            viewer=viewer_of(request),
            year=year,
            years=range(now.year + 1, now.year - 3, -1),
            aim=year.aims[measure],
            measures=MEASURES,
            rests_on=rests_on,
            makes=MAKES[measure.makes],
            found=found,
            chosen=chosen,
            cuts=cuts.CUTS,
            part_name=cuts.part_name,
            options=[] if isinstance(facets, Missing) else cuts.options(facets, chosen),
            is_missing=is_missing,
            stated=stated,
            gap=gap,
            lead=Right.LEAD,
            today=now.astimezone(UTC).date(),
        )

    @app.post(f"{PATH}/targets", dependencies=[needs(Right.LEAD)])
    async def change(
        request: Request,
        year: Annotated[int, Form()],
        measure: Annotated[Measure, Form()],
        version: Annotated[int, Form()],
    ) -> Response:
        viewer = viewer_of(request)
        now = pages.clock()
        if year not in _YEARS:
            return _refused(pages, Why.OUT_OF_RANGE, now.year, measure)
        form = await request.form()
        whole = number_of(str(form.get("plan", "")))
        if whole is None:
            return _refused(pages, Why.NO_WHOLE, year, measure)
        seen = await read_year(pages.engine, pages.scoring, year, now=now)
        if seen.missing is not None:
            # Whose accounts weigh how much is not known: nothing can be broken down.
            return _unweighed(pages, seen.missing, year, measure)
        weights = seen.weights
        parts = _parts(
            measure,
            whole,
            [fields.line(str(one)) or "" for one in form.getlist("owner")],
            [str(one) for one in form.getlist("part")],
            weights=weights,
            evenly=form.get("evenly") == "1",
        )
        if parts is None:
            return _refused(pages, Why.OUT_OF_RANGE, year, measure)
        plan = Plan(measure=measure, whole=whole, parts=parts)
        refused = why_refused(plan, weights)
        if refused is None:
            async with pages.engine.begin() as connection:
                refused = await targets.save(
                    connection, year, plan, version=version, viewer=viewer, now=now
                )
        if refused is not None:
            return _refused(pages, refused, year, measure)
        return RedirectResponse(_address(year, measure), status_code=303)


async def read_year(
    engine: AsyncEngine, scoring: ScoringApi, number: int, *, now: datetime
) -> Year:
    """The year so far, or as it was."""
    period = periods.year(number)
    today = now.astimezone(UTC).date()
    if period.first > today:
        # Of a year that is to come there are plans only; accounts weigh as they do now.
        now_year = await read_year(engine, scoring, today.year, now=now)
        stored = await _stored(engine, number)
        aims = {
            measure: _aim(measure, stored.get(measure), None, now_year.weights)
            for measure in Measure
        }
        return replace(now_year, number=number, aims=aims)
    until = min(period.until, periods.month(today.year, today.month).until)
    asked = span(period) | {"to": until.isoformat(), "by": "owner"}
    portfolio, goals, saved, stored = await asyncio.gather(
        scoring.ask(Portfolio, "/v1/portfolio", asked),
        scoring.ask(GoalsFound, "/v1/goals", asked),
        _saved(engine, period, now=now),
        _stored(engine, number),
    )
    missing = next((one for one in (portfolio, goals) if isinstance(one, Missing)), None)
    weights: dict[str, int] = {}
    actuals: dict[Measure, tuple[tuple[float | None, int], Actuals]] = {
        Measure.ACCOUNTS_SAVED: saved
    }
    if not isinstance(portfolio, Missing):
        owned = {one.key.lower(): one.figures for one in portfolio.parts if one.key}
        weights = {who: one.accounts.end for who, one in owned.items()}
        actuals[Measure.RENEWAL_RATE] = (
            _renewals(portfolio.whole.renewals.rate, decided(portfolio.whole)),
            {who: _renewals(one.renewals.rate, decided(one)) for who, one in owned.items()},
        )
    if not isinstance(goals, Missing):
        for measure in (Measure.MEAN_IMPROVEMENT, Measure.TOP_IMPROVEMENT):
            actuals[measure] = (
                _improvement(goals.whole, measure),
                {
                    one.key.lower(): _improvement(one.goals, measure)
                    for one in goals.parts
                    if one.key
                },
            )
    return Year(
        number=number,
        aims={
            measure: _aim(measure, stored.get(measure), actuals.get(measure), weights)
            for measure in Measure
        },
        weights=weights,
        missing=missing,
    )


def stated(value: Decimal | float | None, measure: Measure) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if measure.makes is Makes.SUM else f"{value:.1f} %"


def rests_on(line: Line, measure: Measure) -> str:
    one, many = RESTS_ON[measure]
    return f"{line.n:,} {one if line.n == 1 else many}"


def gap(line: Line, measure: Measure) -> str:
    if line.gap is None:
        return "–"
    return f"{line.gap:+,.0f}" if measure.makes is Makes.SUM else f"{line.gap:+.1f} points"


def number_of(text: str) -> Decimal | None:
    """A number of a form, with a point or a comma."""
    try:
        found = Decimal(text.strip().replace(",", ".").removesuffix("%").strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found) < Decimal(10) ** 9 else None


def _parts(
    measure: Measure,
    whole: Decimal,
    owners: Sequence[str],
    given: Sequence[str],
    *,
    weights: Mapping[str, int],
    evenly: bool,
) -> dict[str, Decimal] | None:
    """What the form says of people; None where one of its numbers is none.

    Nothing said of anybody: the department's plan alone. Some left open: these get what is missing.
    """
    named = [who.lower() for who in owners]
    if evenly:
        return spread(measure, whole, {who: weights.get(who, 0) for who in named})
    said: dict[str, Decimal | None] = {}
    for who, text in zip(named, given, strict=False):
        said[who] = number_of(text) if text.strip() else None
        if text.strip() and said[who] is None:
            return None
    if all(plan is None for plan in said.values()):
        return {}
    return complete(measure, whole, said, weights)


def _aim(
    measure: Measure,
    stored: Stored | None,
    actual: tuple[tuple[float | None, int], Actuals] | None,
    weights: Mapping[str, int],
) -> Aim:
    whole, people = actual or ((None, 0), {})
    everybody = {**dict.fromkeys(weights, (None, 0)), **people}
    plan = stored.plan if stored else None
    made = make(measure, plan.parts, weights) if plan and plan.parts else None
    return Aim(measure=measure, stored=stored, lines=lines(plan, whole, everybody), made=made)


def _renewals(rate: float | None, decided: int) -> tuple[float | None, int]:
    return None if rate is None else rate * 100, decided


def _improvement(one: Goals, measure: Measure) -> tuple[float | None, int]:
    best = measure is Measure.TOP_IMPROVEMENT
    value = one.top_improvement if best else one.mean_improvement
    return None if value is None else value * 100, one.goals - one.no_values


async def _saved(
    engine: AsyncEngine, period: Period, *, now: datetime
) -> tuple[tuple[float | None, int], Actuals]:
    """Accounts saved in the year, of the department and by owner, as they turned out by now."""
    first, until = (
        datetime.combine(day, datetime.min.time(), UTC) for day in (period.first, period.until)
    )
    async with engine.connect() as connection:
        ended = await endings.outcomes(connection, first, min(until, now))
    saved: dict[str, int] = {}
    known: dict[str, int] = {}
    for owner, outcome, number in ended:
        if outcome not in _TRUE:
            continue
        who = owner.lower()
        known[who] = known.get(who, 0) + number
        saved[who] = saved.get(who, 0) + (number if outcome is OutcomeKind.SAVED else 0)
    people = {who: (float(saved[who]), n) for who, n in known.items() if who}
    return (float(sum(saved.values())), sum(known.values())), people


async def _stored(engine: AsyncEngine, number: int) -> Mapping[Measure, Stored]:
    async with engine.connect() as connection:
        return await targets.read(connection, number)


async def _ask_goals(pages: Pages, number: int, chosen: Choosing) -> GoalsFound | Missing:
    asked = span(periods.year(number)) | chosen.params | {"by": chosen.by.value}
    return await pages.scoring.ask(GoalsFound, "/v1/goals", asked)


def _year(text: str, now: datetime) -> int:
    # Python refuses to read numbers of thousands of digits.
    is_year = len(text) == 4 and text.isdecimal() and int(text) in _YEARS
    return int(text) if is_year else now.year


def _address(year: int, measure: Measure) -> str:
    return f"{PATH}?{urlencode({'year': year, 'measure': measure.value})}#target"


def _unweighed(pages: Pages, missing: Missing, year: int, measure: Measure) -> Response:
    text = f"{missing.text}, so how many accounts each person has is not known. Nothing was changed"
    return pages.explain(
        503,
        "The target was not changed",
        f"{text}; try again in a minute.",
        _address(year, measure),
        "The target as it is now",
    )


def _refused(pages: Pages, why: Why, year: int, measure: Measure) -> Response:
    status = 409 if why is Why.STALE else 422
    return pages.explain(
        status,
        "The target was not changed",
        REFUSALS[why],
        _address(year, measure),
        "The target as it is now",
    )
