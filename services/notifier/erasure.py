"""Erasing what the notifier holds of an account; functions on a connection.

An intervention stays as a row with its times and how it ended, since others point to it; of which
account it was, what it said, to whom, and who had it in hand is gone. No outcome is told, also none
that waits in the outbox: nothing is learned from it. Of the account stays its id, with the moment:
in `accounts`, `agenda` and one line of its timeline.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import audit, endings, notes, saved_views, silences
from services.notifier.domain.flags import OwnReason
from services.notifier.domain.interventions import SYSTEM, Status
from services.notifier.store import Entry
from services.notifier.tables import (
    accounts,
    deliveries,
    destinations,
    interventions,
    notices,
    outbox,
    requests,
    sentiments,
    tasks,
    timeline,
)
from shared.messages import Erasure, OutcomeKind

_LOCK = "hashtext('notifier.erasures')"


async def hold_off(connection: AsyncConnection) -> None:
    """Until the transaction ends no account is erased."""
    await connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})"))


async def begin(connection: AsyncConnection) -> None:
    """Wait for those who hold off; before any account is locked, as they do."""
    # A flag that was read before must not open an intervention after.
    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


async def erase_accounts(
    connection: AsyncConnection, erasures: Mapping[str, Erasure], *, now: datetime
) -> None:
    """Forget the accounts, and close what is open about them without a word.

    After `begin`, with the accounts' agenda locked.
    """
    for account_id, erasure in sorted(erasures.items()):
        name = await connection.scalar(
            select(accounts.c.name).where(accounts.c.account_id == account_id)
        )
        await saved_views.forget_account(connection, account_id, name, until=erasure.erased_at)
        await _forget_account(connection, account_id, erasure)
        await _forget_sentiments(connection, account_id, erasure)
        await notes.forget_account(connection, account_id, until=erasure.erased_at)
        await silences.forget_account(connection, account_id)
        await endings.forget_account(connection, account_id)
        await audit.forget_account(connection, account_id, until=erasure.erased_at)
        await connection.execute(delete(outbox).where(outbox.c.key == account_id.encode()))
        ids = await _lock_interventions(connection, account_id, erasure)
        if ids:
            await _forget_messages(connection, account_id, ids)
            await connection.execute(delete(tasks).where(tasks.c.intervention_id.in_(ids)))
            await _empty_interventions(connection, ids, now=now)
            await connection.execute(delete(timeline).where(timeline.c.intervention_id.in_(ids)))
            await _tell(connection, account_id, now=now)


async def _forget_account(connection: AsyncConnection, account_id: str, erasure: Erasure) -> None:
    row = accounts.c
    nothing: dict[str, object] = {
        "name": None,
        "owner": None,
        "timezone": None,
        "status": None,
        "fields": {},
    }
    statement = insert(accounts).values(
        account_id=account_id,
        updated_at=erasure.erased_at,
        erased_until=erasure.flags_until,
        **nothing,
    )
    new = statement.excluded
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id"],
            set_={
                **nothing,
                # An older record that comes again must not bring it back.
                "updated_at": func.greatest(row.updated_at, new.updated_at),
                "erased_until": func.greatest(row.erased_until, new.erased_until),
            },
        )
    )


async def _forget_sentiments(
    connection: AsyncConnection, account_id: str, erasure: Erasure
) -> None:
    """What people said of it, and what they asked for."""
    said, asked = sentiments.c, requests.c
    await connection.execute(
        delete(sentiments).where(said.account_id == account_id, said.at <= erasure.erased_at)
    )
    await connection.execute(
        delete(requests).where(asked.account_id == account_id, asked.at <= erasure.erased_at)
    )
    told = timeline.c
    await connection.execute(
        delete(timeline).where(
            told.account_id == account_id,
            told.intervention_id.is_(None),
            told.at <= erasure.erased_at,
        )
    )


async def _lock_interventions(
    connection: AsyncConnection, account_id: str, erasure: Erasure
) -> Sequence[UUID]:
    """Those that stem from what is gone, and still say something of it."""
    row = interventions.c
    # What people said is as old as their words; a flag as what it was raised from.
    is_own = row.reason.in_([reason.value for reason in OwnReason])
    ids = await connection.scalars(
        select(row.id)
        .where(
            row.account_id == account_id,
            row.owner != "",
            or_(
                row.flag_as_of <= erasure.flags_until,
                and_(is_own, row.flag_as_of <= erasure.erased_at),
            ),
        )
        .order_by(row.id)
        .with_for_update()
    )
    return ids.all()


async def _forget_messages(
    connection: AsyncConnection, account_id: str, ids: Sequence[UUID]
) -> None:
    sent = deliveries.c
    addresses = await connection.scalars(
        delete(deliveries)
        .where(or_(sent.account_id == account_id, sent.intervention_id.in_(ids)))
        .returning(sent.destination)
    )
    used = set(addresses)
    told = await connection.scalars(
        delete(notices).where(notices.c.account_id == account_id).returning(notices.c.destination)
    )
    used.update(told)
    # Where something is queued just now, its announcement makes the destination anew.
    to = destinations.c
    await connection.execute(
        delete(destinations).where(
            to.destination.in_(used),
            to.claim.is_(None),
            ~exists().where(deliveries.c.destination == to.destination),
        )
    )


async def _empty_interventions(
    connection: AsyncConnection, ids: Sequence[UUID], *, now: datetime
) -> None:
    row = interventions.c
    await connection.execute(
        update(interventions)
        .where(row.id.in_(ids))
        .values(
            account_id="",
            status=Status.CLOSED.value,
            version=row.version + 1,
            flag_id="",
            owner="",
            flag_change="cleared",
            risk_at_open=None,
            risk=None,
            value_amount=None,
            value_currency=None,
            value_basis=None,
            renewal_date=None,
            summary="",
            reasons=[],
            acknowledged_by=None,
            snoozed_until=None,
            snooze_reason=None,
            snoozed_by=None,
            snoozed_at=None,
            snooze_broken_at=None,
            snooze_ended_at=None,
            ends_at=None,
            priority=0.0,
            notice_by=None,
            playbook=None,
            closed_at=func.coalesce(row.closed_at, now),
            closed_by=SYSTEM,
            outcome=func.coalesce(row.outcome, OutcomeKind.NO_ACTION_NEEDED.value),
            note="",
        )
    )


async def _tell(connection: AsyncConnection, account_id: str, *, now: datetime) -> None:
    await connection.execute(
        timeline.insert().values(
            account_id=account_id, at=now, kind=Entry.ERASED.value, by=SYSTEM, detail={}
        )
    )
