"""The rows of saved views: a list of the console as somebody likes to see it, by a name.

Own ones, and those that somebody shares with everybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import audit
from services.notifier.domain.access import Right, Viewer
from services.notifier.tables import saved_views

MOST: Final = 50
"""Of one person and page."""

_row = saved_views.c


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    id: UUID
    owner: str
    name: str
    query: str
    shared: bool


async def of_page(connection: AsyncConnection, page: str, owner: str) -> Sequence[SavedView]:
    """The own ones first, then what others share."""
    rows = await connection.execute(
        select(saved_views)
        .where(_row.page == page, or_(_row.owner == owner, _row.shared))
        .order_by(_row.owner != owner, _row.name, _row.owner)
        .limit(2 * MOST)
    )
    return [
        SavedView(id=row.id, owner=row.owner, name=row.name, query=row.query, shared=row.shared)
        for row in rows
    ]


async def save(
    connection: AsyncConnection,
    viewer: Viewer,
    *,
    page: str,
    name: str,
    query: str,
    shared: bool,
    at: datetime,
) -> bool:
    """Keep it, in place of an own one of that name; False where there are too many already."""
    mine = (_row.owner == viewer.address, _row.page == page)
    others = await connection.scalar(select(func.count()).where(*mine, _row.name != name))
    if (others or 0) >= MOST:
        return False
    new = insert(saved_views).values(
        id=uuid4(),
        owner=viewer.address,
        name=name,
        page=page,
        query=query,
        shared=shared,
        created_at=at,
    )
    kept = await connection.scalar(
        new.on_conflict_do_update(
            index_elements=["owner", "page", "name"],
            set_={"query": new.excluded.query, "shared": new.excluded.shared},
        ).returning(_row.id)
    )
    # Not its name, nor what it searches for: both may name an account.
    detail = {"shared": str(shared).lower()}
    await audit.write(connection, viewer, "view.saved", str(kept), at=at, **detail)
    return True


async def remove(
    connection: AsyncConnection, viewer: Viewer, view_id: UUID, *, at: datetime
) -> bool:
    """An own one; who leads may also remove what others share. False where there is none such."""
    allowed = _row.owner == viewer.address
    if viewer.may(Right.LEAD):
        allowed = or_(allowed, _row.shared)
    gone = await connection.execute(delete(saved_views).where(_row.id == view_id, allowed))
    if gone.rowcount == 0:
        return False
    await audit.write(connection, viewer, "view.removed", str(view_id), at=at)
    return True


async def forget_account(
    connection: AsyncConnection, account_id: str, name: str | None, *, until: datetime
) -> None:
    """Views that are about this account alone: by their own name, or by what they search for."""
    known = {one.strip().casefold() for one in (account_id, name or "") if one.strip()}
    rows = await connection.execute(
        select(_row.id, _row.name, _row.query).where(_row.created_at <= until)
    )
    ids = [
        row.id
        for row in rows
        if not known.isdisjoint(
            one.strip().casefold() for one in (row.name, dict(parse_qsl(row.query)).get("q", ""))
        )
    ]
    if ids:
        await connection.execute(delete(saved_views).where(_row.id.in_(ids)))
