"""The read API of the way of accounts: who stands where, for how long, and who moved."""

from typing import Any

from fastapi import FastAPI, Response

from services.scoring import queries
from services.scoring.api_sources import Account, Sources, Wanted, answer, filters_of, moment
from services.scoring.domain.cuts import matching
from services.scoring.domain.journey import Standing, journey
from services.scoring.domain.ledger import Ledger, LifeStage
from services.scoring.openapi import answers


def add_journey(app: FastAPI, sources: Sources) -> None:
    @app.get("/v1/journey", responses=answers("journey"), tags=["journey"])
    async def read_journey(wanted: Wanted) -> Response:
        """How many accounts stand at each stage now, and who came and left in 90 days.

        `median_days`: for how long those that are there have been there; null where nobody is.
        `left_90` says whereto. An account that was seen for the first time has entered a stage
        only where a way begins: trial or land.
        """
        ledger = await sources.ledger()

        def compute() -> dict[str, Any]:
            return {"as_of": moment(ledger.as_of), "stages": _journey(ledger, wanted)}

        return await sources.tell(ledger, ("journey", filters_of(wanted)), compute)

    # Before the account itself: an id may hold slashes.
    @app.get("/v1/accounts/{account:path}/journey", responses=answers("way"), tags=["journey"])
    async def read_way(account: Account) -> Response:
        """The stages that the account has been at, the oldest first; `until` null: it is there."""
        rows = await sources.read(lambda connection: queries.read_way(connection, account))
        ends = [row["since"] for row in rows[1:]] + [None]
        return answer(
            {
                "stages": [
                    {"stage": _name(row["stage"]), "since": row["since"], "until": until}
                    for row, until in zip(rows, ends, strict=False)
                ]
            }
        )


def _journey(ledger: Ledger, wanted: Wanted) -> list[dict[str, Any]]:
    chosen = matching(ledger, wanted, version=ledger.newest_version(), stage=ledger.today.stage)
    return [_stage(one) for one in journey(ledger, chosen)]


def _stage(one: Standing) -> dict[str, Any]:
    return {
        "stage": _name(one.stage),
        "accounts": one.accounts,
        "median_days": one.median_days,
        "entered_90": one.entered,
        "left_90": {_name(stage): count for stage, count in one.left.items()},
    }


def _name(stage: int) -> str:
    return LifeStage(stage).name.lower()
