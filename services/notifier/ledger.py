"""Writes down what became of an attempt, and what follows; one transaction each.

The intervention is locked first, as intake and console do: what changed while the message was
under way is seen here, and decided anew.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import notices, queue, store
from services.notifier.channels import Receipt
from services.notifier.domain.attempts import Failure, Next
from services.notifier.domain.interventions import SYSTEM, Intervention
from services.notifier.domain.policy import NotifyReason, SuppressReason, Told
from services.notifier.notices import Decided, Route, Routes
from services.notifier.queue import Claimed
from services.notifier.store import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    mine: bool
    """False where the lease was lost: the sender that has it now writes the record."""
    decided: Decided = field(default_factory=Decided)


async def sent(
    connection: AsyncConnection,
    *,
    held: Claimed,
    receipt: Receipt,
    told: Told,
    pace: timedelta,
    routes: Routes,
    at: datetime,
) -> Recorded:
    """The destination has been told `told`; what has changed since is decided now."""
    subject = await _locked(connection, held)
    if not await queue.record_sent(connection, held, receipt, pace=pace):
        return Recorded(mine=False)
    await store.save_told(connection, subject.id, held.destination, told)
    await _tell(connection, subject, Entry.NOTIFIED, held, reason=held.reason.value, at=at)
    return Recorded(mine=True, decided=await _decide(connection, subject, routes))


async def suppressed(
    connection: AsyncConnection,
    *,
    held: Claimed,
    against: SuppressReason,
    version: int,
    routes: Routes,
    at: datetime,
) -> Recorded:
    """It was not wanted at `version` of the intervention; a later one is decided anew."""
    subject = await _locked(connection, held)
    if not await queue.record_suppressed(connection, held, against):
        return Recorded(mine=False)
    await _tell(connection, subject, Entry.SUPPRESSED, held, reason=against.value, at=at)
    if subject.version == version:
        return Recorded(mine=True)
    return Recorded(mine=True, decided=await _decide(connection, subject, routes))


async def failed(
    connection: AsyncConnection,
    *,
    held: Claimed,
    failure: Failure,
    step: Next,
    fallback: Route | None,
    version: int,
    routes: Routes,
    at: datetime,
) -> Recorded:
    """The attempt failed; a delivery that is given up goes on to the fallback."""
    subject = await _locked(connection, held)
    if not await queue.record_failed(connection, held, failure, step):
        return Recorded(mine=False)
    if not step.dead:
        return Recorded(mine=True)
    await _tell(connection, subject, Entry.NOT_DELIVERED, held, reason=failure.kind.value, at=at)
    decided = Decided()
    why = NotifyReason.UNDELIVERED
    if fallback is not None and await notices.queue(connection, subject, fallback, why):
        decided = Decided(queued=((fallback.channel, why),))
    if subject.version != version:
        decided = decided.plus(await _decide(connection, subject, routes))
    return Recorded(mine=True, decided=decided)


async def _locked(connection: AsyncConnection, held: Claimed) -> Intervention:
    subject = await store.read(connection, held.intervention_id, lock=True)
    if subject is None:
        raise LookupError("a delivery outlived its intervention")
    return subject


async def _decide(connection: AsyncConnection, subject: Intervention, routes: Routes) -> Decided:
    account = await store.read_account(connection, subject.account_id)
    lost = account is not None and account.is_lost
    return await notices.decide(connection, subject, routes=routes, account_lost=lost)


async def _tell(
    connection: AsyncConnection,
    subject: Intervention,
    entry: Entry,
    held: Claimed,
    *,
    reason: str,
    at: datetime,
) -> None:
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
