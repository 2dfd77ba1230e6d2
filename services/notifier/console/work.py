"""Open interventions as the pages of a day's work show them: in piles, page by page, and counted.

What is held out is in none of them: nobody is to see it in a list of work. Piles, counts and an
owner's are read by `open_interventions_by_owner`, everybody's by `open_interventions_by_priority`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.flags import Kind
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.intervention_rows import AnyRow, intervention_of
from services.notifier.tables import accounts, among, interventions, tasks
from shared.messages import Band

PAGE = 50

_row = interventions.c
# Written out: with a parameter in its place the indexes of what is open may go unused.
_is_open = _row.status != literal(Status.CLOSED.value, literal_execute=True)
# As `Intervention.is_kept_from_all`.
_is_kept = and_(_row.held_out, _row.severity != Band.CRITICAL.value)


class Pile(StrEnum):
    """What a day asks for; an intervention lies on the first that fits."""

    OVERDUE = "overdue"
    DUE = "due"
    RECOVERED = "recovered"
    WAKING = "waking"
    NEW = "new"
    NEXT = "next"
    RESTING = "resting"


class Column(StrEnum):
    """Where work stands; an intervention stands in the first that fits."""

    UNASSIGNED = "unassigned"
    OVERDUE = "overdue"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """None: whatever it is."""

    owner: str | None = None
    spellings: tuple[str, ...] = ()
    """Of that owner: the directory writes addresses as it likes, users are kept in lower case."""
    kind: Kind | None = None
    reason: str | None = None
    severity: Band | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The last line of the page before."""

    priority: float
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An open intervention and whose it is."""

    intervention: Intervention
    account_name: str
    zone: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heap:
    """The most urgent of a pile, and how many lie there in all."""

    total: int = 0
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    open: int
    held_out: int
    """Not among the others: nobody is told of these."""
    values: tuple[tuple[str, Decimal], ...]
    """Value at risk by currency, an account counted once; currencies are never added."""


def pile_of(*, now: datetime, today_ends: datetime, new_since: datetime) -> ColumnElement[str]:
    """`today_ends`: the day of whoever looks."""
    return case(
        (and_(_is_snoozed(now), _row.snoozed_until <= today_ends), Pile.WAKING.value),
        (_is_snoozed(now), Pile.RESTING.value),
        (_row.recovered_at.is_not(None), Pile.RECOVERED.value),
        (_row.due_at < now, Pile.OVERDUE.value),
        (_row.due_at < today_ends, Pile.DUE.value),
        (_row.opened_at >= new_since, Pile.NEW.value),
        else_=Pile.NEXT.value,
    )


def column_of(*, fallback_owner: str, now: datetime) -> ColumnElement[str]:
    return case(
        (_is_snoozed(now), Column.SNOOZED.value),
        (_row.owner == fallback_owner, Column.UNASSIGNED.value),
        (_row.due_at < now, Column.OVERDUE.value),
        (_row.status == Status.ACKNOWLEDGED.value, Column.ACKNOWLEDGED.value),
        else_=Column.OPEN.value,
    )


async def heaps(
    connection: AsyncConnection, wanted: Wanted, by: ColumnElement[str], *, most: int
) -> Mapping[str, Heap]:
    """The first `most` of each value of `by`, the most urgent first."""
    ranked = (
        select(
            _row.id,
            by.label("pile"),
            func.row_number()
            .over(partition_by=by, order_by=(_row.priority.desc(), _row.id))
            .label("place"),
        )
        .where(_is(wanted))
        .subquery()
    )
    top = await connection.execute(select(ranked.c.id, ranked.c.pile).where(ranked.c.place <= most))
    pile_of_id = {row.id: row.pile for row in top}
    # By their ids: joined with the ranks, all rows of all work would be read in their full width.
    rows = await connection.execute(
        select(interventions, accounts.c.name, accounts.c.timezone)
        .outerjoin(accounts, accounts.c.account_id == _row.account_id)
        .where(among(_row.id, pile_of_id))
        .order_by(_row.priority.desc(), _row.id)
    )
    found: dict[str, list[Line]] = {}
    for row in rows:
        found.setdefault(pile_of_id[row.id], []).append(_line_of(row))
    # Counted apart: a count beside each rank costs more than both.
    counts = await counted(connection, wanted, by)
    return {
        pile: Heap(total=total, lines=tuple(found.get(pile, ()))) for pile, total in counts.items()
    }


async def page(
    connection: AsyncConnection,
    wanted: Wanted,
    *,
    which: ColumnElement[bool] | None = None,
    after: After | None = None,
) -> Sequence[Line]:
    """The most urgent first, `PAGE` of them."""
    statement = (
        select(interventions, accounts.c.name, accounts.c.timezone)
        .outerjoin(accounts, accounts.c.account_id == _row.account_id)
        .where(_is(wanted), true() if which is None else which)
        .order_by(_row.priority.desc(), _row.id)
        .limit(PAGE)
    )
    if after is not None:
        statement = statement.where(
            or_(
                _row.priority < after.priority,
                and_(_row.priority == after.priority, _row.id > after.id),
            )
        )
    return [_line_of(row) for row in await connection.execute(statement)]


async def counted(
    connection: AsyncConnection, wanted: Wanted, by: ColumnElement[str]
) -> Mapping[str, int]:
    rows = await connection.execute(
        select(by.label("pile"), func.count().label("total")).where(_is(wanted)).group_by("pile")
    )
    return {row.pile: row.total for row in rows}


async def totals(connection: AsyncConnection, wanted: Wanted) -> Totals:
    row = (
        await connection.execute(
            select(
                func.count().filter(~_is_kept).label("open"),
                func.count().filter(_is_kept).label("held_out"),
            ).where(_matches(wanted))
        )
    ).one()
    # Two interventions of one account are about the same money.
    per_account = (
        select(_row.value_currency, func.max(_row.value_amount).label("amount"))
        .where(_is(wanted), _row.value_amount.is_not(None))
        .group_by(_row.account_id, _row.value_currency)
        .subquery()
    )
    amount = func.sum(per_account.c.amount)
    values = await connection.execute(
        select(per_account.c.value_currency, amount.label("amount"))
        .group_by(per_account.c.value_currency)
        .order_by(amount.desc())
    )
    return Totals(
        open=row.open,
        held_out=row.held_out,
        values=tuple((one.value_currency, one.amount) for one in values),
    )


async def owners(
    connection: AsyncConnection, *, now: datetime, today_ends: datetime
) -> Sequence[AnyRow]:
    """Who has open interventions: how many, how many overdue, due today and not acknowledged."""
    is_awake = ~_is_snoozed(now)
    rows = await connection.execute(
        select(
            _row.owner,
            func.count().label("open"),
            func.count().filter(and_(is_awake, _row.due_at < now)).label("overdue"),
            func.count()
            .filter(and_(is_awake, _row.due_at >= now, _row.due_at < today_ends))
            .label("due"),
            func.count()
            .filter(and_(is_awake, _row.status == Status.OPEN.value))
            .label("unacknowledged"),
        )
        .where(_is(Wanted()))
        .group_by(_row.owner)
        .order_by(_row.owner)
    )
    return rows.all()


async def reasons(connection: AsyncConnection) -> Sequence[tuple[str, int]]:
    """Why what is open was opened, the most frequent first."""
    rows = await connection.execute(
        select(_row.reason, func.count().label("open"))
        .where(_is(Wanted()))
        .group_by(_row.reason)
        .order_by(func.count().desc(), _row.reason)
    )
    return [(row.reason, row.open) for row in rows]


async def tasks_due(
    connection: AsyncConnection, owners: Collection[str], *, before: datetime, most: int
) -> Sequence[AnyRow]:
    """Of playbooks of open interventions, by `tasks_to_do`; the oldest first."""
    rows = await connection.execute(
        select(
            tasks.c.title,
            tasks.c.due_at,
            tasks.c.number,
            _row.id,
            _row.account_id,
            _row.reason,
            accounts.c.name,
        )
        .join(
            interventions,
            and_(_row.id == tasks.c.intervention_id, _row.episode == tasks.c.episode),
        )
        .outerjoin(accounts, accounts.c.account_id == _row.account_id)
        .where(
            tasks.c.owner.in_(owners),
            tasks.c.done_at.is_(None),
            tasks.c.due_at < before,
            _is_open,
            ~_is_kept,
        )
        .order_by(tasks.c.due_at)
        .limit(most)
    )
    return rows.all()


async def open_of(connection: AsyncConnection, account_ids: Sequence[str]) -> Mapping[str, int]:
    """How many are open of each of these accounts, by `one_open_intervention`."""
    rows = await connection.execute(
        select(_row.account_id, func.count().label("open"))
        .where(_row.account_id.in_(account_ids), _is_open, ~_is_kept)
        .group_by(_row.account_id)
    )
    return {row.account_id: row.open for row in rows}


def _line_of(row: AnyRow) -> Line:
    return Line(
        intervention=intervention_of(row),
        account_name=row.name or row.account_id,
        zone=row.timezone,
    )


def _is(wanted: Wanted) -> ColumnElement[bool]:
    return and_(_matches(wanted), ~_is_kept)


def _matches(wanted: Wanted) -> ColumnElement[bool]:
    found = [_is_open]
    if wanted.owner is not None:
        found.append(_row.owner.in_({wanted.owner, *wanted.spellings}))
    if wanted.kind is not None:
        found.append(_row.type == wanted.kind.value)
    if wanted.reason is not None:
        found.append(_row.reason == wanted.reason)
    if wanted.severity is not None:
        found.append(_row.severity == wanted.severity.value)
    return and_(*found)


def _is_snoozed(now: datetime) -> ColumnElement[bool]:
    """As `Intervention.is_snoozed`; never NULL, so that it can be negated."""
    return and_(
        _row.snoozed_until.is_not(None), _row.snoozed_until > now, _row.snooze_ended_at.is_(None)
    )
