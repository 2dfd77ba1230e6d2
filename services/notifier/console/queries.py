"""What the pages read from the notifier's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, func, or_, select, true
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
from shared.messages import Band

PAGE = 100
_HISTORY = 20
_ENTRIES = 100

_is_open = interventions.c.status != Status.CLOSED.value
# As `Intervention.is_kept_from_all`: nobody is to see it in a list of work either.
_is_kept = and_(interventions.c.held_out, interventions.c.severity != Band.CRITICAL.value, _is_open)


class Show(StrEnum):
    """Which of the open interventions."""

    ALL = ""
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    OVERDUE = "overdue"


SHOWS = {
    Show.ALL: "All",
    Show.OPEN: "Open",
    Show.ACKNOWLEDGED: "Acknowledged",
    Show.SNOOZED: "Snoozed",
    Show.OVERDUE: "Overdue",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    owner: str | None
    """None: everybody."""
    show: Show


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The last line of the page before."""

    priority: float
    id: UUID


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
    snoozed: int
    overdue: int
    held_out: int
    """Not among the others: nobody is told of these."""
    values: tuple[tuple[str, Decimal], ...]
    """Value at risk by currency, an account counted once; currencies are never added."""


async def open_work(
    connection: AsyncConnection, wanted: Wanted, *, after: After | None, now: datetime
) -> Sequence[Work]:
    """The most urgent first."""
    row = interventions.c
    statement = (
        select(interventions, accounts.c.name, accounts.c.timezone)
        .outerjoin(accounts, accounts.c.account_id == row.account_id)
        .where(_of(wanted.owner), _shown(wanted.show, now))
        .order_by(row.priority.desc(), row.id)
        .limit(PAGE)
    )
    if after is not None:
        statement = statement.where(
            or_(
                row.priority < after.priority,
                and_(row.priority == after.priority, row.id > after.id),
            )
        )
    rows = await connection.execute(statement)
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
                func.count(case((_is_snoozed(now), 1))).label("snoozed"),
                func.count(case((table.due_at < now, 1))).label("overdue"),
            ).where(_of(owner))
        )
    ).one()
    held_out = await connection.scalar(
        select(func.count()).where(_is_kept, true() if owner is None else table.owner == owner)
    )
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
        snoozed=counted.snoozed,
        overdue=counted.overdue,
        held_out=held_out or 0,
        values=tuple((row.value_currency, row.amount) for row in rows),
    )


async def owners(connection: AsyncConnection) -> Sequence[AnyRow]:
    """Who has open interventions, and how many."""
    rows = await connection.execute(
        select(interventions.c.owner, func.count().label("open"))
        .where(_is_open, ~_is_kept)
        .group_by(interventions.c.owner)
        .order_by(interventions.c.owner)
    )
    return rows.all()


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


def _of(owner: str | None) -> ColumnElement[bool]:
    ours = and_(_is_open, ~_is_kept)
    return ours if owner is None else and_(ours, interventions.c.owner == owner)


def _shown(show: Show, now: datetime) -> ColumnElement[bool]:
    match show:
        case Show.ALL:
            return true()
        case Show.OPEN:
            return and_(interventions.c.status == Status.OPEN.value, ~_is_snoozed(now))
        case Show.ACKNOWLEDGED:
            return interventions.c.status == Status.ACKNOWLEDGED.value
        case Show.SNOOZED:
            return _is_snoozed(now)
        case Show.OVERDUE:
            return interventions.c.due_at < now


def _is_snoozed(now: datetime) -> ColumnElement[bool]:
    """As `Intervention.is_snoozed`; never NULL, so that it can be negated."""
    row = interventions.c
    return and_(
        row.snoozed_until.is_not(None), row.snoozed_until > now, row.snooze_ended_at.is_(None)
    )
