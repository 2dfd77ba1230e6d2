"""What a month's review rests on: the figures as scoring's API states them, and the notifier's."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

import httpx
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import endings
from services.notifier.console.economics_api import (
    Forecast,
    GoalsFound,
    Month,
    Months,
    Portfolio,
)
from services.notifier.console.goals import Year, read_year
from services.notifier.console.portfolio import span
from services.notifier.console.scoring import Missing, ScoringApi
from services.notifier.domain import periods
from services.notifier.domain.feedback import Endings, Feedback, by_owner, by_reason, feedback
from services.notifier.domain.periods import Period
from services.scoring.api import api
from services.scoring.domain.rules import Rules
from services.scoring.register import Register
from shared.clock import Clock
from shared.credentials import KeyRing, Scope, new_key
from shared.errors import PerennialError
from shared.messages import Band, ValueAtRisk

TREND_MONTHS: Final = 13
"""So that the first one drawn is the same month a year before."""
CUTS: Final = ("owner", "segment", "sales")
AHEAD_DAYS: Final = 60
SHOWN_RENEWALS: Final = 10
_PATIENCE_SECONDS: Final = 120.0

T = TypeVar("T")


class ReportUnavailable(PerennialError):
    """The review cannot be made: {0}."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the review cannot be made: {why}")


class Renewing(msgspec.Struct, frozen=True, kw_only=True):
    """An account whose contract ends soon."""

    account_id: str
    name: str | None = None
    owner: str | None = None
    renewal_date: date | None = None
    risk: float | None = None
    band: Band | None = None
    value_at_risk: ValueAtRisk | None = None


class _Listed(msgspec.Struct, frozen=True):
    accounts: tuple[Renewing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What came of interventions that ended in the month."""

    opened: int
    open_at_end: int
    whole: Feedback
    owners: Mapping[str, Feedback]
    reasons: Mapping[str, Feedback]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """`month`, the one `before` and the same one `a_year_ago`; the rest is as of `made_at`."""

    made_at: datetime
    period: Period
    month: Portfolio
    before: Portfolio
    a_year_ago: Portfolio
    now: Portfolio
    cuts: Mapping[str, Portfolio]
    trend: Sequence[Month]
    forecast: Forecast
    renewing: Sequence[Renewing]
    goals: GoalsFound
    year: Year
    worked: Worked
    worked_before: Feedback


@asynccontextmanager
async def open_scoring(
    engine: AsyncEngine, *, rules: Rules, clock: Clock
) -> AsyncIterator[ScoringApi]:
    """Scoring's read API in this process, by a key that nobody else has."""
    key = new_key(source="report", scopes=[Scope.ACCOUNTS_READ], now=clock())
    ring = KeyRing()
    ring.put(key.record)
    register = Register(engine=engine, clock=clock, max_age=timedelta(hours=1))
    app = api(engine=engine, keys=ring, clock=clock, rules=rules, register=register)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, timeout=_PATIENCE_SECONDS) as client:
        yield ScoringApi(
            client=client, url="http://scoring", key=key.secret, limit_seconds=_PATIENCE_SECONDS
        )


async def read(scoring: ScoringApi, engine: AsyncEngine, period: Period, now: datetime) -> Readings:
    """Raises ReportUnavailable where a figure is not answered: a review has no holes."""
    today = now.astimezone(UTC).date()
    this = periods.month(today.year, today.month)

    async def ask(kind: type[T], path: str, **params: str | float | None) -> T:
        found = await scoring.ask(kind, path, params)
        if isinstance(found, Missing):
            raise ReportUnavailable(f"{path}: {found.text}")
        return found

    async def portfolio(of: Period, by: str = "whole") -> Portfolio:
        return await ask(Portfolio, "/v1/portfolio", **span(of), by=by)

    # One at a time: the first reads all accounts into memory, the others are fast.
    month = await portfolio(period)
    months = _months_between(period.first, today) + TREND_MONTHS
    trend = await ask(Months, "/v1/portfolio/months", months=months)
    listed = await ask(
        _Listed,
        "/v1/accounts",
        renews_within=AHEAD_DAYS,
        sort="value_at_risk",
        limit=SHOWN_RENEWALS,
    )
    ended, before = await asyncio.gather(
        _ended(engine, period), _ended(engine, periods.month_before(period))
    )
    return Readings(
        made_at=now,
        period=period,
        month=month,
        before=await portfolio(periods.month_before(period)),
        a_year_ago=await portfolio(periods.month_before(period, 12)),
        now=await portfolio(this),
        cuts={cut: await portfolio(period, cut) for cut in CUTS},
        trend=_up_to(trend.months, period),
        forecast=await ask(Forecast, "/v1/renewals", by="owner"),
        renewing=listed.accounts,
        goals=await ask(
            GoalsFound, "/v1/goals", **span(periods.year(period.first.year)), by="segment"
        ),
        year=await read_year(engine, scoring, period.first.year, now=now),
        worked=await _worked(engine, period, ended),
        worked_before=feedback(before, period=_length(periods.month_before(period))),
    )


async def _ended(engine: AsyncEngine, period: Period) -> Sequence[Endings]:
    first, until = _moments(period)
    async with engine.connect() as connection:
        return await endings.between(connection, first, until)


async def _worked(engine: AsyncEngine, period: Period, ended: Sequence[Endings]) -> Worked:
    first, until = _moments(period)
    async with engine.connect() as connection:
        opened = await endings.count_opened(connection, first, until)
        open_at_end = await endings.count_open(connection, until)
    length = _length(period)
    return Worked(
        opened=opened,
        open_at_end=open_at_end,
        whole=feedback(ended, period=length),
        owners=by_owner(ended, period=length),
        reasons=by_reason(ended, period=length),
    )


def _moments(period: Period) -> tuple[datetime, datetime]:
    first = datetime.combine(period.first, datetime.min.time(), UTC)
    return first, datetime.combine(period.until, datetime.min.time(), UTC)


def _length(period: Period) -> timedelta:
    return period.until - period.first


def _months_between(first: date, today: date) -> int:
    return (today.year - first.year) * 12 + today.month - first.month


def _up_to(months: Sequence[Month], period: Period) -> Sequence[Month]:
    return [one for one in months if one.month <= period.name][-TREND_MONTHS:]
