"""What people have done, for ever: who, in which role, from where, what, on what.

Written in the transaction of what it tells of; nothing changes or deletes a row but the erasure of
its account, which leaves the row without its subject. No free text: what people wrote stands in the
timeline, and goes with it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.interventions import Intervention
from services.notifier.intervention_rows import AnyRow
from services.notifier.store import Entry
from services.notifier.tables import audit

COMMAND: Final = Viewer(address="command line", role=Role.ADMIN, way="command")
"""Who runs `perennial` can read and write everything anyway."""
NOBODY: Final = ""
"""The role of who was not let in."""
_WRITTEN: Final = frozenset({"note", "reason"})


async def write(
    connection: AsyncConnection,
    viewer: Viewer,
    action: str,
    subject: str,
    *,
    at: datetime,
    account_id: str | None = None,
    **detail: str,
) -> None:
    """`action`: what was done, as `silence.created`; `subject`: what it was done to, by its id."""
    await _insert(
        connection,
        at=at,
        actor=viewer.address,
        role=viewer.role.value,
        way=viewer.way,
        action=action,
        subject=subject,
        account_id=account_id,
        detail=detail,
    )


async def write_step(
    connection: AsyncConnection,
    viewer: Viewer,
    entry: Entry,
    subject: Intervention,
    detail: Mapping[str, str],
    *,
    at: datetime,
) -> None:
    """A step on an intervention, as the timeline tells it but for what was written freely."""
    told = {name: text for name, text in detail.items() if name not in _WRITTEN}
    await _insert(
        connection,
        at=at,
        actor=viewer.address,
        role=viewer.role.value,
        way=viewer.way,
        action=f"intervention.{entry.value}",
        subject=str(subject.id),
        account_id=subject.account_id,
        detail=told,
    )


async def write_refused(
    connection: AsyncConnection, address: str, *, way: str, at: datetime, **detail: str
) -> None:
    """A sign-in that was refused; `address`: of a user, or nothing."""
    await _insert(
        connection,
        at=at,
        actor=address,
        role=NOBODY,
        way=way,
        action="sign_in.refused",
        subject=address,
        account_id=None,
        detail=detail,
    )


async def read(
    connection: AsyncConnection,
    *,
    before: int | None = None,
    account: str | None = None,
    actor: str | None = None,
    limit: int = 100,
) -> Sequence[AnyRow]:
    """The newest first, below the id `before`."""
    row = audit.c
    statement = select(audit).order_by(row.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(row.id < before)
    if account is not None:
        statement = statement.where(row.account_id == account)
    if actor is not None:
        statement = statement.where(row.actor == actor)
    return (await connection.execute(statement)).all()


async def forget_account(connection: AsyncConnection, account_id: str, *, until: datetime) -> None:
    """What was done stays, by whom and when; to whom and to what, and how, is gone."""
    row = audit.c
    await connection.execute(
        update(audit)
        .where(row.account_id == account_id, row.at <= until)
        .values(account_id=None, subject="", detail={})
    )


async def _insert(connection: AsyncConnection, **values: object) -> None:
    await connection.execute(audit.insert().values(**values))
