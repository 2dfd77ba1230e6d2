"""A message that only shows that a destination takes messages; somebody waits for its end.

Order of effects: 1 what is broken is opened for it, and it is queued, in one transaction; 2 a
sender tries it once; 3 how that ended is read from its row.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import queue, rests
from services.notifier.channels import Message
from services.notifier.composing import Claimed, DeliveryKind, Planned, StandAlone, address_of
from services.notifier.domain.attempts import State
from services.notifier.domain.policy import NotifyReason, SuppressReason
from services.notifier.tables import channels, deliveries, destinations

TEXT = "A test message of Perennial: this destination takes messages. Nothing is to be done."
# Before all else that waits there.
_FIRST = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a trial ended, or why it has not yet."""

    state: State
    kind: str | None
    detail: str | None
    resting_until: datetime | None
    """The other side asked not to be asked before."""


def composer(console_url: str) -> StandAlone:
    """Of `DeliveryKind.TEST`."""

    async def compose(_connection: AsyncConnection, held: Claimed, now: datetime) -> Message:
        return Message(
            delivery_id=held.id,
            created_at=now,
            to=address_of(held.destination),
            why=NotifyReason.TEST,
            items=(),
            url=console_url,
            root=held.id,
            text=TEXT,
        )

    return StandAlone(what=compose)


async def begin(
    connection: AsyncConnection, destination: str, *, nonce: UUID, now: datetime
) -> UUID:
    """Queue a trial; the delivery's id. `nonce` makes it another than those before."""
    await rests.reopen(connection, destination)
    key = f"test:{destination}:{nonce}"
    await queue.put(
        connection,
        Planned(
            kind=DeliveryKind.TEST,
            dedupe_key=key,
            group_key=key,
            channel=destination.partition(":")[0],
            destination=destination,
            recipient="",
            reason=NotifyReason.TEST,
            due_at=now,
            urgent=True,
            priority=_FIRST,
        ),
    )
    return queue.delivery_id(key)


async def ending(connection: AsyncConnection, trial: UUID) -> Ending:
    """How it stands; raises LookupError where there is no such delivery."""
    row, to, way = deliveries.c, destinations.c, channels.c
    found = (
        await connection.execute(
            select(
                row.state,
                row.last_class,
                row.last_detail,
                func.greatest(to.next_allowed_at, way.paused_until).label("rests_until"),
                func.now().label("now"),
            )
            .outerjoin(destinations, to.destination == row.destination)
            .outerjoin(channels, way.channel == row.channel)
            .where(row.id == trial)
        )
    ).one_or_none()
    if found is None:
        raise LookupError("no such delivery")
    # Every place has such a moment; in the past it is no reason.
    is_resting = found.rests_until is not None and found.rests_until > found.now
    return Ending(
        state=State(found.state),
        kind=found.last_class,
        detail=found.last_detail,
        resting_until=found.rests_until if is_resting else None,
    )


async def withdraw(connection: AsyncConnection, trial: UUID) -> None:
    """Nobody waits for it any more: what has not begun does not."""
    row = deliveries.c
    await connection.execute(
        update(deliveries)
        .where(row.id == trial, row.state == State.PENDING.value)
        .values(
            state=State.CANCELLED.value,
            suppress_reason=SuppressReason.NO_LONGER_WANTED.value,
            ended_at=func.now(),
        )
    )
