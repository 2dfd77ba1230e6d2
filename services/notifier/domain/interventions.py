"""The intervention: the work of a named owner on one account, and what a signal does to it.

One open intervention per account, type and reason. Signals come at least once and in order per
account; what was seen already changes nothing. What people do stands in `steps`, what time does in
`ticks`.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from services.notifier.domain.flags import Kind, OwnReason, WorkReason
from services.notifier.domain.playbooks import Playbook
from services.notifier.domain.signals import Seen, Signal
from shared.messages import Band, OutcomeKind, Reason, ValueAtRisk

REOPEN_WITHIN = timedelta(days=14)
SYSTEM = "system"

_SEVERITY = {Band.HEALTHY: 0, Band.WATCH: 1, Band.AT_RISK: 2, Band.CRITICAL: 3}


class Status(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class Taken(StrEnum):
    """What a signal did: the label of `flags_consumed_total` and the entry in the timeline."""

    OPENED = "opened"
    REOPENED = "reopened"
    WORSENED = "worsened"
    UPDATED = "updated"
    RECOVERED = "recovered"
    CLOSED = "closed"
    ACCOUNT_LOST = "account_lost"
    KEPT_CLOSED = "kept_closed"
    DUPLICATE = "duplicate"
    ERASED = "erased"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Who acts, until when, and by which playbook."""

    owner: str
    due_at: datetime
    playbook: Playbook | None = None
    because: str = ""
    """Why it is theirs (`assignment.Because`), for the timeline."""
    held_out: bool | None = None
    """How it was drawn (`domain.holdout`); None: it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze:
    """Not now: nobody is told until then, though the work stays."""

    until: datetime
    reason: str
    by: str
    at: datetime
    broken_at: datetime | None = None
    """It became critical meanwhile: that is told, once, and the snooze goes on."""
    ended_at: datetime | None = None
    """It is over, and what it is about still stands: that is told, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    id: UUID
    account_id: str
    type: Kind
    reason: WorkReason
    status: Status
    version: int
    episode: int
    severity: Band
    owner: str
    due_at: datetime
    opened_at: datetime
    last_seen_at: datetime
    seen: Seen
    risk_at_open: float | None = None
    risk: float | None = None
    value_at_risk: ValueAtRisk | None = None
    renewal_date: date | None = None
    summary: str = ""
    reasons: tuple[Reason, ...] = ()
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    recovered_at: datetime | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None
    outcome: OutcomeKind | None = None
    note: str = ""
    revision: int = 0
    round: int = 1
    """Grows when nobody reacted to an acknowledged intervention: escalation begins anew."""
    round_began_at: datetime | None = None
    """None: at `opened_at`."""
    acted_at: datetime | None = None
    """The last step of a person."""
    snooze: Snooze | None = None
    ends_at: datetime | None = None
    """From then on it is as if it had been cleared (see `Signal.ends_at`)."""
    held_out: bool = False
    priority: float = 0.0
    """Severity x value at risk x nearness of renewal (`domain.priority`)."""
    notice_by: date | None = None
    """The last day on which the customer can give notice; None where it is not known."""
    playbook: Playbook | None = None
    """As it was when the intervention opened."""

    @property
    def is_open(self) -> bool:
        return self.status is not Status.CLOSED

    @property
    def is_raised(self) -> bool:
        """Whether what it is about still stands."""
        return self.seen.change != "cleared"

    @property
    def is_kept_from_all(self) -> bool:
        """Held out, and not so urgent that people must be told all the same."""
        return self.held_out and self.severity is not Band.CRITICAL

    def is_snoozed(self, now: datetime) -> bool:
        return self.snooze is not None and self.snooze.ended_at is None and now < self.snooze.until

    def breaks_through(self, told_at: datetime | None) -> bool:
        """Whether it became critical while it was snoozed, and `told_at` was before."""
        broken = self.snooze.broken_at if self.snooze else None
        return broken is not None and (told_at is None or told_at < broken)

    def snooze_ended_after(self, told_at: datetime | None) -> bool:
        """Whether its snooze has ended while it still stands, and `told_at` was before."""
        ended = self.snooze.ended_at if self.snooze else None
        return self.is_raised and ended is not None and (told_at is None or told_at < ended)


Step: TypeAlias = tuple[Taken, Intervention | None]


def is_worse(one: Band, other: Band) -> bool:
    return _SEVERITY[one] > _SEVERITY[other]


def proposal(subject: Intervention, *, account_lost: bool) -> OutcomeKind | None:
    """The outcome that what happened suggests to whoever closes it."""
    if not subject.is_open:
        return None
    if account_lost and subject.reason is not OwnReason.ACCOUNT_LOST:
        return OutcomeKind.CHURNED
    if subject.recovered_at is None:
        return None
    if subject.status is Status.ACKNOWLEDGED:
        return OutcomeKind.SAVED
    return OutcomeKind.NO_ACTION_NEEDED


def take(
    current: Intervention | None,
    signal: Signal,
    *,
    new_id: UUID,
    assignment: Assignment,
    account_lost: bool,
    now: datetime,
) -> Step:
    """What `signal` does to the newest intervention of its account, type and reason.

    The second part is the intervention as it must be stored, None where nothing changes.
    `account_lost`: the directory says that the account has left. `assignment`: as one that opens
    now has it.
    """
    if current is None:
        if signal.is_cleared:
            return Taken.UNKNOWN, None
        return Taken.OPENED, _new(signal, new_id=new_id, assignment=assignment, now=now)
    if current.seen.covers(signal.seen):
        return Taken.DUPLICATE, None
    if signal.is_cleared:
        seen = replace(current, last_seen_at=now, seen=signal.seen, risk=signal.risk)
        return clear(seen, account_lost=account_lost, now=now)
    if current.is_open:
        return _update(current, signal, due_at=assignment.due_at, now=now)
    return _raise_closed(current, signal, new_id=new_id, assignment=assignment, now=now)


