"""How the notifier's work stands, as JSON: for the demo, tests and operators."""

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.tables import deliveries, interventions

_STATES = ("pending", "sending", "held", "sent", "dead", "cancelled")


def add_status(app: FastAPI, engine: AsyncEngine) -> None:
    @app.get("/v1/status")
    async def status() -> JSONResponse:
        async with engine.connect() as connection:
            is_open = await connection.scalar(
                select(func.count()).where(interventions.c.status != "closed")
            )
            counts = await connection.execute(
                select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
            )
            by_state = {str(row[0]): int(row[1]) for row in counts}
        found = {state: by_state.get(state, 0) for state in _STATES}
        return JSONResponse(
            {
                "interventions_open": is_open,
                # "pending" is all that is still to be sent, in whatever state of trying.
                "deliveries": {
                    **found,
                    "pending": found["pending"] + found["sending"] + found["held"],
                },
            }
        )
