"""A restored database: nothing is sent until an operator has said what becomes of what waits.

What waited when the backup was made may have been sent since. What the log is now read again for
was told by then, and would be told once more. `deploy/postgresql/hold.sql` holds both; then the
one who knows what people have got releases them, for good: they are sent, or count as told.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.channels import Message, Receipt
from services.notifier.domain.attempts import State
from services.notifier.domain.policy import SuppressReason
from services.notifier.tables import deliveries, restores

_NOT_SENT: Final = "restored: not sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for a release."""

    since: datetime
    restored: int
    """Deliveries that waited when the backup was made."""
    decided: int
    """Deliveries that were decided since the restore."""


@dataclass(frozen=True, slots=True)
class Silent:
    """A channel that sends nothing, and says that it was told."""

    name: str
    pace: timedelta = timedelta(0)
    edits: bool = True

    async def send(self, message: Message) -> Receipt:
        return Receipt(provider_id=_NOT_SENT, thread=message.thread)


async def waiting(connection: AsyncConnection) -> Waiting | None:
    """None: nothing is held."""
    since = await connection.scalar(
        select(func.min(restores.c.restored_at)).where(restores.c.released_at.is_(None))
    )
    if since is None:
        return None
    rows = await connection.execute(
        select(deliveries.c.state, func.count())
        .where(deliveries.c.state.in_(("restored", "pending", "sending")))
        .group_by(deliveries.c.state)
    )
    found = {str(row[0]): int(row[1]) for row in rows}
    held = found.pop(State.RESTORED.value, 0)
    return Waiting(since=since, restored=held, decided=sum(found.values()))


async def requeue(connection: AsyncConnection) -> int:
    """What waited at the backup waits again, as if due now: each is decided anew when it is sent.

    Nobody knows whether it was sent, which its channel is told of.
    """
    row, other = deliveries.c, deliveries.alias("other")
    waits = other.c.state.in_((State.PENDING.value, State.SENDING.value))
    # Of a backup that was made while another restore was held.
    is_later = (other.c.state == State.RESTORED.value) & (other.c.number > row.number)
    newer = select(other.c.id).where(
        other.c.group_key == row.group_key,
        other.c.destination == row.destination,
        waits | is_later,
    )
    is_restored = row.state == State.RESTORED.value
    await connection.execute(
        update(deliveries)
        .where(is_restored, newer.exists())
        .values(
            state=State.CANCELLED.value,
            suppress_reason=SuppressReason.RESTORED.value,
            ended_at=func.now(),
        )
    )
    result = await connection.execute(
        update(deliveries)
        .where(is_restored)
        .values(state=State.PENDING.value, ambiguous=row.ambiguous + 1)
    )
    # Its time waiting for us counts against nobody.
    await connection.execute(
        update(deliveries)
        .where(row.state == State.PENDING.value, row.due_at < func.now())
        .values(due_at=func.now())
    )
    return result.rowcount


async def mark_untold(connection: AsyncConnection) -> int:
    """What `Silent` took was not sent: the deliveries say so, the notices hold it for told."""
    result = await connection.execute(
        update(deliveries)
        .where(deliveries.c.provider_id == _NOT_SENT)
        .values(
            state=State.CANCELLED.value,
            suppress_reason=SuppressReason.RESTORED.value,
            provider_id=None,
        )
    )
    return result.rowcount


async def release(connection: AsyncConnection, *, now: datetime) -> None:
    """Senders go on; there is no way back."""
    await connection.execute(
        update(restores).where(restores.c.released_at.is_(None)).values(released_at=now)
    )
