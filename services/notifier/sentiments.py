"""The rows of sentiments; functions on a connection."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.sentiments import Mood, Sentiment
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import sentiments

_HISTORY = 20


async def add(connection: AsyncConnection, said: Sentiment) -> None:
    await connection.execute(
        insert(sentiments).values(
            id=said.id,
            account_id=said.account_id,
            mood=said.mood.value,
            note=said.note,
            by=said.by,
            at=said.at,
            expires_at=said.expires_at,
        )
    )


async def read(connection: AsyncConnection, sentiment_id: UUID) -> Sentiment | None:
    row = (
        await connection.execute(select(sentiments).where(sentiments.c.id == sentiment_id))
    ).one_or_none()
    return None if row is None else _sentiment_of(row)


async def holding(
    connection: AsyncConnection, account_id: str, *, now: datetime
) -> Sentiment | None:
    """The newest, where it has not expired: an older one does not come back."""
    newest = next(iter(await history(connection, account_id, limit=1)), None)
    return newest if newest and now < newest.expires_at else None


async def history(
    connection: AsyncConnection, account_id: str, *, limit: int = _HISTORY
) -> Sequence[Sentiment]:
    """The newest first."""
    rows = await connection.execute(
        select(sentiments)
        .where(sentiments.c.account_id == account_id)
        .order_by(sentiments.c.at.desc(), sentiments.c.id)
        .limit(limit)
    )
    return [_sentiment_of(row) for row in rows]


def _sentiment_of(row: AnyRow) -> Sentiment:
    return Sentiment(
        id=row.id,
        account_id=row.account_id,
        mood=Mood(row.mood),
        note=row.note,
        by=row.by,
        at=row.at,
        expires_at=row.expires_at,
    )
