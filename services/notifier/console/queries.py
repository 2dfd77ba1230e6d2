"""What the pages of accounts and deliveries read from the notifier's tables."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.interventions import Intervention, Status
from services.notifier.intervention_rows import AnyRow, intervention_of
from services.notifier.tables import (
    accounts,
    channels,
    deliveries,
    destinations,
    interventions,
    timeline,
)

PAGE = 100
_HISTORY = 20
_ENTRIES = 100


async def interventions_of(connection: AsyncConnection, account_id: str) -> Sequence[Intervention]:
    """The open ones first, then the latest closed ones."""
    rows = await connection.execute(
        select(interventions)
        # One without an owner was erased: nobody learns anything from it any more.
        .where(interventions.c.account_id == account_id, interventions.c.owner != "")
        .order_by((interventions.c.status == Status.CLOSED.value), interventions.c.opened_at.desc())
        .limit(_HISTORY)
    )
    return [intervention_of(row) for row in rows]


async def timeline_of(connection: AsyncConnection, account_id: str) -> Sequence[AnyRow]:
    rows = await connection.execute(
        select(timeline, interventions.c.reason)
        .outerjoin(interventions, interventions.c.id == timeline.c.intervention_id)
        .where(timeline.c.account_id == account_id)
        .order_by(timeline.c.id.desc())
        .limit(_ENTRIES)
    )
    return rows.all()


async def recent_deliveries(
    connection: AsyncConnection, *, states: Sequence[str] | None, before: int | None
) -> Sequence[AnyRow]:
    """The newest first, below the number `before`."""
    statement = (
        select(deliveries, accounts.c.name, destinations.c.next_allowed_at)
        .outerjoin(accounts, accounts.c.account_id == deliveries.c.account_id)
        .outerjoin(destinations, destinations.c.destination == deliveries.c.destination)
        .order_by(deliveries.c.number.desc())
        .limit(PAGE)
    )
    if before is not None:
        statement = statement.where(deliveries.c.number < before)
    if states is not None:
        statement = statement.where(deliveries.c.state.in_(states))
    return (await connection.execute(statement)).all()


async def troubled_destinations(connection: AsyncConnection) -> Sequence[AnyRow]:
    """Destinations that refuse us, or rest after failures."""
    table = destinations.c
    rows = await connection.execute(
        select(destinations)
        .where(
            or_(
                table.broken_since.is_not(None),
                and_(table.failures > 0, table.next_allowed_at > func.now()),
            )
        )
        .order_by(table.broken_since, table.destination)
        .limit(PAGE)
    )
    return rows.all()


async def troubled_channels(connection: AsyncConnection) -> Sequence[AnyRow]:
    """Whole channels that refuse us, or asked for a pause."""
    row = channels.c
    rows = await connection.execute(
        select(channels)
        .where(or_(row.broken_since.is_not(None), row.paused_until > func.now()))
        .order_by(row.channel)
    )
    return rows.all()


async def count_given_up(connection: AsyncConnection, *, since: datetime) -> int:
    counted = await connection.scalar(
        select(func.count())
        .select_from(deliveries)
        .where(deliveries.c.state == "dead", deliveries.c.ended_at >= since)
    )
    return counted or 0
