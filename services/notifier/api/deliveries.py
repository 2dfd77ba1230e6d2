"""Messages: what was sent to whom, what waits, what was given up, what was not sent and why."""

from enum import StrEnum
from typing import Any, Final

from fastapi import Depends, FastAPI, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.api import queries as api_queries
from services.notifier.api import views
from services.notifier.api.cursors import Cursor, Limit, number_of
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Wanted
from services.notifier.api.interventions import next_of
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer
from services.notifier.console import queries
from shared.credentials import Scope

_TAGS: Final[list[Any]] = ["deliveries"]


class Which(StrEnum):
    ALL = "all"
    WAITING = "waiting"
    SENT = "sent"
    SUPPRESSED = "suppressed"
    HELD = "held"
    DEAD = "dead"


_STATES: Final = {
    Which.ALL: None,
    Which.WAITING: ("pending", "sending", "restored"),
    Which.SENT: ("sent",),
    Which.SUPPRESSED: ("cancelled",),
    Which.HELD: ("held",),
    Which.DEAD: ("dead",),
}


def add_deliveries(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.INTERVENTIONS_READ))]

    @app.get("/api/v1/deliveries", responses=answers("deliveries"), tags=_TAGS, dependencies=reads)
    async def list_deliveries(
        show: Which = Which.ALL, account: Wanted = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        """The newest first; `suppressed_because` says why a message was not sent."""
        async with desk.engine.connect() as connection:
            rows = await api_queries.list_deliveries(
                connection,
                states=_STATES[show],
                account_id=account,
                before=number_of(cursor),
                limit=limit,
            )
        return answer(
            {
                "deliveries": [views.delivery(row) for row in rows[:limit]],
                "next_cursor": next_of(rows, limit, "number"),
            }
        )

    @app.get("/api/v1/channels", responses=answers("channels"), tags=_TAGS, dependencies=reads)
    async def list_channels() -> Response:
        """Channels and destinations that refuse us, rest after failures, or asked for a pause."""
        async with desk.engine.connect() as connection:
            return answer(await _troubles(connection))


async def _troubles(connection: AsyncConnection) -> dict[str, Any]:
    return {
        "channels": [
            {
                "channel": row.channel,
                "paused_until": row.paused_until,
                "broken_since": row.broken_since,
                "failure": row.last_failure,
            }
            for row in await queries.troubled_channels(connection)
        ],
        "destinations": [
            {
                "destination": row.destination,
                "channel": row.channel,
                "next_allowed_at": row.next_allowed_at,
                "broken_since": row.broken_since,
                "failures": row.failures,
                "failure": row.last_failure,
            }
            for row in await queries.troubled_destinations(connection)
        ],
    }
