"""Interventions as messages show them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import tasks
from services.notifier.channels import Item
from services.notifier.domain.calendar import zone_of
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Roster, is_same
from services.notifier.domain.tasks import Task
from services.notifier.store import Account

MOST = 10
"""Items of one message: who has more than these reads them in the console."""


async def next_tasks(
    connection: AsyncConnection, subjects: Iterable[Intervention]
) -> Mapping[UUID, str]:
    """Of each the title of the first task that is to be done."""
    wanted = {subject.id: subject.episode for subject in subjects if subject.is_open}
    if not wanted:
        return {}
    found: dict[UUID, Task] = {}
    for task in await tasks.of_interventions(connection, list(wanted)):
        if not task.is_done and task.episode == wanted[task.intervention_id]:
            found.setdefault(task.intervention_id, task)
    return {one: task.title for one, task in found.items()}


def item_of(
    subject: Intervention,
    account: Account,
    roster: Roster,
    *,
    console_url: str,
    next_task: str | None,
    is_news: bool,
    now: datetime,
) -> Item:
    snooze = subject.snooze
    return Item(
        intervention_id=subject.id,
        version=subject.version,
        account_id=account.account_id,
        account_name=account.name,
        type=subject.type,
        reason=subject.reason,
        severity=subject.severity,
        status=subject.status,
        summary=subject.summary,
        owner=subject.owner,
        due_at=subject.due_at,
        zone=zone_of(_zone(subject, account, roster)),
        # The id of ours, not the account's: short, and inert in every format.
        url=f"{console_url}/interventions/{subject.id}",
        risk=subject.risk,
        value_at_risk=subject.value_at_risk,
        renewal_date=subject.renewal_date,
        reasons=subject.reasons,
        is_news=is_news,
        acknowledged_by=subject.acknowledged_by,
        snoozed_until=snooze.until if snooze and subject.is_snoozed(now) else None,
        recovered=not subject.is_raised or subject.recovered_at is not None,
        outcome=subject.outcome,
        next_task=next_task,
    )


def news_first(found: Sequence[Item], most: int = MOST) -> tuple[tuple[Item, ...], int]:
    """As many as a message holds, and how many are left out; the order of each kind stays."""
    ordered = sorted(found, key=lambda item: not item.is_news)
    return tuple(ordered[:most]), max(0, len(ordered) - most)


def _zone(subject: Intervention, account: Account, roster: Roster) -> str | None:
    """The owner's, else the account's."""
    known = (one for one in roster.people if is_same(one.address, subject.owner))
    person = next(known, None)
    return person.zone if person else account.fields.timezone
