"""Why somebody is told, and what speaks against it: the first that holds, in the order of the enum.

Of the suppressions, those of an intervention (`why_muted`) hold for whoever would be told; those of
a recipient (`why_held_back`) for that one person, and never for what is urgent. `no_longer_wanted`
comes first of all: it is what composing finds when nothing is left to tell.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from services.notifier.domain.flags import OwnReason, WorkReason
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import Mode
from shared.messages import Band, FlagReason


class NotifyReason(StrEnum):
    """Why a person is told."""

    FIRST = "first"
    UNMUTED = "unmuted"
    NEW_REASON = "new_reason"
    SEVERITY_RAISED = "severity_raised"
    THRESHOLD_CROSSED = "threshold_crossed"
    OWNER_CHANGED = "owner_changed"
    DUE_SOON = "due_soon"
    OVERDUE = "overdue"
    ACK_REMINDER = "ack_reminder"
    SNOOZE_ENDED = "snooze_ended"
    RECOVERED = "recovered"
    REPEAT = "repeat"
    UPDATED = "updated"
    """The message that is there is kept current; nobody is bothered."""
    ESCALATED = "escalated"
    DIGEST = "digest"
    SUMMARY = "summary"
    UNDELIVERED = "undelivered"
    TEST = "test"


class SuppressReason(StrEnum):
    """Why a person is not told although something happened; stored, counted and shown."""

    NO_LONGER_WANTED = "no_longer_wanted"
    DATA_STALE = "data_stale"
    RESTORED = "restored"
    """The database is a restored one, and nobody has released it yet."""
    MASS_FLAGS = "mass_flags"
    """Reserved: scoring keeps a mass of flags to itself until an admin releases them, so none comes
    here; this is the reason for flags that a later version passes on and marks so."""
    INHIBITED = "inhibited"
    HELD_OUT = "held_out"
    SILENCED = "silenced"
    SNOOZED = "snoozed"
    PREFERENCE = "preference"
    STORM = "storm"
    QUIET_HOURS = "quiet_hours"
    REASSIGNED = "reassigned"
    ACKNOWLEDGED = "acknowledged"
    ALREADY_TOLD = "already_told"
    NO_DESTINATION = "no_destination"


# What an outage of a source can make out of nothing. An estimate of risk is not among them: it
# lives from a half-year, and scoring does not score accounts whose sources are silent.
USAGE_REASONS = frozenset[WorkReason](
    {
        FlagReason.GONE_SILENT,
        FlagReason.USAGE_DROP,
        FlagReason.SEATS_IDLE,
        FlagReason.CHAMPION_LOST,
        FlagReason.ONBOARDING_STALLED,
    }
)
_URGENT_DAYS = 30
# The others say that something is worse, late or over, one at a time.
_BEGINNINGS = frozenset(
    {
        NotifyReason.FIRST,
        NotifyReason.UNMUTED,
        NotifyReason.NEW_REASON,
        NotifyReason.OWNER_CHANGED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """What speaks against telling, and until when; None: until something happens."""

    against: SuppressReason
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What holds for an account, or for all of them, whatever its interventions say."""

    account_lost: bool = False
    outage_since: datetime | None = None
    """Some source sends too little since then."""
    is_restored: bool = False
    is_mass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """More new interventions for one recipient than `limit` within so long are one message."""

    limit: int = 20
    within: timedelta = timedelta(minutes=15)


def why_muted(  # noqa: PLR0911 - one each, in their order
    subject: Intervention,
    around: Surroundings,
    *,
    told_at: datetime | None,
    silenced_until: datetime | None,
    now: datetime,
) -> Mute | None:
    """Why nobody is told of it now.

    `told_at`: when this destination was told of it last; `silenced_until`: the end of the silences
    that match it.
    """
    if _is_doubtful(subject, around):
        return Mute(against=SuppressReason.DATA_STALE)
    if around.is_restored:
        return Mute(against=SuppressReason.RESTORED)
    if around.is_mass:
        return Mute(against=SuppressReason.MASS_FLAGS)
    if around.account_lost and subject.reason is not OwnReason.ACCOUNT_LOST:
        return Mute(against=SuppressReason.INHIBITED)
    if subject.is_kept_from_all:
        return Mute(against=SuppressReason.HELD_OUT)
    if silenced_until is not None and silenced_until > now:
        return Mute(against=SuppressReason.SILENCED, until=silenced_until)
    snooze = subject.snooze
    if snooze and subject.is_snoozed(now) and not subject.breaks_through(told_at):
        return Mute(against=SuppressReason.SNOOZED, until=snooze.until)
    return None


def why_held_back(
    reason: NotifyReason,
    *,
    is_urgent: bool,
    mode: Mode,
    in_storm: bool,
    opens_at: datetime | None,
) -> Mute | None:
    """Why this recipient is not told now.

    `opens_at`: when their next working hours begin; None: they are at work, or nobody's.
    """
    if is_urgent or reason is NotifyReason.UPDATED:
        return None
    if mode is not Mode.REAL_TIME:
        return Mute(against=SuppressReason.PREFERENCE)
    if in_storm and reason in _BEGINNINGS:
        return Mute(against=SuppressReason.STORM)
    if opens_at is not None:
        return Mute(against=SuppressReason.QUIET_HOURS, until=opens_at)
    return None


def is_urgent(subject: Intervention, *, value_from: Decimal, now: datetime) -> bool:
    """Whether it may break into quiet hours: critical, much at stake, and hardly any time left."""
    value = subject.value_at_risk
    return (
        subject.severity is Band.CRITICAL
        and subject.notice_by is not None
        and (subject.notice_by - now.date()).days < _URGENT_DAYS
        and value is not None
        and value.amount >= value_from
    )


def _is_doubtful(subject: Intervention, around: Surroundings) -> bool:
    return (
        around.outage_since is not None
        and subject.reason in USAGE_REASONS
        and subject.seen.raised_at >= around.outage_since
    )
