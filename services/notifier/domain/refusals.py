"""Why a person's step was not taken."""

from enum import StrEnum


class Refusal(StrEnum):
    STALE = "stale"
    """It has changed since the person looked."""
    UNKNOWN = "unknown"
    """There is no such intervention, task or account."""
    CLOSED = "closed"
    NOT_CLOSED = "not_closed"
    ACKNOWLEDGED = "acknowledged"
    NOT_SNOOZED = "not_snoozed"
    UNCHANGED = "unchanged"
    NOTE_MISSING = "note_missing"
    REASON_MISSING = "reason_missing"
    OWNER_MISSING = "owner_missing"
    PAST = "past"
    TOO_LONG = "too_long"
    AFTER_NOTICE = "after_notice"
    """A snooze would end when the customer can no longer be kept from giving notice."""
    KEY_REUSED = "key_reused"
    """The request's key belongs to another step."""
    NOT_YOURS = "not_yours"
    """It is somebody else's work, or the role of who asks takes no steps at all."""
