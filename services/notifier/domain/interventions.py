"""The intervention: the work of a named owner on one account, and what a flag does to it.

One open intervention per account, type and reason. Flags come at least once and in order per
account; what was seen already changes nothing.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from services.notifier.domain.flags import is_opportunity
from shared.messages import (
    Band,
    Flag,
    FlagReason,
    OutcomeKind,
    Reason,
    Stage,
    ValueAtRisk,
)

REOPEN_WITHIN = timedelta(days=14)
SYSTEM = "system"

_SEVERITY = {Band.HEALTHY: 0, Band.WATCH: 1, Band.AT_RISK: 2, Band.CRITICAL: 3}
_CHANGE_ORDER = {"raised": 0, "updated": 1, "cleared": 2}
_NOTE_REQUIRED = frozenset({OutcomeKind.FALSE_ALARM, OutcomeKind.CHURNED, OutcomeKind.DOWNSOLD})


class Status(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class Taken(StrEnum):
    """What a flag did: the label of `flags_consumed_total` and the entry in the timeline."""

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


class Refusal(StrEnum):
    """Why a person's step was not taken."""

    STALE = "stale"
    CLOSED = "closed"
    ACKNOWLEDGED = "acknowledged"
    NOTE_MISSING = "note_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest flag message an intervention has taken in."""

    flag_id: str
    episode: int
    raised_at: datetime
    as_of: datetime
    change: str

    def covers(self, flag: Flag) -> bool:
        """Whether `flag` is a repetition, or older than what was taken in."""
        return (flag.raised_at, flag.as_of, _CHANGE_ORDER[flag.change]) <= (
            self.raised_at,
            self.as_of,
            _CHANGE_ORDER[self.change],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Who acts, and until when."""

    owner: str
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    id: UUID
    account_id: str
    type: Stage
    reason: FlagReason
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

    @property
    def is_open(self) -> bool:
        return self.status is not Status.CLOSED


Step: TypeAlias = tuple[Taken, Intervention | None]


def severity_of(flag: Flag) -> Band:
    """The band, at least `watch`; a flag that states no band (no risk is known) is `at_risk`.

    An opportunity is never worse than `watch`: nothing is lost where nobody acts.
    """
    if is_opportunity(flag.reason):
        return Band.WATCH
    if flag.band is None:
        return Band.AT_RISK
    return Band.WATCH if flag.band is Band.HEALTHY else flag.band


def value_of(flag: Flag) -> ValueAtRisk | None:
    return None if is_opportunity(flag.reason) else flag.value_at_risk


def is_worse(one: Band, other: Band) -> bool:
    return _SEVERITY[one] > _SEVERITY[other]


def take(
    current: Intervention | None,
    flag: Flag,
    *,
    new_id: UUID,
    assignment: Assignment,
    account_lost: bool,
    now: datetime,
) -> Step:
    """What `flag` does to the newest intervention of its account, type and reason.

    The second part is the intervention as it must be stored, None where nothing changes.
    `account_lost`: the directory says that the account has left.
    """
    if current is None:
        if flag.change == "cleared":
            return Taken.UNKNOWN, None
        return Taken.OPENED, _new(flag, new_id=new_id, assignment=assignment, now=now)
    if current.seen.covers(flag):
        return Taken.DUPLICATE, None
    if flag.change == "cleared":
        return _clear(current, flag, account_lost=account_lost, now=now)
    if current.is_open:
        return _update(current, flag, assignment=assignment, now=now)
    return _raise_closed(current, flag, new_id=new_id, assignment=assignment, now=now)


def acknowledge(
    current: Intervention, *, version: int, by: str, now: datetime
) -> Intervention | Refusal:
    if not current.is_open:
        return Refusal.CLOSED
    if current.version != version:
        return Refusal.STALE
    if current.status is Status.ACKNOWLEDGED:
        return Refusal.ACKNOWLEDGED
    return replace(
        current,
        status=Status.ACKNOWLEDGED,
        version=version + 1,
        acknowledged_at=now,
        acknowledged_by=by,
    )


def close(
    current: Intervention, *, version: int, outcome: OutcomeKind, note: str, by: str, now: datetime
) -> Intervention | Refusal:
    if not current.is_open:
        return Refusal.CLOSED
    if current.version != version:
        return Refusal.STALE
    if outcome in _NOTE_REQUIRED and not note.strip():
        return Refusal.NOTE_MISSING
    return _closed(current, outcome=outcome, note=note.strip(), by=by, now=now)


def needs_note(outcome: OutcomeKind) -> bool:
    return outcome in _NOTE_REQUIRED


def reassign(current: Intervention, *, owner: str) -> Intervention | None:
    """The intervention in the hands of `owner`; None where it is there already, or closed."""
    if not current.is_open or current.owner == owner:
        return None
    return replace(current, owner=owner, version=current.version + 1)


def _seen(flag: Flag) -> Seen:
    return Seen(
        flag_id=flag.flag_id,
        episode=flag.episode,
        raised_at=flag.raised_at,
        as_of=flag.as_of,
        change=flag.change,
    )


def _new(flag: Flag, *, new_id: UUID, assignment: Assignment, now: datetime) -> Intervention:
    return Intervention(
        id=new_id,
        account_id=flag.account,
        type=flag.stage,
        reason=flag.reason,
        status=Status.OPEN,
        version=1,
        episode=1,
        severity=severity_of(flag),
        owner=assignment.owner,
        due_at=assignment.due_at,
        opened_at=now,
        last_seen_at=now,
        seen=_seen(flag),
        risk_at_open=flag.risk,
        risk=flag.risk,
        value_at_risk=value_of(flag),
        renewal_date=flag.renewal_date,
        summary=flag.summary,
        reasons=flag.reasons,
    )


def _facts(current: Intervention, flag: Flag, *, now: datetime) -> Intervention:
    """The intervention with what the flag says of the account now."""
    return replace(
        current,
        version=current.version + 1,
        severity=severity_of(flag),
        last_seen_at=now,
        seen=_seen(flag),
        risk=flag.risk,
        value_at_risk=value_of(flag) or current.value_at_risk,
        renewal_date=flag.renewal_date or current.renewal_date,
        summary=flag.summary or current.summary,
        reasons=flag.reasons or current.reasons,
        recovered_at=None,
    )


def _update(current: Intervention, flag: Flag, *, assignment: Assignment, now: datetime) -> Step:
    updated = _facts(current, flag, now=now)
    if is_worse(updated.severity, current.severity):
        # Worse means sooner, never later than what the owner was told.
        sooner = min(current.due_at, assignment.due_at)
        return Taken.WORSENED, replace(updated, due_at=sooner)
    return Taken.UPDATED, updated


def _clear(current: Intervention, flag: Flag, *, account_lost: bool, now: datetime) -> Step:
    seen = replace(current, last_seen_at=now, seen=_seen(flag), risk=flag.risk)
    match current.status:
        case Status.OPEN if account_lost:
            # It ended because they left: "no action needed" would be a lie to the model.
            return Taken.ACCOUNT_LOST, replace(seen, version=seen.version + 1)
        case Status.OPEN:
            outcome = OutcomeKind.NO_ACTION_NEEDED
            return Taken.CLOSED, _closed(seen, outcome=outcome, note="", by=SYSTEM, now=now)
        case Status.ACKNOWLEDGED:
            # Somebody is at work: they say how it ended.
            return Taken.RECOVERED, replace(seen, version=seen.version + 1, recovered_at=now)
        case Status.CLOSED:
            return Taken.KEPT_CLOSED, replace(seen, version=seen.version + 1)


def _raise_closed(
    current: Intervention, flag: Flag, *, new_id: UUID, assignment: Assignment, now: datetime
) -> Step:
    within = current.closed_at is not None and now - current.closed_at <= REOPEN_WITHIN
    same_flag = current.seen.change != "cleared" and (flag.flag_id, flag.episode) == (
        current.seen.flag_id,
        current.seen.episode,
    )
    if same_flag and within and not is_worse(severity_of(flag), current.severity):
        # A person closed it knowing this flag; that it still stands is no news yet.
        return Taken.KEPT_CLOSED, replace(_facts(current, flag, now=now), severity=current.severity)
    if not same_flag and not within:
        return Taken.OPENED, _new(flag, new_id=new_id, assignment=assignment, now=now)
    return Taken.REOPENED, replace(
        _facts(current, flag, now=now),
        status=Status.OPEN,
        episode=current.episode + 1,
        owner=assignment.owner,
        due_at=assignment.due_at,
        opened_at=now,
        risk_at_open=flag.risk,
        acknowledged_at=None,
        acknowledged_by=None,
        closed_at=None,
        closed_by=None,
        outcome=None,
        note="",
        revision=0,
    )


def _closed(
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
    )
