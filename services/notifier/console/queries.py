"""What the pages read from the notifier's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.interventions import Intervention, Status
from services.notifier.store import AnyRow, intervention_of
from services.notifier.tables import accounts, deliveries, destinations, interventions, timeline

PAGE = 100
_HISTORY = 20
_ENTRIES = 100

_is_open = interventions.c.status != Status.CLOSED.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A line of the list: an open intervention and whose it is."""

    intervention: Intervention
    account_name: str
    zone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of the open interventions that the page is about."""

    open: int
    acknowledged: int
    overdue: int
    values: tuple[tuple[str, Decimal], ...]
    """Value at risk by currency, an account counted once; currencies are never added."""


async def open_work(connection: AsyncConnection, *, owner: str | None, page: int) -> Sequence[Work]:
    rows = await connection.execute(
        select(interventions, accounts.c.name, accounts.c.timezone)
        .outerjoin(accounts, accounts.c.account_id == interventions.c.account_id)
        .where(_of(owner))
        .order_by(func.coalesce(interventions.c.value_amount, -1).desc(), interventions.c.id)
        .limit(PAGE)
        .offset(page * PAGE)
    )
    return [
        Work(
            intervention=intervention_of(row),
            account_name=row.name or row.account_id,
            zone=row.timezone,
        )
        for row in rows
    ]


async def totals(connection: AsyncConnection, *, owner: str | None, now: datetime) -> Totals:
    table = interventions.c
    counted = (
        await connection.execute(
            select(
                func.count().label("open"),
                func.count(case((table.status == Status.ACKNOWLEDGED.value, 1))).label("acked"),
                func.count(case((table.due_at < now, 1))).label("overdue"),
            ).where(_of(owner))
        )
    ).one()
    # Two interventions of one account are about the same money.
    per_account = (
        select(table.value_currency, func.max(table.value_amount).label("amount"))
        .where(_of(owner), table.value_amount.is_not(None))
        .group_by(table.account_id, table.value_currency)
        .subquery()
    )
    rows = await connection.execute(
        select(per_account.c.value_currency, func.sum(per_account.c.amount).label("amount"))
        .group_by(per_account.c.value_currency)
        .order_by(func.sum(per_account.c.amount).desc())
    )
    return Totals(
        open=counted.open,
        acknowledged=counted.acked,
        overdue=counted.overdue,
        values=tuple((row.value_currency, row.amount) for row in rows),
    )


async def owners(connection: AsyncConnection) -> Sequence[AnyRow]:
    """Who has open interventions, and how many."""
    rows = await connection.execute(
        select(interventions.c.owner, func.count().label("open"))
        .where(_is_open)
        .group_by(interventions.c.owner)
        .order_by(interventions.c.owner)
    )
    return rows.all()


async def interventions_of(connection: AsyncConnection, account_id: str) -> Sequence[Intervention]:
    """The open ones first, then the latest closed ones."""
    rows = await connection.execute(
        select(interventions)
        .where(interventions.c.account_id == account_id)
        .order_by((interventions.c.status == Status.CLOSED.value), interventions.c.opened_at.desc())
        .limit(_HISTORY)
    )
    return [intervention_of(row) for row in rows]


async def timeline_of(connection: AsyncConnection, account_id: str) -> Sequence[AnyRow]:
    rows = await connection.execute(
        select(timeline, interventions.c.reason)
        .join(interventions, interventions.c.id == timeline.c.intervention_id)
        .where(timeline.c.account_id == account_id)
        .order_by(timeline.c.id.desc())
        .limit(_ENTRIES)
    )
    return rows.all()


async def recent_deliveries(
    connection: AsyncConnection, *, states: Sequence[str] | None, page: int
) -> Sequence[AnyRow]:
    statement = (
        select(deliveries, accounts.c.name, destinations.c.next_allowed_at)
        .outerjoin(accounts, accounts.c.account_id == deliveries.c.account_id)
        .outerjoin(destinations, destinations.c.destination == deliveries.c.destination)
        .order_by(deliveries.c.number.desc())
        .limit(PAGE)
        .offset(page * PAGE)
    )
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


async def count_given_up(connection: AsyncConnection, *, since: datetime) -> int:
    counted = await connection.scalar(
        select(func.count())
        .select_from(deliveries)
        .where(deliveries.c.state == "dead", deliveries.c.ended_at >= since)
    )
    return counted or 0


def _of(owner: str | None) -> ColumnElement[bool]:
    return _is_open if owner is None else and_(_is_open, interventions.c.owner == owner)
