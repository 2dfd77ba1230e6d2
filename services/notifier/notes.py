"""The rows of notes: what people wrote down about an account, beside any intervention."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import audit
from services.notifier.domain.access import Viewer
from services.notifier.tables import account_notes

_SHOWN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    text: str
    author: str
    at: datetime


async def add(
    connection: AsyncConnection, viewer: Viewer, account_id: str, text: str, *, at: datetime
) -> None:
    """Write it down; the audit log says that, not what."""
    note_id = uuid4()
    await connection.execute(
        account_notes.insert().values(
            id=note_id, account_id=account_id, text=text, author=viewer.address, at=at
        )
    )
    await audit.write(connection, viewer, "note.added", str(note_id), at=at, account_id=account_id)


async def of_account(connection: AsyncConnection, account_id: str) -> Sequence[Note]:
    """The newest first."""
    row = account_notes.c
    rows = await connection.execute(
        select(row.text, row.author, row.at)
        .where(row.account_id == account_id)
        .order_by(row.at.desc(), row.id)
        .limit(_SHOWN)
    )
    return [Note(text=one.text, author=one.author, at=one.at) for one in rows]


async def forget_account(connection: AsyncConnection, account_id: str, *, until: datetime) -> None:
    row = account_notes.c
    await connection.execute(
        delete(account_notes).where(row.account_id == account_id, row.at <= until)
    )
