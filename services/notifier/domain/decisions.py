"""What is decided about a group at one moment: a message, a change of one, or why there is none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.notifier.domain.notice import (
    MAX_REPEATS,
    Member,
    Notice,
    is_outdated,
    news_of,
    settle,
    unsent,
    why_member,
    why_notify,
)
from services.notifier.domain.people import Mode
from services.notifier.domain.policy import (
    Mute,
    NotifyReason,
    SuppressReason,
    why_held_back,
)

# What time alone has brought about has nothing to wait for.
_BY_TIME = frozenset(
    {
        NotifyReason.DUE_SOON,
        NotifyReason.OVERDUE,
        NotifyReason.ACK_REMINDER,
        NotifyReason.SNOOZE_ENDED,
        NotifyReason.REPEAT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    wait: timedelta = timedelta(seconds=30)
    """Before something is told: what is over by then is not, what comes until then joins."""
    interval: timedelta = timedelta(minutes=5)
    """Between two messages about one account."""
    debounce: timedelta = timedelta(seconds=45)
    """Before a message that is there is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearer:
    """Whoever hears what comes to the destination; by default somebody who is there for all."""

    mode: Mode = Mode.REAL_TIME
    in_storm: bool = False
    opens_at: datetime | None = None
    """When their next working hours begin; None: it is them now."""


ANYBODY = Hearer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Something that was not told; `cause` is the same as long as it is the same again."""

    reason: NotifyReason
    against: SuppressReason
    about: UUID | None
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    notice: Notice
    """As it must be stored, whether or not anything is told."""
    reason: NotifyReason | None = None
    """Why a message must be sent."""
    due_at: datetime | None = None
    update_at: datetime | None = None
    """When the message that is there must be changed."""
    bundle_at: datetime | None = None
    """When one message tells this together with other accounts."""
    is_urgent: bool = False
    held: tuple[Held, ...] = ()
    next_at: datetime | None = None
    """When something may have to be decided though nothing happens."""


def decide(
    notice: Notice,
    members: Sequence[Member],
    hearer: Hearer,
    *,
    timing: Timing,
    at_once: bool = False,
    now: datetime,
) -> Decision:
    """`at_once`: a person waits to see what they did in the message that is there."""
    settled = settle(notice, members, interval=timing.interval, now=now)
    reason = why_notify(settled, members, now=now)
    muted = _muted(settled, members)
    plan = Decision(
        notice=_known(settled, members),
        held=muted,
        is_urgent=any(member.is_urgent for member in members if member.is_visible),
        update_at=_update_at(settled, members, timing, at_once=at_once, now=now),
        next_at=_next_at(settled, members, timing, now=now),
    )
    if reason is None or reason is NotifyReason.UPDATED:
        return replace(plan, notice=replace(plan.notice, bundled=None))
    if reason is NotifyReason.RECOVERED and (against := _unwanted_end(settled, members)):
        return _untold_end(plan, against)
    if reason is not NotifyReason.RECOVERED and settled.gave_up == news_of(members):
        return plan
    back = why_held_back(
        reason,
        is_urgent=plan.is_urgent,
        mode=hearer.mode,
        in_storm=hearer.in_storm,
        opens_at=hearer.opens_at,
    )
    if back is not None:
        return _held_back(plan, reason, back, members, timing=timing, now=now)
    if settled.bundled is not None and reason is not NotifyReason.RECOVERED and not plan.is_urgent:
        # The one message for all of them is on its way; else it is decided anew.
        return replace(plan, bundle_at=now + timing.interval)
    return replace(plan, reason=reason, due_at=_due_at(settled, reason, timing, now=now))


def _muted(notice: Notice, members: Sequence[Member]) -> tuple[Held, ...]:
    """What of the muted members would have been told."""
    held = []
    for member in members:
        if member.muted is None or not member.stands:
            continue
        reason = why_member(notice, member)
        if reason is not None:
            cause = _digest(member.id, reason, member.muted.against, member.episode, member.state)
            against = member.muted.against
            held.append(Held(reason=reason, against=against, about=member.id, cause=cause))
    return tuple(held)


def _known(notice: Notice, members: Sequence[Member]) -> Notice:
    muted = {member.id for member in members if member.stands and member.muted is not None}
    if not notice.told or muted <= notice.known:
        return notice
    return replace(notice, known=notice.known | muted)


def _unwanted_end(notice: Notice, members: Sequence[Member]) -> SuppressReason | None:
    """Why nobody wants to hear that it is over: all of it is muted."""
    over = [one for one in members if one.id in notice.told and not one.by_person]
    mutes = [one.muted for one in over if one.muted is not None]
    return mutes[0].against if mutes and len(mutes) == len(over) else None


def _untold_end(plan: Decision, against: SuppressReason) -> Decision:
    told = sorted(plan.notice.told, key=str)
    cause = _digest(NotifyReason.RECOVERED, against, plan.notice.episode, *told)
    end = Held(reason=NotifyReason.RECOVERED, against=against, about=told[0], cause=cause)
    # Else flapping would be told once only: what was told would never be over.
    return replace(plan, notice=unsent(plan.notice), held=(*plan.held, end))


def _held_back(
    plan: Decision,
    reason: NotifyReason,
    back: Mute,
    members: Sequence[Member],
    *,
    timing: Timing,
    now: datetime,
) -> Decision:
    if reason is NotifyReason.RECOVERED and back.against is SuppressReason.PREFERENCE:
        return _untold_end(plan, back.against)
    news = [one for one in members if one.is_visible] or members
    about = max(news, key=lambda one: one.priority).id
    cause = _digest(reason, back.against, back.until, news_of(members))
    held = (*plan.held, Held(reason=reason, against=back.against, about=about, cause=cause))
    plan = replace(plan, held=held, next_at=_first(plan.next_at, back.until))
    if back.against is SuppressReason.PREFERENCE or reason is NotifyReason.RECOVERED:
        return plan
    # Once bundled it stays with the reason, and the message, that it was bundled for first.
    bundled = plan.notice.bundled or back.against
    return replace(
        plan,
        notice=replace(plan.notice, bundled=bundled),
        bundle_at=back.until or now + timing.interval,
    )


def _due_at(notice: Notice, reason: NotifyReason, timing: Timing, *, now: datetime) -> datetime:
    due_at = now if reason in _BY_TIME else now + timing.wait
    if not notice.told or notice.told_at is None:
        return due_at
    return max(due_at, notice.told_at + timing.interval)


def _update_at(
    notice: Notice, members: Sequence[Member], timing: Timing, *, at_once: bool, now: datetime
) -> datetime | None:
    if not is_outdated(notice, members):
        return None
    if not notice.told and any(member.is_visible for member in members):
        return None  # Another conversation begins.
    return now if at_once else now + timing.debounce


def _next_at(
    notice: Notice, members: Sequence[Member], timing: Timing, *, now: datetime
) -> datetime | None:
    moments = [one.changes_at for one in members]
    if notice.told and notice.repeats < MAX_REPEATS:
        moments += [one.repeat_at for one in members if one.is_visible and not one.is_handled]
    moments += [
        one.over_since + timing.interval
        for one in members
        if one.id in notice.told and not one.is_raised and one.over_since is not None
    ]
    return min((one for one in moments if one is not None and one > now), default=None)


def _first(*moments: datetime | None) -> datetime | None:
    return min((one for one in moments if one is not None), default=None)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()[:24]
