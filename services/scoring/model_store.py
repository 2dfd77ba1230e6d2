"""The models that were fitted and what became of each: plain functions on a connection.

A model is a `candidate` until somebody decides; in `shadow` it is compared with the one in service;
one is `active`; it is `retired` when another follows; `refused` is what failed the gate or was
rolled back. Every change says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, case, func, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.model import Kind, Model, ModelRejected, dump, load
from services.scoring.tables import models, scores
from shared.errors import PerennialError

KEPT: Final = 5
"""Models of each kind that are kept besides those in use."""


class State(StrEnum):
    CANDIDATE = "candidate"
    SHADOW = "shadow"
    ACTIVE = "active"
    RETIRED = "retired"
    REFUSED = "refused"


class NoSuchModel(PerennialError):
    """No model of this version is stored."""


class NothingToRollBackTo(PerennialError):
    """No other model was in service before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A row of `models`; `metrics` is the report of its training, empty for prior weights."""

    version: str
    kind: Kind
    horizon_days: int
    state: State
    state_since: datetime
    reason: str
    created_at: datetime
    activated_at: datetime | None
    accounts: int
    metrics: Mapping[str, object]
    document: bytes


def loaded(stored: StoredModel | None) -> Model | None:
    """The model, or None where this version of the program refuses it."""
    if stored is None:
        return None
    try:
        return load(stored.document)
    except ModelRejected:
        return None


async def read_active(connection: AsyncConnection) -> StoredModel | None:
    found = await _read(connection, models.c.state == State.ACTIVE)
    return found[0] if found else None


async def read_one(connection: AsyncConnection, version: str) -> StoredModel:
    found = await _read(connection, models.c.version == version)
    if not found:
        raise NoSuchModel(f"no model {version}: see `perennial models list`")
    return found[0]


async def read_all(connection: AsyncConnection) -> list[StoredModel]:
    """The newest first."""
    return await _read(connection, true())


async def read_shadow(connection: AsyncConnection) -> StoredModel | None:
    """The newest model that is being compared."""
    found = await _read(connection, models.c.state == State.SHADOW)
    return found[0] if found else None


async def read_retired(connection: AsyncConnection) -> list[StoredModel]:
    """Models that were in service, the last one first."""
    found = await _read(connection, models.c.state == State.RETIRED)
    return sorted(found, key=lambda one: one.activated_at or one.created_at, reverse=True)


async def read_last_own(connection: AsyncConnection) -> StoredModel | None:
    """The newest model of the vendor's own losses, whatever became of it."""
    found = await _read(connection, models.c.kind == "own")
    return found[0] if found else None


async def add(
    connection: AsyncConnection,
    model: Model,
    *,
    state: State,
    reason: str,
    accounts: int,
    now: datetime,
    metrics: Mapping[str, object] | None = None,
) -> None:
    """Store a model; to put it in service, `activate` it then."""
    await hold(connection)
    await connection.execute(
        models.insert().values(
            version=model.version,
            document=dump(model),
            accounts=accounts,
            created_at=now,
            kind=model.kind,
            horizon_days=model.horizon_days,
            state=state,
            state_since=now,
            reason=reason,
            activated_at=None,
            metrics=dict(metrics or {}),
        )
    )


async def set_state(
    connection: AsyncConnection, version: str, state: State, *, reason: str, now: datetime
) -> None:
    await connection.execute(
        update(models)
        .where(models.c.version == version)
        .values(
            state=state,
            reason=reason,
            state_since=case((models.c.state == state, models.c.state_since), else_=now),
        )
    )


async def activate(
    connection: AsyncConnection, version: str, *, reason: str, now: datetime
) -> None:
    """Put the model in service and keep the last few; the next round scores all accounts by it."""
    await hold(connection)
    await connection.execute(
        update(models)
        .where(models.c.state == State.ACTIVE, models.c.version != version)
        .values(state=State.RETIRED, state_since=now, reason=f"followed by {version}")
    )
    await connection.execute(
        update(models)
        .where(models.c.version == version)
        .values(state=State.ACTIVE, state_since=now, activated_at=now, reason=reason)
    )
    await _forget_old(connection)


async def roll_back(connection: AsyncConnection, *, now: datetime) -> tuple[str, str]:
    """Put the model that served before in service again; returns what was and what is.

    The one that is rolled back is refused: the next roll-back goes further back, not to and fro.
    """
    await hold(connection)
    active = await read_active(connection)
    # The survey makes another prior every day: to go back is to leave an own model.
    before = [
        one
        for one in await read_retired(connection)
        if active is None or one.kind == "own" or active.kind == "own"
    ]
    if not before:
        raise NothingToRollBackTo("no other model was in service: nothing to roll back to")
    if active is not None:
        await set_state(connection, active.version, State.REFUSED, reason="rolled back", now=now)
    to = before[0].version
    was = active.version if active else ""
    await activate(connection, to, reason=f"rolled back from {was}" if was else "", now=now)
    return was, to


async def hold(connection: AsyncConnection) -> None:
    """Until the transaction ends nobody else changes what is in service."""
    await connection.execute(text("LOCK TABLE scoring.models IN SHARE ROW EXCLUSIVE MODE"))


async def _forget_old(connection: AsyncConnection) -> None:
    """Delete what is neither in use, nor among the last of its kind, nor what a score names."""
    ranked = select(
        models.c.version,
        func.row_number()
        .over(partition_by=models.c.kind, order_by=models.c.created_at.desc())
        .label("place"),
    ).subquery()
    old = select(ranked.c.version).where(ranked.c.place > KEPT)
    named = select(scores.c.model_version).where(scores.c.model_version == models.c.version)
    await connection.execute(
        models.delete().where(
            models.c.version.in_(old),
            models.c.state.not_in([State.ACTIVE, State.SHADOW, State.CANDIDATE]),
            ~named.exists(),
        )
    )


async def _read(connection: AsyncConnection, where: ColumnElement[bool]) -> list[StoredModel]:
    rows = await connection.execute(
        select(models).where(where).order_by(models.c.created_at.desc(), models.c.version)
    )
    return [
        StoredModel(
            version=row.version,
            kind=row.kind,
            horizon_days=row.horizon_days,
            state=State(row.state),
            state_since=row.state_since,
            reason=row.reason,
            created_at=row.created_at,
            activated_at=row.activated_at,
            accounts=row.accounts,
            metrics=row.metrics,
            document=row.document,
        )
        for row in rows
    ]
