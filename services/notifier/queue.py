"""The delivery queue's statements. Leases, due times and pauses go by the database's clock.

Lock order everywhere: intervention, delivery, destination; claims skip what is locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.channels import Receipt
from services.notifier.domain.attempts import Class, Failure, Next
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.tables import deliveries, destinations

_WAITING = ("pending", "sending")
_MAX_DETAIL = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery in the hands of one sender until the lease ends."""

    id: UUID
    claim: UUID
    intervention_id: UUID
    account_id: str
    channel: str
    destination: str
    reason: NotifyReason
    attempt: int
    plain: bool
    failures: int
    """Of the destination, in a row."""
    lease_lost: bool
    """The sender before us claimed it and was not heard of again."""
    waited: timedelta
    """Since it was due."""


async def claim(
    connection: AsyncConnection, channels: Sequence[str], *, lease: timedelta
) -> Claimed | None:
    """Take the oldest delivery of one destination that may be sent to now."""
    to, row = destinations.c, deliveries.c
    destination = (
        await connection.execute(
            select(to.destination, to.failures)
            .where(
                to.channel.in_(channels),
                to.next_allowed_at <= func.now(),
                or_(to.lease_until.is_(None), to.lease_until <= func.now()),
                exists().where(row.destination == to.destination, _is_due()),
            )
            .order_by(to.next_allowed_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
    ).one_or_none()
    if destination is None:
        return None
    found = (
        await connection.execute(
            select(deliveries, (func.now() - row.due_at).label("waited"))
            .where(row.destination == destination.destination, _is_due())
            .order_by(row.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
    ).one_or_none()
    if found is None:
        return None
    mine = uuid4()
    lease_lost = found.state == "sending"
    await connection.execute(
        update(deliveries)
        .where(row.id == found.id)
        .values(
            state="sending",
            claim=mine,
            attempts=row.attempts + 1,
            ambiguous=row.ambiguous + (1 if lease_lost else 0),
        )
    )
    await connection.execute(
        update(destinations)
        .where(to.destination == destination.destination)
        .values(claim=mine, lease_until=func.now() + lease)
    )
    return Claimed(
        id=found.id,
        claim=mine,
        intervention_id=found.intervention_id,
        account_id=found.account_id,
        channel=found.channel,
        destination=found.destination,
        reason=NotifyReason(found.reason),
        attempt=found.attempts + 1,
        plain=found.plain,
        failures=destination.failures,
        lease_lost=lease_lost,
        waited=found.waited,
    )


async def release(connection: AsyncConnection, held: Claimed) -> None:
    """Give the delivery back untried, so that another sender need not wait for the lease."""
    await _end(connection, held, state="pending", attempts=deliveries.c.attempts - 1)
    await _free(connection, held, next_allowed_at=destinations.c.next_allowed_at)


async def record_sent(
    connection: AsyncConnection, held: Claimed, receipt: Receipt, *, pace: timedelta
) -> bool:
    """False where the lease was lost and another sender has the delivery now."""
    mine = await _end(
        connection,
        held,
        state="sent",
        last_class=Class.SENT.value,
        last_detail=None,
        provider_id=receipt.provider_id,
        ended_at=func.now(),
    )
    await _free(
        connection,
        held,
        next_allowed_at=func.now() + pace,
        failures=0,
        broken_since=None,
        last_failure=None,
    )
    return mine


async def record_suppressed(
    connection: AsyncConnection, held: Claimed, against: SuppressReason
) -> bool:
    mine = await _end(
        connection, held, state="cancelled", suppress_reason=against.value, ended_at=func.now()
    )
    await _free(connection, held, next_allowed_at=func.now())
    return mine


async def record_failed(
    connection: AsyncConnection,
    held: Claimed,
    failure: Failure,
    step: Next,
) -> bool:
    """Store how the attempt failed; its destination rests, or the whole channel pauses."""
    ambiguous = 1 if failure.kind is Class.AMBIGUOUS else 0
    mine = await _end(
        connection,
        held,
        state="dead" if step.dead else "pending",
        plain=step.plain,
        ambiguous=deliveries.c.ambiguous + ambiguous,
        last_class=failure.kind.value,
        last_detail=failure.detail[:_MAX_DETAIL],
        ended_at=func.now() if step.dead else None,
    )
    broken = failure.kind in (Class.DESTINATION_BROKEN, Class.INTEGRATION_BROKEN)
    # A refused message says nothing against its destination.
    counts = failure.kind is not Class.BAD_MESSAGE
    await _free(
        connection,
        held,
        next_allowed_at=func.now() + step.rest,
        failures=destinations.c.failures + 1 if counts else 0,
        broken_since=func.coalesce(destinations.c.broken_since, func.now()) if broken else None,
        last_failure=f"{failure.kind}: {failure.detail}"[:_MAX_DETAIL],
    )
    if failure.kind is Class.PAUSE:
        await connection.execute(
            update(destinations)
            .where(destinations.c.channel == held.channel)
            .values(
                next_allowed_at=func.greatest(
                    destinations.c.next_allowed_at, func.now() + step.rest
                )
            )
        )
    return mine


async def mend_broken(connection: AsyncConnection) -> None:
    """Try broken destinations at once: a restart is how an operator says that it is mended."""
    await connection.execute(
        update(destinations)
        .where(destinations.c.broken_since.is_not(None))
        .values(next_allowed_at=func.now(), broken_since=None, failures=0)
    )


def _is_due() -> ColumnElement[bool]:
    """Waiting for a sender; one that is being sent counts only once its lease is over."""
    return deliveries.c.state.in_(_WAITING) & (deliveries.c.due_at <= func.now())


async def _end(connection: AsyncConnection, held: Claimed, **values: object) -> bool:
    result = await connection.execute(
        update(deliveries)
        .where(deliveries.c.id == held.id, deliveries.c.claim == held.claim)
        .values(claim=None, **values)
    )
    return result.rowcount == 1


async def _free(connection: AsyncConnection, held: Claimed, **values: object) -> None:
    await connection.execute(
        update(destinations)
        .where(destinations.c.destination == held.destination, destinations.c.claim == held.claim)
        .values(claim=None, lease_until=None, **values)
    )
