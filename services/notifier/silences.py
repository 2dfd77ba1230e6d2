"""The rows of silences; functions on a connection."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import bindparam, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import audit
from services.notifier.domain.access import Viewer
from services.notifier.domain.interventions import Status
from services.notifier.domain.silences import (
    Matchers,
    Refused,
    Silence,
    expired,
    why_not,
)
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import agenda, interventions, silences

_HISTORY = 200
_AHEAD = (
    select(silences)
    .where(silences.c.ends_at > bindparam("now", type_=silences.c.ends_at.type))
    .order_by(silences.c.ends_at)
)


async def add(
    connection: AsyncConnection, silence: Silence, *, by: Viewer, now: datetime
) -> Refused | None:
    """Store it; None: it is taken. What is told already stays told."""
    refused = why_not(silence, now=now)
    if refused is not None:
        return refused
    await connection.execute(
        silences.insert().values(
            id=silence.id,
            matchers=msgspec.to_builtins(silence.matchers),
            starts_at=silence.starts_at,
            ends_at=silence.ends_at,
            author=silence.author,
            comment=silence.comment.strip(),
            created_at=silence.created_at,
        )
    )
    await _audit(connection, "silence.created", silence, by=by, at=now)
    return None


async def expire(
    connection: AsyncConnection, silence_id: UUID, *, by: Viewer, now: datetime
) -> bool:
    """End it now, and look at what it kept quiet; False where there is none, or it is over."""
    row = (
        await connection.execute(
            select(silences).where(silences.c.id == silence_id).with_for_update()
        )
    ).one_or_none()
    ended = None if row is None else expired(_silence_of(row), now=now)
    if ended is None:
        return False
    await connection.execute(
        update(silences)
        .where(silences.c.id == silence_id)
        .values(starts_at=ended.starts_at, ends_at=ended.ends_at)
    )
    await _look_again(connection, ended.matchers, now=now)
    await _audit(connection, "silence.ended", ended, by=by, at=now)
    return True


async def ahead(connection: AsyncConnection, *, now: datetime) -> Sequence[Silence]:
    """Those that hold, or will."""
    rows = await connection.execute(_AHEAD, {"now": now})
    return [_silence_of(row) for row in rows]


async def history(connection: AsyncConnection) -> Sequence[Silence]:
    """The newest first, those that are over included."""
    row = silences.c
    rows = await connection.execute(
        select(silences).order_by(row.created_at.desc(), row.id).limit(_HISTORY)
    )
    return [_silence_of(row) for row in rows]


async def forget_account(connection: AsyncConnection, account_id: str) -> None:
    """What names an account that was erased is gone with it."""
    await connection.execute(
        delete(silences).where(silences.c.matchers["account"].astext == account_id)
    )


async def _audit(
    connection: AsyncConnection, action: str, silence: Silence, *, by: Viewer, at: datetime
) -> None:
    matchers = msgspec.structs.asdict(silence.matchers)
    named = {name: value for name, value in matchers.items() if value is not None}
    await audit.write(
        connection,
        by,
        action,
        str(silence.id),
        at=at,
        account_id=silence.matchers.account,
        until=silence.ends_at.isoformat(),
        **named,
    )


async def _look_again(connection: AsyncConnection, matchers: Matchers, *, now: datetime) -> None:
    """Let the clock look at accounts with open work: too many is harmless, too few is not."""
    row = agenda.c
    work = exists().where(
        interventions.c.account_id == row.account_id,
        interventions.c.status != Status.CLOSED.value,
    )
    wanted = select(row.account_id).where(work)
    if matchers.account is not None:
        wanted = wanted.where(row.account_id == matchers.account)
    # In the order in which everybody locks them.
    locked = wanted.order_by(row.account_id).with_for_update(of=agenda)
    statement = update(agenda).where(row.account_id.in_(locked)).values(look_at=now)
    await connection.execute(statement)


def _silence_of(row: AnyRow) -> Silence:
    return Silence(
        id=row.id,
        matchers=msgspec.convert(row.matchers, Matchers),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        author=row.author,
        comment=row.comment,
        created_at=row.created_at,
    )
