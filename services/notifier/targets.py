"""Targets as they are stored: one row of the department and one of each person, per measure.

The department's row carries the version: whoever changes a measure has seen it as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import audit
from services.notifier.domain.access import Viewer
from services.notifier.domain.targets import WHOLE, Measure, Plan, Why
from services.notifier.tables import targets

_MOST_VERSIONS: Final = 2**31 - 1
"""As many as the column can count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    plan: Plan
    version: int
    changed_by: str
    changed_at: datetime


async def read(connection: AsyncConnection, year: int) -> Mapping[Measure, Stored]:
    rows = (await connection.execute(select(targets).where(targets.c.year == year))).all()
    found = {}
    for whole in rows:
        if whole.owner != WHOLE:
            continue
        measure = Measure(whole.measure)
        parts = {
            one.owner: one.plan for one in rows if one.measure == measure and one.owner != WHOLE
        }
        found[measure] = Stored(
            plan=Plan(measure=measure, whole=whole.plan, parts=parts),
            version=whole.version,
            changed_by=whole.changed_by,
            changed_at=whole.changed_at,
        )
    return found


async def save(
    connection: AsyncConnection,
    year: int,
    plan: Plan,
    *,
    version: int,
    viewer: Viewer,
    now: datetime,
) -> Why | None:
    """Put the plan in place of the one of that version (0: of none); STALE where it is another."""
    if not 0 <= version < _MOST_VERSIONS:
        return Why.STALE
    row = targets.c
    key = {"year": year, "measure": plan.measure.value}
    said = {"changed_by": viewer.address, "changed_at": now, "version": version + 1}
    before: Decimal | None = None
    if version == 0:
        begun = await connection.execute(
            insert(targets)
            .values(**key, owner=WHOLE, plan=plan.whole, **said)
            .on_conflict_do_nothing()
        )
        if begun.rowcount == 0:
            return Why.STALE
    else:
        of_whole = (row.year == year) & (row.measure == plan.measure.value) & (row.owner == WHOLE)
        before = await connection.scalar(select(row.plan).where(of_whole).with_for_update())
        changed = await connection.execute(
            update(targets).where(of_whole, row.version == version).values(plan=plan.whole, **said)
        )
        if changed.rowcount == 0:
            return Why.STALE
    await connection.execute(
        delete(targets).where(
            row.year == year, row.measure == plan.measure.value, row.owner != WHOLE
        )
    )
    if plan.parts:
        await connection.execute(
            insert(targets),
            [{**key, "owner": who, "plan": part, **said} for who, part in plan.parts.items()],
        )
    detail = {"plan": str(plan.whole), "people": str(len(plan.parts))}
    if before is not None:
        detail["before"] = str(before)
    await audit.write(
        connection, viewer, "target.changed", f"{year}/{plan.measure}", at=now, **detail
    )
    return None
