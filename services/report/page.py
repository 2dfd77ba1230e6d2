"""The review as one HTML page: its style and plots in it, nothing that is fetched, no script."""

from importlib.resources import files

import jinja2

from services.notifier import templates
from services.notifier.console import cuts, figures, words
from services.notifier.console.economics_api import Money, Portfolio
from services.notifier.console.goals import MEASURES, gap, rests_on, stated
from services.notifier.console.portfolio import FEWEST, ordered, plots
from services.report.attention import narrative, points
from services.report.readings import AHEAD_DAYS, Readings


def render(found: Readings) -> str:
    page = load().get_template("report.html")
    return page.render(
        it=found,
        month=found.month.whole,
        before=found.before.whole,
        year_ago=found.a_year_ago.whole,
        narrative=narrative(found.month, found.before),
        points=points(found.cuts, found.forecast, found.goals.whole),
        plots=plots(found.trend),
        cuts=[(name, cuts.CUTS[cuts.Cut(name)], found.cuts[name]) for name in found.cuts],
        ordered=_ordered,
        part_name=cuts.part_name,
        of_currency=of_currency,
        measures=MEASURES,
        rests_on=rests_on,
        stated=stated,
        gap=gap,
        fewest=FEWEST,
        ahead_days=AHEAD_DAYS,
        style=_style(),
    )


def load() -> jinja2.Environment:
    """The console's templates for drawing, and the review's own."""
    environment = templates.load("services.report")
    drawing = templates.load("services.notifier.console")
    loaders = [one.loader for one in (environment, drawing) if one.loader is not None]
    environment.loader = jinja2.ChoiceLoader(loaders)
    words.install(environment)
    figures.install(environment)
    return environment


def of_currency(portfolio_money: tuple[Money, ...], currency: str | None) -> Money | None:
    """The same currency's figures in another period."""
    return next((one for one in portfolio_money if one.currency == currency), None)


def _ordered(portfolio: Portfolio) -> object:
    return ordered(portfolio.parts, "accounts", reverse=False)


def _style() -> str:
    return (files("services.report") / "templates" / "report.css").read_text(encoding="utf-8")