def clear(
    cleared: Intervention, *, account_lost: bool, now: datetime
) -> tuple[Taken, Intervention]:
    """What follows once what it is about no longer stands."""
    lost = account_lost and cleared.reason is not OwnReason.ACCOUNT_LOST
    match cleared.status:
        case Status.CLOSED:
            return Taken.KEPT_CLOSED, replace(cleared, version=cleared.version + 1)
        case Status.OPEN if lost:
            # It ended because they left: "no action needed" would be a lie to the model.
            return Taken.ACCOUNT_LOST, replace(cleared, version=cleared.version + 1)
        case Status.OPEN if not cleared.is_snoozed(now):
            return Taken.CLOSED, close_quietly(cleared, now=now)
    # Somebody is at work, or asked to wait: they say how it ended, or the snooze's end does.
    return Taken.RECOVERED, replace(cleared, version=cleared.version + 1, recovered_at=now)


def come_back(current: Intervention, *, now: datetime) -> tuple[Taken, Intervention] | None:
    """What follows when a lost account is back: what was cleared meanwhile may end now."""
    if not current.is_open or current.is_raised:
        return None
    waits = current.status is Status.ACKNOWLEDGED or current.is_snoozed(now)
    if waits and current.recovered_at is not None:
        return None
    return clear(current, account_lost=False, now=now)


def close_quietly(current: Intervention, *, now: datetime) -> Intervention:
    """Closed by the system: it ended, and nobody acted."""
    outcome = OutcomeKind.NO_ACTION_NEEDED
    return ended(current, outcome=outcome, note="", by=SYSTEM, now=now)


def ended(
    current: Intervention, *, outcome: OutcomeKind, note: str, by: str, now: datetime
) -> Intervention:
    return replace(
        current,
        status=Status.CLOSED,
        version=current.version + 1,
        closed_at=now,
        closed_by=by,
        outcome=outcome,
        note=note,
        revision=current.revision + 1,
        snooze=None,
    )


def _new(signal: Signal, *, new_id: UUID, assignment: Assignment, now: datetime) -> Intervention:
    return Intervention(
        id=new_id,
        account_id=signal.account_id,
        type=signal.type,
        reason=signal.reason,
        status=Status.OPEN,
        version=1,
        episode=1,
        severity=signal.severity,
        owner=assignment.owner,
        due_at=assignment.due_at,
        opened_at=now,
        last_seen_at=now,
        seen=signal.seen,
        risk_at_open=signal.risk,
        risk=signal.risk,
        value_at_risk=signal.value_at_risk,
        renewal_date=signal.renewal_date,
        summary=signal.summary,
        reasons=signal.reasons,
        ends_at=signal.ends_at,
        held_out=bool(assignment.held_out),
        playbook=assignment.playbook,
    )


def _facts(current: Intervention, signal: Signal, *, now: datetime) -> Intervention:
    """The intervention with what the signal says of the account now."""
    return replace(
        current,
        version=current.version + 1,
        severity=signal.severity,
        last_seen_at=now,
        seen=signal.seen,
        risk=signal.risk,
        value_at_risk=signal.value_at_risk or current.value_at_risk,
        renewal_date=signal.renewal_date or current.renewal_date,
        summary=signal.summary or current.summary,
        reasons=signal.reasons or current.reasons,
        recovered_at=None,
        ends_at=signal.ends_at,
    )


def _update(current: Intervention, signal: Signal, *, due_at: datetime, now: datetime) -> Step:
    updated = _facts(current, signal, now=now)
    if not is_worse(updated.severity, current.severity):
        return Taken.UPDATED, updated
    snooze = current.snooze
    if snooze and current.is_snoozed(now) and updated.severity is Band.CRITICAL:
        snooze = replace(snooze, broken_at=snooze.broken_at or now)
    # Worse means sooner, never later than what the owner was told.
    sooner = min(current.due_at, due_at)
    return Taken.WORSENED, replace(updated, due_at=sooner, snooze=snooze)


def _raise_closed(
    current: Intervention, signal: Signal, *, new_id: UUID, assignment: Assignment, now: datetime
) -> Step:
    within = current.closed_at is not None and now - current.closed_at <= REOPEN_WITHIN
    same_flag = current.is_raised and current.seen.is_same_flag(signal.seen)
    if same_flag and within and not is_worse(signal.severity, current.severity):
        # A person closed it knowing this flag; that it still stands is no news yet.
        kept = _facts(current, signal, now=now)
        return Taken.KEPT_CLOSED, replace(kept, severity=current.severity)
    if not same_flag and not within:
        return Taken.OPENED, _new(signal, new_id=new_id, assignment=assignment, now=now)
    return Taken.REOPENED, replace(
        _facts(current, signal, now=now),
        status=Status.OPEN,
        episode=current.episode + 1,
        owner=assignment.owner,
        due_at=assignment.due_at,
        opened_at=now,
        risk_at_open=signal.risk,
        acknowledged_at=None,
        acknowledged_by=None,
        closed_at=None,
        closed_by=None,
        outcome=None,
        note="",
        revision=0,
        round=1,
        round_began_at=None,
        acted_at=None,
        snooze=None,
        held_out=bool(assignment.held_out),
        playbook=assignment.playbook,
    )
