"""What the API reads from the notifier's tables, a page at a time, by keyset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.flags import Kind
from services.notifier.domain.interventions import Status
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import accounts, audit, deliveries, interventions, timeline
from shared.messages import Band

_row = interventions.c
_is_open = _row.status != Status.CLOSED.value
_is_kept = and_(_row.held_out, _row.severity != Band.CRITICAL.value, _is_open)


class Show(StrEnum):
    """Which interventions; those that are held out are in none but their own."""

    ACTIVE = "active"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    OVERDUE = "overdue"
    UNASSIGNED = "unassigned"
    CLOSED = "closed"
    HELD_OUT = "held_out"


class Sort(StrEnum):
    PRIORITY = "priority"
    DUE = "due"
    OPENED = "opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    show: Show
    owner: str | None
    account: str | None
    kind: Kind | None
    reason: str | None
    severity: Band | None


async def list_interventions(
    connection: AsyncConnection,
    filters: Filters,
    sort: Sort,
    *,
    after: tuple[Any, UUID] | None,
    limit: int,
    fallback: str,
    now: datetime,
) -> Sequence[AnyRow]:
    """One more than `limit`, where there are more; `fallback`: whose work is nobody's yet."""
    column, falls = _ORDER[sort]
    statement = (
        select(interventions)
        .where(*_conditions(filters, fallback, now))
        .order_by(column.desc() if falls else column, _row.id)
        .limit(limit + 1)
    )
    if after is not None:
        value, last = after
        beyond = column < value if falls else column > value
        statement = statement.where(or_(beyond, and_(column == value, _row.id > last)))
    # First the page, then its names: else those of all that match would be looked up.
    page = statement.subquery()
    ranked = page.c[column.name]
    rows = await connection.execute(
        select(page, accounts.c.name)
        .outerjoin(accounts, accounts.c.account_id == page.c.account_id)
        .order_by(ranked.desc() if falls else ranked, page.c.id)
    )
    return rows.all()


def _conditions(filters: Filters, fallback: str, now: datetime) -> list[ColumnElement[bool]]:
    # One without an owner was erased: nobody learns anything from it any more.
    found = [_row.owner != "", _shown(filters.show, fallback, now)]
    if filters.owner is not None:
        found.append(_row.owner == filters.owner)
    if filters.account is not None:
        found.append(_row.account_id == filters.account)
    if filters.kind is not None:
        found.append(_row.type == filters.kind.value)
    if filters.reason is not None:
        found.append(_row.reason == filters.reason)
    if filters.severity is not None:
        found.append(_row.severity == filters.severity.value)
    return found


def _shown(show: Show, fallback: str, now: datetime) -> ColumnElement[bool]:
    snoozed = and_(
        _row.snoozed_until.is_not(None), _row.snoozed_until > now, _row.snooze_ended_at.is_(None)
    )
    active = and_(_is_open, ~_is_kept)
    return {
        Show.ACTIVE: active,
        Show.OPEN: and_(active, _row.status == Status.OPEN.value, ~snoozed),
        Show.ACKNOWLEDGED: and_(active, _row.status == Status.ACKNOWLEDGED.value),
        Show.SNOOZED: and_(active, snoozed),
        Show.OVERDUE: and_(active, _row.due_at < now),
        Show.UNASSIGNED: and_(active, _row.owner == fallback),
        Show.CLOSED: ~_is_open,
        Show.HELD_OUT: _is_kept,
    }[show]


_ORDER = {
    Sort.PRIORITY: (_row.priority, True),
    Sort.DUE: (_row.due_at, False),
    Sort.OPENED: (_row.opened_at, True),
}


async def list_timeline(
    connection: AsyncConnection, account_id: str, *, before: int | None, limit: int
) -> Sequence[AnyRow]:
    row = timeline.c
    statement = select(timeline).where(row.account_id == account_id)
    return await _newest(connection, statement, row.id, before, limit)


async def timeline_of(
    connection: AsyncConnection, account_id: str, intervention_id: UUID, *, limit: int
) -> Sequence[AnyRow]:
    row = timeline.c
    statement = select(timeline).where(
        row.account_id == account_id, row.intervention_id == intervention_id
    )
    return await _newest(connection, statement, row.id, None, limit)


async def list_deliveries(
    connection: AsyncConnection,
    *,
    states: Sequence[str] | None,
    account_id: str | None,
    before: int | None,
    limit: int,
) -> Sequence[AnyRow]:
    row = deliveries.c
    statement = select(deliveries)
    if states is not None:
        statement = statement.where(row.state.in_(states))
    if account_id is not None:
        statement = statement.where(row.account_id == account_id)
    return await _newest(connection, statement, row.number, before, limit)


async def list_audit(
    connection: AsyncConnection,
    *,
    actor: str | None,
    account_id: str | None,
    before: int | None,
    limit: int,
) -> Sequence[AnyRow]:
    row = audit.c
    statement = select(audit)
    if actor is not None:
        statement = statement.where(row.actor == actor)
    if account_id is not None:
        statement = statement.where(row.account_id == account_id)
    return await _newest(connection, statement, row.id, before, limit)


async def _newest(
    connection: AsyncConnection,
    statement: Select[Any],
    number: ColumnElement[int],
    before: int | None,
    limit: int,
) -> Sequence[AnyRow]:
    """One more than `limit`, where there are more."""
    if before is not None:
        statement = statement.where(number < before)
    found = await connection.execute(statement.order_by(number.desc()).limit(limit + 1))
    rows: Sequence[AnyRow] = found.all()
    return rows
