"""How an intervention begins: by which playbook, whose it is, until when, with which tasks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from services.notifier.domain.assignment import assign, whom
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.holdout import NOBODY, HoldOut
from services.notifier.domain.interventions import Assignment, Intervention
from services.notifier.domain.people import Roster
from services.notifier.domain.playbooks import (
    DEFAULT,
    Playbooks,
    Who,
    due_at,
    task_due_at,
    work_of,
)
from services.notifier.domain.signals import Signal
from services.notifier.domain.tasks import Task
from shared.messages import AccountFields


def opening(
    signal: Signal,
    current: Intervention | None,
    *,
    fields: AccountFields,
    roster: Roster,
    playbooks: Playbooks,
    open_counts: Mapping[str, int],
    hold_out: HoldOut = NOBODY,
    now: datetime,
) -> Assignment:
    """What an intervention that opens now is given; of `current`, if that is open, what it keeps.

    `open_counts`: open interventions by owner in lower case; who is missing has none.
    """
    value = signal.value_at_risk
    if current is not None and current.is_open:
        playbook = current.playbook or DEFAULT
        owner, because = current.owner, ""
    else:
        work = work_of(
            fields,
            kind=signal.type,
            reason=signal.reason,
            severity=signal.severity,
            value=None if value is None else value.amount,
        )
        playbook = playbooks.for_work(work)
        assigned = assign(fields, roster, now=now, open_counts=open_counts, rule=playbook.owner)
        owner, because = assigned.owner, assigned.because.value
    calendar = calendar_of(roster.person(owner))
    return Assignment(
        owner=owner,
        due_at=due_at(playbook, signal.severity, calendar=calendar, now=now),
        playbook=playbook,
        because=because,
        held_out=hold_out.draw(
            signal.account_id,
            reason=signal.reason,
            severity=signal.severity,
            today=now.astimezone(UTC).date(),
        ),
    )


def new_owner(
    subject: Intervention,
    *,
    before: AccountFields,
    after: AccountFields,
    roster: Roster,
    open_counts: Mapping[str, int],
    now: datetime,
) -> str | None:
    """Whose it is by what the directory says now; None where that is nobody else than before.

    Whom a person has given it to stays its owner until the directory names somebody new.
    """
    rule = subject.playbook.owner if subject.playbook else Who.OWNER
    was, now_is = (
        assign(fields, roster, now=now, open_counts=open_counts, rule=rule).owner
        for fields in (before, after)
    )
    return None if was == now_is else now_is


def plan_tasks(subject: Intervention, *, fields: AccountFields, roster: Roster) -> Sequence[Task]:
    """Those of its playbook, by working days after its opening."""
    planned = []
    for number, rule in enumerate(subject.playbook.tasks if subject.playbook else (), 1):
        opened = subject.opened_at
        owner = whom(
            rule.owner, owner=subject.owner, reseller=fields.reseller, roster=roster, now=opened
        )
        task = Task(
            intervention_id=subject.id,
            episode=subject.episode,
            number=number,
            title=rule.title,
            who=rule.owner,
            owner=owner,
            due_at=task_due_at(
                rule,
                calendar=calendar_of(roster.person(owner)),
                opened_at=opened,
                notice_by=subject.notice_by,
            ),
        )
        planned.append(task)
    return planned


def move_tasks(
    tasks: Sequence[Task], subject: Intervention, *, fields: AccountFields, roster: Roster
) -> Sequence[Task]:
    """What is not done goes on to the new owner, by their calendar."""
    planned = {one.number: one for one in plan_tasks(subject, fields=fields, roster=roster)}
    return [planned[one.number] for one in tasks if not one.is_done and one.number in planned]
