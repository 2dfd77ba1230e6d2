"""The rows of tasks; functions on a connection, with the account's agenda locked."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.domain.interventions import Intervention
from services.notifier.domain.playbooks import Who
from services.notifier.domain.tasks import Task
from services.notifier.intervention_rows import AnyRow
from services.notifier.tables import tasks

_ADD = insert(tasks).on_conflict_do_nothing()
_OF_INTERVENTIONS = (
    select(tasks)
    .where(tasks.c.intervention_id == any_(bindparam("ids", type_=ARRAY(Uuid))))
    .order_by(tasks.c.intervention_id, tasks.c.episode, tasks.c.number)
)


async def add(connection: AsyncConnection, planned: Sequence[Task]) -> None:
    if planned:
        await connection.execute(
            _ADD,
            [
                {
                    "intervention_id": one.intervention_id,
                    "episode": one.episode,
                    "number": one.number,
                    "title": one.title,
                    "who": one.who.value,
                    "owner": one.owner,
                    "due_at": one.due_at,
                    "done_at": one.done_at,
                    "done_by": one.done_by,
                }
                for one in planned
            ],
        )


async def of_interventions(connection: AsyncConnection, ids: Sequence[UUID]) -> Sequence[Task]:
    """All episodes' tasks of these, in the order of their playbooks."""
    rows = await connection.execute(_OF_INTERVENTIONS, {"ids": list(ids)})
    return [_task_of(one) for one in rows]


async def of_episode(connection: AsyncConnection, subject: Intervention) -> Sequence[Task]:
    """The tasks of its episode, in the order of the playbook."""
    found = await of_interventions(connection, [subject.id])
    return [one for one in found if one.episode == subject.episode]


async def mark(
    connection: AsyncConnection, one: Task, *, done_at: datetime | None, by: str | None
) -> None:
    row = tasks.c
    await connection.execute(
        update(tasks)
        .where(
            row.intervention_id == one.intervention_id,
            row.episode == one.episode,
            row.number == one.number,
        )
        .values(done_at=done_at, done_by=by)
    )


async def hand_over(connection: AsyncConnection, moved: Sequence[Task]) -> None:
    """Store whose these are now, and until when."""
    row = tasks.c
    for one in moved:
        await connection.execute(
            update(tasks)
            .where(
                row.intervention_id == one.intervention_id,
                row.episode == one.episode,
                row.number == one.number,
                row.done_at.is_(None),
            )
            .values(owner=one.owner, due_at=one.due_at)
        )


def _task_of(row: AnyRow) -> Task:
    return Task(
        intervention_id=row.intervention_id,
        episode=row.episode,
        number=row.number,
        title=row.title,
        who=Who(row.who),
        owner=row.owner,
        due_at=row.due_at,
        done_at=row.done_at,
        done_by=row.done_by,
    )
