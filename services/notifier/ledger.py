"""Writes down what became of an attempt, and what follows; one transaction each.

The intervention is locked first, as intake and console do: what changed while the message was
under way is seen here, and decided anew.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import notices, queue, store
from services.notifier.channels import Receipt
from services.notifier.domain.attempts import Failure, Next
from services.notifier.domain.interventions import SYSTEM, Intervention
from services.notifier.domain.policy import SuppressReason, Told
from services.notifier.notices import Decided, Route, Routes
from services.notifier.queue import Claimed
from services.notifier.store import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    mine: bool
    """False where the lease was lost: the sender that has it now writes the record."""
    decided: Decided = Decided()


async def sent(
    connection: AsyncConnection,
    *,
    held: Claimed,
    receipt: Receipt,
    told: Told,
    pace: timedelta,
    routes: Routes,
) -> Recorded:
    """The destination has been told `told`; what has changed since is decided now."""
    subject = await _locked(connection, held)
    if not await queue.record_sent(connection, held, receipt, pace=pace):
        return Recorded(mine=False)
    await store.save_told(connection, subject.id, held.destination, told)
    await _tell(connection, subject, Entry.NOTIFIED, held, reason=held.reason.value)
    account = await store.read_account(connection, subject.account_id)
    decided = await notices.decide(
        connection,
        subject,
        routes=routes,
        account_lost=account is not None and account.is_lost,
    )
    return Recorded(mine=True, decided=decided)


async def suppressed(
    connection: AsyncConnection, *, held: Claimed, against: SuppressReason
) -> Recorded:
    subject = await _locked(connection, held)
    if not await queue.record_suppressed(connection, held, against):
        return Recorded(mine=False)
    await _tell(connection, subject, Entry.SUPPRESSED, held, reason=against.value)
    return Recorded(mine=True)


async def failed(
    connection: AsyncConnection,
    *,
    held: Claimed,
    failure: Failure,
    step: Next,
    fallback: Route | None,
) -> Recorded:
    """The attempt failed; a delivery that is given up goes on to the fallback."""
    subject = await _locked(connection, held)
    if not await queue.record_failed(connection, held, failure, step):
        return Recorded(mine=False)
    if not step.dead:
        return Recorded(mine=True)
    await _tell(connection, subject, Entry.NOT_DELIVERED, held, reason=failure.kind.value)
    if fallback is None or not await notices.queue(connection, subject, fallback, held.reason):
        return Recorded(mine=True)
    queued = ((fallback.channel, held.reason),)
    return Recorded(mine=True, decided=Decided(queued=queued))


async def _locked(connection: AsyncConnection, held: Claimed) -> Intervention:
    subject = await store.read(connection, held.intervention_id, lock=True)
    if subject is None:
        raise LookupError("a delivery outlived its intervention")
    return subject


async def _tell(
    connection: AsyncConnection, subject: Intervention, entry: Entry, held: Claimed, *, reason: str
) -> None:
    now: Any = await connection.scalar(select(func.now()))
    at: datetime = now
    await store.tell(
        connection,
        subject,
        entry,
        by=SYSTEM,
        at=at,
        channel=held.channel,
        to=notices.address_of(held.destination),
        reason=reason,
    )
