"""When to tell somebody, and what speaks against it; every decision has its reason.

Judged per intervention and destination, against what that destination was told last. What was told
is written only after a channel has accepted the message, so a lost message is decided anew.
"""

from dataclasses import dataclass
from enum import StrEnum

from services.notifier.domain.interventions import Intervention, Status, is_worse
from shared.messages import Band


class NotifyReason(StrEnum):
    """Why a person is told."""

    FIRST = "first"
    SEVERITY_RAISED = "severity_raised"
    OWNER_CHANGED = "owner_changed"
    UNDELIVERED = "undelivered"


class SuppressReason(StrEnum):
    """Why a person is not told although something happened; stored, counted and shown."""

    NO_LONGER_WANTED = "no_longer_wanted"
    INHIBITED = "inhibited"
    REASSIGNED = "reassigned"
    ACKNOWLEDGED = "acknowledged"
    ALREADY_TOLD = "already_told"
    NO_DESTINATION = "no_destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one destination was told last about an intervention."""

    flag_id: str
    flag_episode: int
    severity: Band
    owner: str


def told_by(subject: Intervention) -> Told:
    """What a message about the intervention, as it is now, tells."""
    return Told(
        flag_id=subject.seen.flag_id,
        flag_episode=subject.seen.episode,
        severity=subject.severity,
        owner=subject.owner,
    )


def why_notify(
    subject: Intervention, told: Told | None, *, told_elsewhere: Told | None = None
) -> NotifyReason | None:
    """The reason to tell one destination, or None.

    `told_elsewhere`: what another destination was told of it; where that named another owner, a
    destination that was never told belongs to the new one.
    """
    if not subject.is_open or subject.recovered_at is not None:
        return None
    if told is None or not _same_flag(subject, told):
        handed_over = (
            told_elsewhere is not None
            and _same_flag(subject, told_elsewhere)
            and told_elsewhere.owner != subject.owner
        )
        return NotifyReason.OWNER_CHANGED if handed_over else NotifyReason.FIRST
    if is_worse(subject.severity, told.severity):
        return NotifyReason.SEVERITY_RAISED
    if subject.owner != told.owner:
        return NotifyReason.OWNER_CHANGED
    return None


def still_wanted(
    subject: Intervention,
    told: Told | None,
    *,
    reason: NotifyReason,
    account_lost: bool,
    for_owner: bool = True,
) -> SuppressReason | None:
    """What speaks against a message decided for `reason`; asked again right before sending.

    `for_owner`: whether the destination is (still) one of the intervention's owner.
    """
    if not subject.is_open or subject.recovered_at is not None:
        return SuppressReason.NO_LONGER_WANTED
    if account_lost:
        return SuppressReason.INHIBITED
    if not for_owner:
        return SuppressReason.REASSIGNED
    if why_notify(subject, told) is None:
        return SuppressReason.ALREADY_TOLD
    if reason is NotifyReason.FIRST and _is_handled(subject):
        return SuppressReason.ACKNOWLEDGED
    return None


def _same_flag(subject: Intervention, told: Told) -> bool:
    return (told.flag_id, told.flag_episode) == (subject.seen.flag_id, subject.seen.episode)


def _is_handled(subject: Intervention) -> bool:
    """Whether somebody took it on after this very flag was raised: they need no message."""
    return (
        subject.status is Status.ACKNOWLEDGED
        and subject.acknowledged_at is not None
        and subject.acknowledged_at >= subject.seen.raised_at
    )
