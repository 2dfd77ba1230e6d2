"""The page of a head of customer success: who leaves, who renews, what it is worth, what comes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import Response

from services.notifier.console import charts, cuts
from services.notifier.console.charts import Series, Sized
from services.notifier.console.cuts import Choosing, Cut
from services.notifier.console.economics_api import (
    Facets,
    Figures,
    Forecast,
    Journey,
    Money,
    Month,
    Months,
    Part,
    Portfolio,
)
from services.notifier.console.figures import known_currency, month_name
from services.notifier.console.pages import Pages
from services.notifier.console.scoring import Missing, ScoringApi
from services.notifier.domain import periods
from services.notifier.domain.periods import Period

TREND_MONTHS: Final = 12
FEWEST: Final = 10
"""Below so many accounts no rate is stated."""

Key = Callable[[Figures], float | Decimal | None]
SORTS: Final[Mapping[str, Key]] = {
    "accounts": lambda one: one.accounts.start,
    "lost": lambda one: one.accounts.lost,
    "churn": lambda one: one.churn.rate,
    "renewals": lambda one: one.renewals.rate,
    "grr": lambda one: main_money(one, "grr"),
    "nrr": lambda one: main_money(one, "nrr"),
    "at_risk": lambda one: main_money(one, "value_at_risk"),
    "mrr": lambda one: main_money(one, "mrr_end"),
}
_LOW_FIRST: Final = frozenset({"renewals", "grr", "nrr"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What scoring answered, each by itself: a part that is missing takes no other with it."""

    portfolio: Portfolio | Missing
    today: Portfolio | Missing
    """This month so far: what is at risk now."""
    months: Months | Missing
    forecast: Forecast | Missing
    journey: Journey | Missing
    facets: Facets | Missing


def add_portfolio(app: FastAPI, pages: Pages) -> None:
    @app.get("/portfolio")
    async def page(request: Request) -> Response:
        query = request.query_params
        today = pages.clock().astimezone(UTC).date()
        period = periods.period_of(query.get("period", ""), today=today)
        period = period or periods.last_twelve(today)
        sort = query.get("sort", "")
        sort = sort if sort in SORTS or sort == "name" else "accounts"
        kept = {"period": query.get("period", ""), "sort": query.get("sort", "")}
        kept["order"] = query.get("order", "")
        chosen = cuts.choosing(query, kept=kept, usual=Cut.SEGMENT)
        found = await read(pages.scoring, period, chosen, today=today)
        reverse = query.get("order") == "reverse"
        return pages.page(
            "portfolio.html",
            period=period,
            groups=periods.choices(today),
            chosen=chosen,
            cuts=cuts.CUTS,
            part_name=cuts.part_name,
            options=[] if isinstance(found.facets, Missing) else cuts.options(found.facets, chosen),
            found=found,
            is_missing=is_missing,
            at_risk=_at_risk(found),
            plots=() if isinstance(found.months, Missing) else plots(found.months.months),
            rows=()
            if isinstance(found.portfolio, Missing)
            else ordered(found.portfolio.parts, sort, reverse=reverse),
            sort=sort,
            reverse=reverse,
            fewest=FEWEST,
            today=today,
        )


async def read(api: ScoringApi, period: Period, chosen: Choosing, *, today: date) -> Read:
    params: dict[str, str | int | float | None] = {**chosen.params}
    cut = params | {"by": chosen.by.value}
    this = periods.month(today.year, today.month)
    portfolio, now, months, forecast, journey, facets = await asyncio.gather(
        api.ask(Portfolio, "/v1/portfolio", span(period) | cut),
        api.ask(Portfolio, "/v1/portfolio", span(this) | params | {"by": "whole"}),
        api.ask(Months, "/v1/portfolio/months", params | {"months": TREND_MONTHS + 1}),
        api.ask(Forecast, "/v1/renewals", cut),
        api.ask(Journey, "/v1/journey", params),
        api.ask(Facets, "/v1/facets", params),
    )
    return Read(
        portfolio=portfolio,
        today=now,
        months=months,
        forecast=forecast,
        journey=journey,
        facets=facets,
    )


def span(period: Period) -> dict[str, str | int | float | None]:
    return {"from": period.first.isoformat(), "to": period.until.isoformat()}


def is_missing(answer: object) -> bool:
    return isinstance(answer, Missing)


def plots(months: Sequence[Month]) -> tuple[Sized, ...]:
    """Three small curves of the same months."""
    labels = [month_name(one.month) for one in months]
    is_open = [one.state != "final" for one in months]
    renewed = [one.figures.renewals.rate for one in months]
    lost = [one.figures.churn.rate for one in months]
    found = [
        charts.sized(
            "Renewal rate by month",
            [Series(name="Renewal rate", kind="one", values=renewed)],
            labels,
            provisional=is_open,
            target=0.9,
            most=1.0,
        ),
        charts.sized(
            "Churn rate by month",
            [Series(name="Churn rate", kind="one", values=lost)],
            labels,
            provisional=is_open,
            least=0.0,
        ),
    ]
    currency = main_currency([one.figures for one in months])
    kept = [_of_currency(one.figures, currency) for one in months]
    title = f"Revenue retention by month, {known_currency(currency) or 'currency not known'}"
    if any(one is not None and one.nrr is not None for one in kept):
        found.append(
            charts.sized(
                title,
                [
                    Series(name="NRR", kind="one", values=_each(kept, "nrr")),
                    Series(name="GRR", kind="two", values=_each(kept, "grr")),
                ],
                labels,
                provisional=is_open,
            )
        )
    return tuple(found)


def ordered(parts: Sequence[Part], sort: str, *, reverse: bool) -> list[Part]:
    """The worst or the largest first; what has no value comes last either way."""
    if sort == "name":
        return sorted(parts, key=lambda one: (one.key or "").lower(), reverse=reverse)
    key = SORTS[sort]
    known = [one for one in parts if key(one.figures) is not None]
    known.sort(key=lambda one: key(one.figures) or 0, reverse=(sort in _LOW_FIRST) is reverse)
    return known + [one for one in parts if key(one.figures) is None]


def main_currency(figures: Sequence[Figures]) -> str | None:
    """The one that most is paid in, by accounts."""
    counts: dict[str | None, int] = {}
    for one in figures:
        for money in one.money:
            counts[money.currency] = counts.get(money.currency, 0) + money.n
    return max(counts, key=lambda one: counts[one]) if counts else None


def main_money(one: Figures, name: str) -> float | Decimal | None:
    """A figure of the currency that most of its accounts pay in: what a table is sorted by."""
    if not one.money:
        return None
    found: float | Decimal | None = getattr(max(one.money, key=lambda money: money.n), name)
    return found


def _each(kept: Sequence[Money | None], name: str) -> list[float | None]:
    return [None if one is None else getattr(one, name) for one in kept]


def _at_risk(found: Read) -> Sequence[Money]:
    return () if isinstance(found.today, Missing) else found.today.whole.money


def _of_currency(figures: Figures, currency: str | None) -> Money | None:
    return next((one for one in figures.money if one.currency == currency), None)
