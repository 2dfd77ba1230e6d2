"""Which steps of people were taken: the same request, coming again, is not taken twice.

Only what was taken is kept: a refused step has written nothing, and is refused again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.tables import requests

_KEPT = timedelta(days=7)
_SWEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`subject`: the intervention, or the sentiment."""

    step: str
    account_id: str
    subject: UUID


async def taken(connection: AsyncConnection, key: str | None) -> Request | None:
    """What was done by that key; asked while the account's agenda is locked."""
    if key is None:
        return None
    row = (await connection.execute(select(requests).where(requests.c.key == key))).one_or_none()
    if row is None:
        return None
    return Request(step=row.step, account_id=row.account_id, subject=row.subject)


async def keep(
    connection: AsyncConnection, key: str | None, done: Request, *, at: datetime
) -> None:
    """Write it down, and forget a few that are so old that nobody repeats them."""
    if key is None:
        return
    await connection.execute(
        insert(requests).values(
            key=key, step=done.step, account_id=done.account_id, subject=done.subject, at=at
        )
    )
    old = (
        select(requests.c.key)
        .where(requests.c.at < at - _KEPT)
        .order_by(requests.c.at)
        .limit(_SWEPT)
        .with_for_update(skip_locked=True)
    )
    await connection.execute(delete(requests).where(requests.c.key.in_(old)))
