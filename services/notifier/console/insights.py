"""How customers of a segment use the product: numbers, curves and stories for who sells it."""

import asyncio
import re
from typing import Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from services.notifier.console import charts
from services.notifier.console.charts import Series, Sized
from services.notifier.console.figures import long_month
from services.notifier.console.pages import Pages
from services.notifier.console.portfolio import is_missing
from services.notifier.console.scoring import Missing

EVERYBODY: Final = ""
_CURVES: Final = ("one", "two", "three", "four")
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Users of an account in the month's last four weeks."""

    median_users: float | None = None
    quartiles: tuple[float, float] | None = None


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    days_per_week: float | None = None
    hours_per_user_week: float | None = None


class FeatureUse(msgspec.Struct, frozen=True, kw_only=True):
    """By `first_week` half of those who use it had begun."""

    name: str
    share: float
    first_week: int | None = None


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    share: float


class Week(msgspec.Struct, frozen=True, kw_only=True):
    week: int
    adopted: tuple[Adopted, ...] = ()


class TimeToValue(msgspec.Struct, frozen=True, kw_only=True):
    to: str = "milestone"
    median_days: float | None = None
    share_in_30: float | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    indicator: str = ""
    renewing: float
    leaving: float


class GrowthPath(msgspec.Struct, frozen=True, kw_only=True):
    share: float | None = None
    users_before: float | None = None
    users_after: float | None = None
    features_before: float | None = None
    features_after: float | None = None


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    value: float


class Story(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    text: str
    figures: tuple[Figure, ...] = ()


class Insight(msgspec.Struct, frozen=True, kw_only=True):
    """Of a segment, or (None) of all; what fewer than `k` accounts are behind is absent."""

    segment: str | None
    accounts: int
    size: Size
    rhythm: Rhythm
    time_to_value: TimeToValue
    features: tuple[FeatureUse, ...] = ()
    by_week: tuple[Week, ...] = ()
    newcomers: int | None = None
    renewing: int | None = None
    leaving: int | None = None
    renewing_vs_leaving: tuple[Comparison, ...] = ()
    growth: GrowthPath = GrowthPath()
    stories: tuple[Story, ...] = ()

    def adopted(self, feature: str) -> list[float | None]:
        """The share that had used it by the end of each week that is told of."""
        return [
            next((one.share for one in week.adopted if one.name == feature), None)
            for week in self.by_week
        ]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    month: str
    made_at: str
    k: int
    segments: tuple[Insight, ...]
    basis: str = ""
    months: tuple[str, ...] = ()
    """Those of which there is a document, the newest first."""


def add_insights(app: FastAPI, pages: Pages) -> None:
    @app.get("/insights")
    async def page(request: Request) -> Response:
        query = request.query_params
        month = query.get("month", "")
        month = month if _MONTH.fullmatch(month) else ""
        path = f"/v1/insights/{month}" if month else "/v1/insights"
        found, newest = await asyncio.gather(
            pages.scoring.ask(Document, path),
            pages.scoring.ask(Document, "/v1/insights"),
        )
        one = None
        if not isinstance(found, Missing) and found.segments:
            one = _chosen(found, query.get("segment", EVERYBODY))
        return pages.page(
            "insights.html",
            found=found,
            one=one,
            months=[]
            if isinstance(newest, Missing)
            else [(name, long_month(name)) for name in newest.months],
            month=month,
            curve=None if one is None else curve(one),
            plain=None if one is None or isinstance(found, Missing) else plain(one, found),
            is_missing=is_missing,
            segments=[]
            if isinstance(found, Missing)
            else [(each.segment or EVERYBODY, each.segment or "All") for each in found.segments],
            same_unit=same_unit,
        )


def curve(one: Insight) -> Sized | None:
    """How the most used features spread over the first weeks; at most four can be told apart."""
    names = [feature.name for feature in one.features][: len(_CURVES)]
    if len(one.by_week) < 2 or not names:
        return None
    return charts.sized(
        "Share of new accounts that had used it, by week of life",
        [
            Series(name=name, kind=kind, values=one.adopted(name))
            for name, kind in zip(names, _CURVES, strict=False)
        ],
        [f"week {week.week}" for week in one.by_week],
        least=0.0,
        most=1.0,
    )


def plain(one: Insight, found: Document) -> str:
    """All stories as text, to be copied into a mail; with what they rest on."""
    who = one.segment or "all customers"
    lines = [f"How {who} use the product ({found.month}, about {one.accounts:,} accounts)", ""]
    for story in one.stories:
        lines += [story.title, story.text, ""]
    lines.append(f"Rounded numbers of groups; none of fewer than {found.k} accounts.")
    return "\n".join(lines)


def same_unit(value: float, what: str) -> str:
    """A compared number: shares in per cent, all else as it is."""
    if what.startswith("share"):
        return f"{value * 100:.0f} %"
    return f"{value:,.1f}".removesuffix(".0")


def _chosen(found: Document, segment: str) -> Insight:
    named = (one for one in found.segments if (one.segment or EVERYBODY) == segment)
    return next(named, found.segments[0])
