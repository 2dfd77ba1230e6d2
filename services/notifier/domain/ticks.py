"""What time alone does to an intervention: snoozes end, sentiments expire, idle work is open again.

`look` asks for one change after the other until there is none, and comes again at `next_tick`; the
calendar is the owner's.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.notifier.domain.calendar import Calendar
from services.notifier.domain.flags import OwnReason
from services.notifier.domain.interventions import (
    Intervention,
    Snooze,
    Status,
    Taken,
    clear,
    close_quietly,
)

REMIND_AFTER_DAYS: Final = 5
"""Working days without a step of a person; then an acknowledgement is asked for again."""
GIVE_UP_AFTER_DAYS: Final = REMIND_AFTER_DAYS + 2

_PRIORITY_EVERY = timedelta(days=1)


class Ticked(StrEnum):
    """What happened; each is an entry in the timeline."""

    SNOOZE_ENDED = "snooze_ended"
    UNACKNOWLEDGED = "unacknowledged"
    EXPIRED = "expired"
    """What it is about holds no more, and somebody is at work: they say how it ended."""
    CLOSED = "closed"
    """By the system: its outcome is to be published."""


def tick(
    current: Intervention, *, now: datetime, calendar: Calendar, account_lost: bool
) -> tuple[Ticked, Intervention] | None:
    """The first change that is due by `now`; None where nothing is."""
    if not current.is_open:
        return None
    lost = account_lost and current.reason is not OwnReason.ACCOUNT_LOST
    if current.is_raised and current.ends_at is not None and now >= current.ends_at:
        return _expire(current, lost=lost, now=now)
    snooze = current.snooze
    if snooze is not None and snooze.ended_at is None and now >= snooze.until:
        return _end_snooze(current, snooze, lost=lost, now=now)
    if _is_watched(current, now) and not lost and now >= give_up_at(current, calendar):
        return Ticked.UNACKNOWLEDGED, replace(
            current,
            status=Status.OPEN,
            version=current.version + 1,
            round=current.round + 1,
            round_began_at=now,
            acknowledged_at=None,
            acknowledged_by=None,
        )
    return None


def next_tick(current: Intervention, *, now: datetime, calendar: Calendar) -> datetime | None:
    """The earliest moment after `now` at which time alone may change it, or asks for a reminder.

    A day at most: its priority follows the nearness of the renewal.
    """
    if not current.is_open:
        return None
    moments = [now + _PRIORITY_EVERY]
    if current.is_raised and current.ends_at is not None:
        moments.append(current.ends_at)
    if current.snooze is not None and current.is_snoozed(now):
        moments.append(current.snooze.until)
    if _is_watched(current, now):
        moments += [remind_at(current, calendar), give_up_at(current, calendar)]
    return min(one for one in moments if one > now)


def idle_since(current: Intervention) -> datetime:
    """The last sign of life, or of need; the days of a snooze are not idle."""
    moments = [current.opened_at, current.acknowledged_at, current.acted_at]
    moments.append(current.seen.raised_at)
    if current.snooze is not None:
        moments.append(current.snooze.ended_at or current.snooze.until)
    return max(one for one in moments if one is not None)


def remind_at(current: Intervention, calendar: Calendar) -> datetime:
    """When an acknowledged intervention has been idle for so long that its owner is reminded."""
    return calendar.add_business_days(idle_since(current), REMIND_AFTER_DAYS)


def give_up_at(current: Intervention, calendar: Calendar) -> datetime:
    return calendar.add_business_days(idle_since(current), GIVE_UP_AFTER_DAYS)


def _expire(current: Intervention, *, lost: bool, now: datetime) -> tuple[Ticked, Intervention]:
    over = replace(current, seen=replace(current.seen, change="cleared"), ends_at=None)
    taken, changed = clear(over, account_lost=lost, now=now)
    return Ticked.CLOSED if taken is Taken.CLOSED else Ticked.EXPIRED, changed


def _end_snooze(
    current: Intervention, snooze: Snooze, *, lost: bool, now: datetime
) -> tuple[Ticked, Intervention]:
    if not current.is_raised and current.status is Status.OPEN and not lost:
        return Ticked.CLOSED, close_quietly(current, now=now)
    return Ticked.SNOOZE_ENDED, replace(
        current,
        version=current.version + 1,
        # Of what was cleared there is nothing to tell, should it be raised again later.
        snooze=replace(snooze, ended_at=now) if current.is_raised else None,
    )


def _is_watched(current: Intervention, now: datetime) -> bool:
    """Whether somebody who took it on is expected to do something about it."""
    return (
        current.status is Status.ACKNOWLEDGED and current.is_raised and not current.is_snoozed(now)
    )
