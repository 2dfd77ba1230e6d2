"""Writes down what became of an attempt, and what follows; one transaction each.

What the delivery is about is locked first, as whoever decides does: what changed while the message
was under way is seen here, and decided anew. Its destination is freed last, so that nobody who
sends waits for a decision.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import queue, rests
from services.notifier.channels import Message, Receipt
from services.notifier.composing import Claimed, Composer, Decided, DeliveryKind, Place, Planned
from services.notifier.domain.attempts import Failure, Next, State
from services.notifier.domain.policy import NotifyReason, SuppressReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    mine: bool
    """False where the lease was lost: the sender that has it now writes the record."""
    decided: Decided = field(default_factory=Decided)


async def sent(
    connection: AsyncConnection,
    composer: Composer,
    *,
    held: Claimed,
    message: Message,
    receipt: Receipt,
    pace: timedelta,
    now: datetime,
) -> Recorded:
    """The destination has taken `message`; what has changed since is decided now."""
    await composer.lock(connection, held)
    recorded = Recorded(mine=await queue.record_sent(connection, held, receipt))
    if recorded.mine:
        decided = await composer.accepted(connection, held, message, receipt, now=now)
        recorded = Recorded(mine=True, decided=decided)
    await rests.after_sent(connection, held, pace=pace)
    return recorded


async def suppressed(
    connection: AsyncConnection,
    composer: Composer,
    *,
    held: Claimed,
    against: SuppressReason,
    now: datetime,
) -> Recorded:
    """It was not wanted any more when it was its turn."""
    await composer.lock(connection, held)
    recorded = Recorded(mine=await queue.record_suppressed(connection, held, against))
    if recorded.mine:
        decided = await composer.ended(connection, held, against, now=now)
        recorded = Recorded(mine=True, decided=decided)
    await rests.after_nothing(connection, held)
    return recorded


async def failed(
    connection: AsyncConnection,
    composer: Composer,
    *,
    held: Claimed,
    failure: Failure,
    step: Next,
    fallback: Place | None,
    admin: Place | None,
    now: datetime,
) -> Recorded:
    """The attempt failed; what is given up goes on to the fallback, what is broken to the admin."""
    await composer.lock(connection, held)
    recorded = await _fail(connection, composer, held, failure, step, fallback, now=now)
    broken = await rests.after_failed(connection, held, failure, step)
    if not recorded.mine or broken is None or admin is None:
        return recorded
    # Its lock is held already: no other sender tells of the same outage.
    told = await _put(connection, _outage(held, broken, failure, admin, now=now))
    return Recorded(mine=True, decided=recorded.decided.plus(told))


async def given_up(
    connection: AsyncConnection,
    composer: Composer,
    *,
    held: Claimed,
    failure: Failure,
    step: Next,
    fallback: Place | None,
    is_claimed: bool,
    now: datetime,
) -> Recorded:
    """It was not tried: its destination is known to be broken, or has failed for too long."""
    await composer.lock(connection, held)
    if not is_claimed and not await queue.take_over(connection, held):
        return Recorded(mine=False)
    recorded = await _fail(connection, composer, held, failure, step, fallback, now=now)
    await rests.after_nothing(connection, held)
    return recorded


async def _fail(
    connection: AsyncConnection,
    composer: Composer,
    held: Claimed,
    failure: Failure,
    step: Next,
    fallback: Place | None,
    *,
    now: datetime,
) -> Recorded:
    if not await queue.record_failed(connection, held, failure, step):
        return Recorded(mine=False)
    if step.state is State.PENDING:
        return Recorded(mine=True)
    decided = await composer.ended(connection, held, failure, now=now)
    if step.dead and fallback is not None:
        decided = decided.plus(await _put(connection, _instead(held, fallback, now=now)))
    return Recorded(mine=True, decided=decided)


async def _put(connection: AsyncConnection, planned: Planned) -> Decided:
    if not await queue.put(connection, planned):
        return Decided()
    return Decided(queued=((planned.channel, planned.reason),))


def _instead(held: Claimed, place: Place, *, now: datetime) -> Planned:
    return Planned(
        kind=held.kind,
        dedupe_key=f"fallback:{held.id}:{place.destination}",
        group_key=held.group_key,
        channel=place.channel,
        destination=place.destination,
        recipient=place.recipient,
        reason=NotifyReason.UNDELIVERED,
        due_at=now,
        urgent=held.urgent,
        priority=held.priority,
        account_id=held.account_id,
        intervention_id=held.intervention_id,
        subject=held.subject,
        tried=(*held.tried, held.destination),
        traceparent=held.traceparent,
        received_at=held.received_at,
    )


def _outage(
    held: Claimed, broken: str, failure: Failure, place: Place, *, now: datetime
) -> Planned:
    return Planned(
        kind=DeliveryKind.OUTAGE,
        dedupe_key=f"outage:{broken}:{held.id}:{held.attempt}",
        group_key=f"outage:{broken}",
        channel=place.channel,
        destination=place.destination,
        recipient=place.recipient,
        reason=NotifyReason.UNDELIVERED,
        due_at=now,
        traceparent=held.traceparent,
        subject={"broken": broken, "class": failure.kind.value, "detail": failure.detail},
    )
