"""Tells somebody who can mend it that a destination, or a whole channel, takes no messages."""

from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.channels import Message, wording
from services.notifier.composing import Claimed, StandAlone, address_of
from services.notifier.domain.policy import SuppressReason
from services.notifier.tables import channels, destinations


def composer(console_url: str) -> StandAlone:
    """Of `DeliveryKind.OUTAGE`; its subject has `broken`, `class` and `detail`."""

    async def compose(
        connection: AsyncConnection, held: Claimed, now: datetime
    ) -> Message | SuppressReason:
        broken = str(held.subject["broken"])
        if not await _is_broken(connection, broken):
            return SuppressReason.NO_LONGER_WANTED
        name = wording.clean(broken)
        said = wording.clean(f"{held.subject['class']}: {held.subject['detail']}")
        return Message(
            delivery_id=held.id,
            created_at=now,
            to=address_of(held.destination),
            why=held.reason,
            items=(),
            url=f"{console_url}/deliveries",
            root=held.id,
            text=f"{name} takes no messages any more ({said}). What is meant for it goes to the"
            f" fallback. When it is mended, send a test: perennial notify test {name}",
        )

    return StandAlone(what=compose)


async def _is_broken(connection: AsyncConnection, name: str) -> bool:
    to, way = destinations.c, channels.c
    found = select(
        or_(
            select(to.destination)
            .where(to.destination == name, to.broken_since.is_not(None))
            .exists(),
            select(way.channel).where(way.channel == name, way.broken_since.is_not(None)).exists(),
        )
    )
    return bool(await connection.scalar(found))
