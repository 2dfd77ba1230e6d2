"""Who hears of work that nobody has acknowledged, and when: the steps of its playbook.

They count the owner's working days since the round began. An acknowledgement stops them; a new
round, when it stayed without a deed, begins them anew.
"""

from dataclasses import dataclass
from datetime import datetime

from services.notifier.domain.calendar import Calendar
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.playbooks import ESCALATION, Who


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    number: int
    """Of the plan, from 1; 0: at once, because it is nobody's. With the round it names the step."""
    to: Who
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    due: tuple[Step, ...] = ()
    """All whose time has come; what was planned before is planned only once (its dedupe key)."""
    next_at: datetime | None = None
    """When the next one comes, unless somebody acknowledges before."""


def escalate(
    subject: Intervention, *, calendar: Calendar, in_fallback_queue: bool, now: datetime
) -> Escalation:
    """`calendar`: the owner's. `in_fallback_queue`: nobody else is named (see `assignment`)."""
    if subject.status is not Status.OPEN or not subject.is_raised or _is_put_off(subject, now):
        return Escalation()
    steps = plan(subject, calendar=calendar, in_fallback_queue=in_fallback_queue)
    return Escalation(
        due=tuple(step for step in steps if step.at <= now),
        next_at=min((step.at for step in steps if step.at > now), default=None),
    )


def plan(subject: Intervention, *, calendar: Calendar, in_fallback_queue: bool) -> tuple[Step, ...]:
    """All steps of this round, the earliest first."""
    began_at = _began_at(subject)
    rules = ESCALATION if subject.playbook is None else subject.playbook.escalation
    steps = [
        Step(number=number, to=rule.to, at=calendar.add_business_days(began_at, rule.after))
        for number, rule in enumerate(rules, start=1)
    ]
    if in_fallback_queue:
        steps.append(Step(number=0, to=Who.LEAD, at=began_at))
    return tuple(sorted(steps, key=lambda step: (step.at, step.number)))


def _is_put_off(subject: Intervention, now: datetime) -> bool:
    """Whether it is snoozed, and did not become critical meanwhile."""
    return (
        subject.is_snoozed(now) and subject.snooze is not None and subject.snooze.broken_at is None
    )


def _began_at(subject: Intervention) -> datetime:
    """Of the round. The days of a snooze do not count: nobody was expected to act on them."""
    moments = [subject.round_began_at or subject.opened_at]
    if (snooze := subject.snooze) is not None:
        moments.append(snooze.broken_at or snooze.ended_at or snooze.until)
    return max(moments)
