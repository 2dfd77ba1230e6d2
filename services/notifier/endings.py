"""How episodes of interventions ended, one row each: what is counted; functions on a connection."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import Date, case, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.feedback import Ending
from services.notifier.domain.holdout import MEASURED_DAYS, Arm, quarter_of
from services.notifier.domain.interventions import SYSTEM, Intervention
from services.notifier.tables import accounts, draws, endings
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
) -> Sequence[Ending]:
    """Those that ended in the period, with what is known by now of accounts that left later."""
    row = endings.c
    left = accounts.c.fields["churned_at"].astext
    lost_at = case((accounts.c.status == "churned", cast(left, Date)))
    rows = await connection.execute(
        select(endings, lost_at.label("lost_at"))
        .outerjoin(accounts, accounts.c.account_id == row.account_id)
        .where(row.closed_at >= first, row.closed_at < until)
        .order_by(row.closed_at, row.intervention_id)
    )
    found = []
    for one in rows:
        lost = None
        if one.lost_at is not None:
            # The end of that day: the account may have been saved in its morning.
            lost = datetime.combine(
                one.lost_at + timedelta(days=1), datetime.min.time(), tzinfo=one.closed_at.tzinfo
            )
        found.append(
            Ending(
                reason=one.reason,
                playbook=one.playbook,
                owner=one.owner,
                outcome=OutcomeKind(one.outcome),
                by_system=one.by_system,
                held_out=one.held_out,
                opened_at=one.opened_at,
                closed_at=one.closed_at,
                acknowledged_at=one.acknowledged_at,
                first_action_at=one.first_action_at,
                lost_at=lost if lost is not None and lost > one.closed_at else None,
            )
        )
    return found


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
