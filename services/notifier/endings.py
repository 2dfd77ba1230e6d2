"""How episodes of interventions ended, one row each: what is counted; functions on a connection."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    DateTime,
    Double,
    and_,
    case,
    cast,
    delete,
    exists,
    extract,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from services.notifier.domain.feedback import SAVED_HOLDS, Endings
from services.notifier.domain.holdout import MEASURED_DAYS, Arm, quarter_of
from services.notifier.domain.interventions import SYSTEM, Intervention, Status
from services.notifier.tables import accounts, draws, endings, interventions
from shared.messages import OutcomeKind


async def save(connection: AsyncConnection, subject: Intervention) -> None:
    """The outcome of a closed intervention; a correction replaces it."""
    values = {
        "account_id": subject.account_id,
        "reason": subject.reason.value,
        "playbook": subject.playbook.name if subject.playbook else "",
        "owner": subject.owner,
        "outcome": str(subject.outcome),
        "by_system": subject.closed_by == SYSTEM,
        "held_out": subject.held_out,
        "opened_at": subject.opened_at,
        "closed_at": subject.closed_at,
        "acknowledged_at": subject.acknowledged_at,
    }
    # Closing is a step too: who closes at once has acted then.
    first = subject.acknowledged_at or (None if values["by_system"] else subject.closed_at)
    await connection.execute(
        insert(endings)
        .values(
            intervention_id=subject.id,
            episode=subject.episode,
            first_action_at=first,
            **values,
        )
        .on_conflict_do_update(
            index_elements=["intervention_id", "episode"],
            set_={"outcome": values["outcome"], "by_system": values["by_system"]},
        )
    )


async def between(
    connection: AsyncConnection, first: datetime, until: datetime
) -> Sequence[Endings]:
    """Those that ended in the period, those alike together: a year of them are tens of thousands.

    Of those saved it is seen whether the account left later after all.
    """
    row = endings.c
    outcome = _result().label("result")
    alike = (row.reason, row.playbook, row.owner, outcome, row.by_system, row.held_out)
    rows = await connection.execute(
        select(
            *alike,
            func.count(),
            _seconds_until(row.acknowledged_at),
            _seconds_until(row.first_action_at),
        )
        .where(row.closed_at >= first, row.closed_at < until)
        .group_by(*alike)
    )
    return [
        Endings(
            reason=reason,
            playbook=playbook,
            owner=owner,
            outcome=OutcomeKind(result),
            by_system=by_system,
            held_out=held_out,
            number=number,
            to_acknowledge=taken or (),
            to_first_action=acted or (),
        )
        for reason, playbook, owner, result, by_system, held_out, number, taken, acted in rows
    ]


async def outcomes(
    connection: AsyncConnection, first: datetime, until: datetime
) -> Sequence[tuple[str, OutcomeKind, int]]:
    """How many of the period each owner closed with each outcome, as it turned out; as `between`,
    of people only, and without what was held out.
    """
    row = endings.c
    alike = (row.owner, _result().label("result"))
    rows = await connection.execute(
        select(*alike, func.count())
        .where(row.closed_at >= first, row.closed_at < until, ~row.by_system, ~row.held_out)
        .group_by(*alike)
    )
    return [(owner, OutcomeKind(result), number) for owner, result, number in rows]


def _result() -> ColumnElement[str]:
    """The outcome as it turned out: who left soon after was not saved."""
    row = endings.c
    left = cast(accounts.c.fields["churned_at"].astext, Date)
    # The end of that day: the account may have been saved in its morning.
    lost_at = func.timezone("UTC", cast(left + 1, DateTime))
    is_lost = exists().where(
        accounts.c.account_id == row.account_id,
        accounts.c.status == "churned",
        lost_at.between(row.closed_at, row.closed_at + SAVED_HOLDS),
    )
    # Only what was saved can turn out to be lost: nobody else's account is looked up.
    turned = and_(row.outcome == OutcomeKind.SAVED.value, is_lost)
    return case((turned, OutcomeKind.CHURNED.value), else_=row.outcome)


def _seconds_until(moment: ColumnElement[datetime | None]) -> ColumnElement[Any]:
    """A list of them, as the driver makes it; None where there is none."""
    seconds = cast(extract("epoch", moment - endings.c.opened_at), Double)
    return func.array_agg(seconds, type_=NullType()).filter(moment.is_not(None))


async def count_opened(connection: AsyncConnection, first: datetime, until: datetime) -> int:
    """Episodes that began in the period: those that have ended, and those that are open."""
    ended = await connection.scalar(
        select(func.count()).where(endings.c.opened_at >= first, endings.c.opened_at < until)
    )
    row = interventions.c
    still_open = await connection.scalar(
        select(func.count()).where(
            row.status != Status.CLOSED.value, row.opened_at >= first, row.opened_at < until
        )
    )
    return int(ended or 0) + int(still_open or 0)


async def count_open(connection: AsyncConnection, at: datetime) -> int:
    """Episodes that were open at the moment."""
    row = interventions.c
    ended = await connection.scalar(
        select(func.count()).where(endings.c.opened_at < at, endings.c.closed_at >= at)
    )
    still_open = await connection.scalar(
        select(func.count()).where(row.status != Status.CLOSED.value, row.opened_at < at)
    )
    return int(ended or 0) + int(still_open or 0)


async def draw(
    connection: AsyncConnection, account_id: str, *, held_out: bool, today: date
) -> None:
    """How the account was drawn for the quarter; the first time counts."""
    await connection.execute(
        insert(draws)
        .values(account_id=account_id, quarter=quarter_of(today), held_out=held_out, drawn_on=today)
        .on_conflict_do_nothing()
    )


async def arms(
    connection: AsyncConnection, first: date, until: date, *, today: date
) -> tuple[Arm, Arm]:
    """Held out, and treated: the accounts that were drawn in the period.

    Only those whose time is over: a loss that may still come is no survival.
    """
    row = draws.c
    over = min(until, today - timedelta(days=MEASURED_DAYS))
    left = cast(accounts.c.fields["churned_at"].astext, Date)
    within = row.drawn_on + MEASURED_DAYS
    is_lost = (accounts.c.status == "churned") & left.between(row.drawn_on, within)
    rows = await connection.execute(
        select(
            row.held_out,
            func.count().label("n"),
            func.count().filter(is_lost).label("lost"),
        )
        .outerjoin(accounts, accounts.c.account_id == row.account_id)
        .where(row.drawn_on >= first, row.drawn_on < over)
        .group_by(row.held_out)
    )
    found = {one.held_out: Arm(accounts=one.n, lost=one.lost) for one in rows}
    nobody = Arm(accounts=0, lost=0)
    return found.get(True, nobody), found.get(False, nobody)


async def forget_account(connection: AsyncConnection, account_id: str) -> None:
    """Keep the count, and not whose it was."""
    await connection.execute(
        update(endings).where(endings.c.account_id == account_id).values(account_id="", owner="")
    )
    await connection.execute(delete(draws).where(draws.c.account_id == account_id))
