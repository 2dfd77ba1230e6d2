"""What people do with an intervention; each step is taken, or refused with its reason.

`version` is the one that the person saw; None: whatever it is now (the caller has another guard
against doing it twice).
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TypeAlias

from services.notifier.domain.interventions import Intervention, Snooze, Status, ended
from services.notifier.domain.refusals import Refusal
from shared.messages import OutcomeKind

MAX_SNOOZE = timedelta(days=60)

_NOTE_REQUIRED = frozenset({OutcomeKind.FALSE_ALARM, OutcomeKind.CHURNED, OutcomeKind.DOWNSOLD})

Result: TypeAlias = Intervention | Refusal


def needs_note(outcome: OutcomeKind) -> bool:
    return outcome in _NOTE_REQUIRED


def acknowledge(current: Intervention, *, version: int | None, by: str, now: datetime) -> Result:
    if refusal := _refused(current, version):
        return refusal
    if current.status is Status.ACKNOWLEDGED:
        return Refusal.ACKNOWLEDGED
    return _taken_on(_acted(current, now), by=by, now=now)


def close(
    current: Intervention,
    *,
    version: int | None,
    outcome: OutcomeKind,
    note: str,
    by: str,
    now: datetime,
) -> Result:
    if refusal := _refused(current, version):
        return refusal
    if needs_note(outcome) and not note:
        return Refusal.NOTE_MISSING
    done = ended(current, outcome=outcome, note=note, by=by, now=now)
    return replace(done, acted_at=now)


def correct(
    current: Intervention,
    *,
    version: int | None,
    outcome: OutcomeKind,
    note: str,
    by: str,
    now: datetime,
) -> Result:
    """Another outcome for what is closed; when it was closed stays."""
    if current.is_open:
        return Refusal.NOT_CLOSED
    if version is not None and current.version != version:
        return Refusal.STALE
    if needs_note(outcome) and not note:
        return Refusal.NOTE_MISSING
    if (outcome, note) == (current.outcome, current.note):
        return Refusal.UNCHANGED
    return replace(
        _acted(current, now),
        outcome=outcome,
        note=note,
        closed_by=by,
        revision=current.revision + 1,
    )


def snooze(
    current: Intervention,
    *,
    version: int | None,
    until: datetime,
    zone: tzinfo,
    reason: str,
    by: str,
    now: datetime,
) -> Result:
    """Not before `until`; `zone`: the owner's, in which the last day for notice is a day."""
    if refusal := _refused(current, version) or why_not_snoozed(
        until, zone=zone, notice_by=current.notice_by, reason=reason, now=now
    ):
        return refusal
    asleep = Snooze(until=until.astimezone(UTC), reason=reason, by=by, at=now)
    return replace(_acted(current, now), snooze=asleep)


def why_not_snoozed(
    until: datetime, *, zone: tzinfo, notice_by: date | None, reason: str, now: datetime
) -> Refusal | None:
    if not reason:
        return Refusal.REASON_MISSING
    if until <= now:
        return Refusal.PAST
    if until - now > MAX_SNOOZE:
        return Refusal.TOO_LONG
    today = now.astimezone(zone).date()
    # Once the day has passed there is nothing left to be late for.
    if notice_by is not None and today <= notice_by <= until.astimezone(zone).date():
        return Refusal.AFTER_NOTICE
    return None


def wake(current: Intervention, *, version: int | None, now: datetime) -> Result:
    """The snooze ends now: whoever wakes it need not be told that it has ended."""
    if refusal := _refused(current, version):
        return refusal
    if not current.is_snoozed(now):
        return Refusal.NOT_SNOOZED
    return replace(_acted(current, now), snooze=None)


def reassign(current: Intervention, *, version: int | None, owner: str, now: datetime) -> Result:
    if refusal := _refused(current, version):
        return refusal
    if not owner:
        return Refusal.OWNER_MISSING
    if owner == current.owner:
        return Refusal.UNCHANGED
    return replace(_acted(current, now), owner=owner)


def hand_over(current: Intervention, *, owner: str) -> Intervention | None:
    """By the directory, not by a person; None where it is the owner's already, or closed."""
    if not current.is_open or current.owner == owner:
        return None
    return replace(current, owner=owner, version=current.version + 1)


def work(current: Intervention, *, done: bool, by: str, now: datetime) -> Result:
    """A task was done, or undone: whoever does one has taken the intervention on."""
    if not current.is_open:
        return Refusal.CLOSED
    acted = _acted(current, now)
    if not done or acted.status is Status.ACKNOWLEDGED:
        return acted
    return _taken_on(acted, by=by, now=now)


def _refused(current: Intervention, version: int | None) -> Refusal | None:
    if not current.is_open:
        return Refusal.CLOSED
    if version is not None and current.version != version:
        return Refusal.STALE
    return None


def _acted(current: Intervention, now: datetime) -> Intervention:
    return replace(current, version=current.version + 1, acted_at=now)


def _taken_on(acted: Intervention, *, by: str, now: datetime) -> Intervention:
    return replace(acted, status=Status.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=by)
