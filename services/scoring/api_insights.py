"""The read API of the monthly insights: each number is looked at again before it is told."""

from datetime import date
from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Path, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import insight_store
from services.scoring.api_sources import Sources, answer, refused
from services.scoring.domain.publication import told
from services.scoring.openapi import answers_like

Month = Annotated[
    str, Path(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$", description="a month, as 2026-10")
]

EXAMPLE: Final[dict[str, Any]] = {
    "month": "2026-10",
    "made_at": "2026-11-03T06:00:00+00:00",
    "k": 5,
    "basis": "A random 80% of the accounts, drawn anew for each month; counts are rounded to 5,"
    " nothing rests on fewer than 5.",
    "months": ["2026-10", "2026-09"],
    "segments": [
        {
            "segment": "Retail",
            "accounts": 40,
            "size": {"median_users": 7.0, "quartiles": [5.0, 12.0]},
            "rhythm": {"days_per_week": 4.0, "hours_per_user_week": 2.5},
            "newcomers": 25,
            "features": [{"name": "bank connection", "share": 0.85, "first_week": 1}],
            "by_week": [{"week": 1, "adopted": [{"name": "bank connection", "share": 0.7}]}],
            "time_to_value": {"to": "milestone", "median_days": 9.0, "share_in_30": 0.8},
            "renewing": 30,
            "leaving": 10,
            "renewing_vs_leaving": [
                {
                    "indicator": "active_users_28",
                    "what": "users in 4 weeks",
                    "renewing": 8.0,
                    "leaving": 3.0,
                }
            ],
            "growth": {
                "share": 0.3,
                "users_before": 5.0,
                "users_after": 9.0,
                "features_before": 3.0,
                "features_after": 5.0,
            },
            "stories": [
                {
                    "title": "Who uses it, and how often",
                    "text": "Teams of 5 to 12 in Retail use it on 4 days a week, each user for"
                    " about 2.5 hours a week.",
                    "figures": [{"what": "active days a week, median", "value": 4.0}],
                }
            ],
        }
    ],
}


def add_insights(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/insights", responses=answers_like(EXAMPLE, 404), tags=["insights"])
    async def read_insights() -> Response:
        """How customers use the product, of the newest month: the vendor as a whole (`segment`
        null) first, then each segment with enough accounts.

        No number tells of one account: null, or absent, is what too few accounts are behind.
        Shares are of `newcomers`; `first_week` is by when half of a feature's users had begun.
        `months` are those of which there is a document.
        """
        return await _answer(sources, None)

    @app.get("/v1/insights/{month}", responses=answers_like(EXAMPLE, 404), tags=["insights"])
    async def read_month(month: Month) -> Response:
        """The insights of one month, as they were made after its end; they never change."""
        year, number = map(int, month.split("-"))
        return await _answer(sources, date(year, number, 1))


async def _answer(sources: Sources, month: date | None) -> Response:
    async def look(connection: AsyncConnection) -> dict[str, Any] | None:
        document = await insight_store.read(connection, month)
        if document is None:
            return None
        months = [f"{one:%Y-%m}" for one in await insight_store.read_months(connection)]
        found: dict[str, Any] = msgspec.to_builtins(told(document))
        return found | {"months": months}

    found = await sources.read(look)
    if found is None:
        raise refused(404, "no_insights", "no document has been made of it")
    return answer(found)
