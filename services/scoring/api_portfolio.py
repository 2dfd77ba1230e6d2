"""The read API of economics: a period's figures by any cut, month by month, renewals to come."""

from datetime import date, timedelta
from typing import Annotated, Final

import numpy as np
from fastapi import FastAPI, Query, Response

from services.scoring import portfolio_views as views
from services.scoring.accounting import Accounting
from services.scoring.api_sources import Sources, Wanted, filters_of, refused
from services.scoring.domain.cuts import Cut
from services.scoring.domain.ledger import UNKNOWN, Ledger
from services.scoring.domain.periods import Period, day_of, latest_months
from services.scoring.domain.renewal import months_after
from services.scoring.openapi import answers

_MOST_MONTHS: Final = 60
_MOST_DAYS: Final = 30 * 366
_EARLIEST: Final = date(1970, 1, 1)

_First = Annotated[
    date | None, Query(alias="from", description="first day, UTC; default: a year before `to`")
]
_End = Annotated[
    date | None, Query(alias="to", description="the day after the last, UTC; default: tomorrow")
]
_Months = Annotated[int, Query(ge=1, le=_MOST_MONTHS)]


def add_portfolio(app: FastAPI, sources: Sources) -> None:
    accounting = Accounting()

    @app.get("/v1/portfolio", responses=answers("portfolio"), tags=["portfolio"])
    async def read_portfolio(
        wanted: Wanted, first: _First = None, end: _End = None, by: Cut = Cut.WHOLE
    ) -> Response:
        """Accounts, churn, renewals and money of a period, as a whole and by a cut.

        An account is a customer at a day if its contract had begun before it, it is no trial, and
        it was not lost before. `start` + `new` - `lost` = `end`; who comes and goes within the
        period is in none. The churn rate is of those at the start; `per_month` and `per_year` are
        what it is in a month and in a year, at the pace of the days so far. Renewals are due at
        the end of contracts that are not monthly; rate = renewed / (due - pending), by number and
        by a year's price.

        Money is told per currency, a month's price before and after; GRR and NRR are of the `n`
        customers at the start. The lifetime value is margin x months, by the churn of the segment
        in the twelve months before. What is at risk is of today's customers; null for the past.

        Each account is in the part in which it was at the period's start (for what is at risk:
        is now), so that parts sum to the whole. No rate is told of fewer than 10 accounts. The
        books of a period close 7 days after it: then it is `final`, and news that come later
        count when they come.
        """
        ledger = await sources.ledger()
        period = _period(first, end, day_of(ledger.as_of))

        def compute() -> views.View:
            found = accounting.portfolio(ledger, period, by, wanted)
            strangers = None if wanted else _count_strangers(ledger)
            return views.portfolio(found, period, ledger.as_of, by, strangers)

        question = ("portfolio", period, by, filters_of(wanted))
        return await sources.tell(ledger, question, compute)

    @app.get("/v1/portfolio/months", responses=answers("months"), tags=["portfolio"])
    async def read_months(wanted: Wanted, months: _Months = 12) -> Response:
        """The same figures of each of the last calendar months, the running one included."""
        ledger = await sources.ledger()

        def compute() -> views.View:
            return {
                "months": [
                    {
                        "month": f"{period.first:%Y-%m}",
                        "state": views.state(period, ledger.as_of),
                        "figures": views.figures(accounting.figures(ledger, period, wanted)),
                    }
                    for period in latest_months(day_of(ledger.as_of), months)
                ]
            }

        return await sources.tell(ledger, ("months", months, filters_of(wanted)), compute)

    @app.get("/v1/renewals", responses=answers("renewals"), tags=["portfolio"])
    async def read_renewals(wanted: Wanted, by: Cut = Cut.WHOLE) -> Response:
        """Contracts that end within 30, 90 and 180 days, and what the risk says of them.

        The risk p is for 90 days: a contract that ends within them is lost with p, a later one
        with 1 - (1 - p) ** (days / 90); one that is known to end is lost for sure. Of the contracts
        `without_risk` nothing is expected.
        """
        ledger = await sources.ledger()

        def compute() -> views.View:
            return views.forecast(accounting.forecast(ledger, by, wanted), ledger.as_of, by)

        return await sources.tell(ledger, ("renewals", by, filters_of(wanted)), compute)


def _period(first: date | None, end: date | None, today: date) -> Period:
    last = end or today + timedelta(days=1)
    if last > _EARLIEST:
        begun = first or months_after(last, -12)
        if begun < last and begun <= today and (last - begun).days <= _MOST_DAYS:
            return Period(first=begun, end=last)
    raise refused(
        422, "invalid_range", "`from` must be before `to` and not to come, 30 years at most"
    )


def _count_strangers(ledger: Ledger) -> int:
    """Accounts that only events know."""
    return int(np.count_nonzero(ledger.newest_version() == UNKNOWN))
