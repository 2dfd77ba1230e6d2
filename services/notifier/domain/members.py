"""An intervention as one destination would be told of it at one moment."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Final

from services.notifier.domain import ticks
from services.notifier.domain.calendar import Calendar
from services.notifier.domain.interventions import SYSTEM, Intervention, Status
from services.notifier.domain.notice import SOON, Member, Told, days_left, due_state
from services.notifier.domain.playbooks import REPEAT
from services.notifier.domain.policy import (
    Mute,
    SuppressReason,
    Surroundings,
    is_urgent,
    why_muted,
)

DAYS_LEFT: Final = (30, 7)
"""Days to the notice deadline, less than which somebody is told so."""
# An outage does not say when it will be over.
_ASK_AGAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How a destination, or whoever hears what comes there, stands to an intervention."""

    told: Told | None
    calendar: Calendar
    is_here: bool = True
    is_handed_over: bool = False
    told_at: datetime | None = None
    """When the destination was told of the account last."""
    silenced_until: datetime | None = None


def member_of(
    subject: Intervention,
    sight: Sight,
    around: Surroundings,
    *,
    value_from: Decimal,
    now: datetime,
) -> Member:
    """`value_from`: at risk, from which on it is much."""
    muted = why_muted(
        subject,
        around,
        told_at=sight.told.at if sight.told else None,
        silenced_until=sight.silenced_until,
        now=now,
    )
    stands = subject.is_open and subject.is_raised and subject.recovered_at is None
    snooze = subject.snooze
    return Member(
        id=subject.id,
        state=_state(subject, sight.calendar, value_from=value_from, now=now),
        episode=subject.episode,
        looks=looks_of(subject, now=now),
        is_raised=stands,
        is_here=sight.is_here,
        by_person=not subject.is_open and subject.closed_by != SYSTEM,
        over_since=None if stands else (subject.closed_at or subject.recovered_at),
        muted=muted,
        is_handled=subject.status is Status.ACKNOWLEDGED,
        is_handed_over=sight.is_handed_over,
        is_urgent=is_urgent(subject, value_from=value_from, now=now),
        snooze_ended_at=snooze.ended_at if snooze else None,
        repeat_at=_repeat_at(subject, sight),
        priority=subject.priority,
        changes_at=_changes_at(subject, sight.calendar, muted, now=now),
    )


def looks_of(subject: Intervention, *, now: datetime) -> str:
    """A digest of what a message shows of it."""
    shown = (
        subject.version,
        subject.snooze.until if subject.snooze and subject.is_snoozed(now) else None,
        due_state(subject.due_at, now=now),
    )
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]


def _state(
    subject: Intervention, calendar: Calendar, *, value_from: Decimal, now: datetime
) -> Told:
    value = subject.value_at_risk
    return Told(
        severity=subject.severity,
        owner=subject.owner,
        due_at=subject.due_at,
        due=due_state(subject.due_at, now=now),
        is_valuable=value is not None and value.amount >= value_from,
        days_left=days_left(subject.notice_by, DAYS_LEFT, today=calendar.day_of(now)),
        idle_since=_idle_since(subject, calendar, now=now),
    )


def _idle_since(subject: Intervention, calendar: Calendar, *, now: datetime) -> datetime | None:
    """From when on a reminder is due; None: somebody is at it, or nobody has it in hand."""
    if subject.status is not Status.ACKNOWLEDGED or not subject.is_raised:
        return None
    since = ticks.remind_at(subject, calendar)
    return since if now >= since else None


def _repeat_at(subject: Intervention, sight: Sight) -> datetime | None:
    by_severity = REPEAT if subject.playbook is None else subject.playbook.repeat
    days = by_severity.get(subject.severity)
    if days is None or sight.told_at is None:
        return None
    return sight.calendar.add_business_days(sight.told_at, days)


def _changes_at(
    subject: Intervention, calendar: Calendar, muted: Mute | None, *, now: datetime
) -> datetime | None:
    if not subject.is_open:
        return None
    moments = [
        subject.due_at - SOON,
        subject.due_at,
        ticks.next_tick(subject, now=now, calendar=calendar),
    ]
    if subject.notice_by is not None:
        moments += [
            datetime.combine(
                subject.notice_by - timedelta(days=limit - 1), time(), tzinfo=calendar.zone
            )
            for limit in DAYS_LEFT
        ]
    if muted is not None:
        doubtful = muted.against is SuppressReason.DATA_STALE
        moments.append(now + _ASK_AGAIN if doubtful else muted.until)
    return min((one for one in moments if one is not None and one > now), default=None)
