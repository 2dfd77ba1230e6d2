"""What the account's page shows of an open intervention, and what can be done about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.interventions import Intervention, proposal
from services.notifier.domain.people import Roster
from services.notifier.domain.priority import Factors, factors
from services.notifier.domain.snoozes import LABELS, Put, end_of
from services.notifier.domain.tasks import Task
from shared.messages import OutcomeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    intervention: Intervention
    zone: str | None
    """The owner's, else the account's."""
    factors: Factors
    proposal: OutcomeKind | None
    is_snoozed: bool
    tasks: Sequence[Task]
    snoozes: Mapping[Put, datetime]
    """What can be chosen, and when it ends."""

    @property
    def done(self) -> int:
        return sum(task.is_done for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Zones:
    """Whose clock a due date goes by."""

    known: Mapping[str, str]

    def of(self, owner: str, otherwise: str | None) -> str | None:
        return self.known.get(owner.lower(), otherwise)


def zones_of(roster: Roster) -> Zones:
    return Zones({one.address.lower(): one.zone for one in roster.people})


def shown(
    subject: Intervention,
    tasks: Sequence[Task],
    roster: Roster,
    *,
    zone: str | None,
    account_lost: bool,
    now: datetime,
) -> Shown:
    return Shown(
        intervention=subject,
        zone=zone,
        factors=factors(subject, today=now.astimezone(UTC).date()),
        proposal=proposal(subject, account_lost=account_lost),
        is_snoozed=subject.is_snoozed(now),
        tasks=[task for task in tasks if _is_of(task, subject)],
        snoozes=dict(_snoozes(subject, roster, now=now)),
    )


def new_key() -> UUID:
    """Of a form: sent twice, it is one step."""
    return uuid4()


def _is_of(task: Task, subject: Intervention) -> bool:
    return (task.intervention_id, task.episode) == (subject.id, subject.episode)


def _snoozes(
    subject: Intervention, roster: Roster, *, now: datetime
) -> Iterator[tuple[Put, datetime]]:
    calendar = calendar_of(roster.person(subject.owner))
    for put in LABELS:
        until = end_of(put, now=now, calendar=calendar, notice_by=subject.notice_by)
        if until is not None:
            yield put, until
