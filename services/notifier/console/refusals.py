"""What a person reads where their step was not taken; each says what to do next."""

from collections.abc import Mapping
from typing import Final

from services.notifier.domain.refusals import Refusal
from services.notifier.domain.silences import Refused

SAID: Final[Mapping[Refusal, tuple[str, str]]] = {
    Refusal.STALE: (
        "Somebody was faster",
        "It has changed since you opened the page; your step was not taken. Look and decide again.",
    ),
    Refusal.UNKNOWN: (
        "Not there any more",
        "There is no such intervention, task or account. Nothing was changed.",
    ),
    Refusal.CLOSED: (
        "Closed already",
        "Somebody else, or the system, has closed this intervention. Nothing was changed.",
    ),
    Refusal.ACKNOWLEDGED: (
        "Acknowledged already",
        "Somebody has taken this on already. Nothing was changed.",
    ),
    Refusal.NOT_CLOSED: (
        "Open again",
        "It has been opened again since: there is no outcome to correct. Nothing was changed.",
    ),
    Refusal.NOT_SNOOZED: ("Not snoozed", "The snooze is over already. Nothing was changed."),
    Refusal.UNCHANGED: ("So already", "It is as you want it to be. Nothing was changed."),
    Refusal.NOTE_MISSING: (
        "A note is needed",
        "Say why: a false alarm, a loss or a bad sentiment needs a word. Go back and add a note.",
    ),
    Refusal.REASON_MISSING: (
        "A reason is needed",
        "Say why it can wait, for whoever asks later. Go back and add a reason.",
    ),
    Refusal.OWNER_MISSING: (
        "An owner is needed",
        "Somebody must have it: go back and give the e-mail address of a colleague.",
    ),
    Refusal.PAST: ("That is past", "Choose a day that is still to come. Nothing was changed."),
    Refusal.TOO_LONG: (
        "That is too long",
        "A snooze ends within 60 days, a sentiment within a year. Go back and choose less.",
    ),
    Refusal.AFTER_NOTICE: (
        "Too late to act then",
        "By then the customer may have given notice. Go back and choose an earlier day.",
    ),
    Refusal.KEY_REUSED: (
        "Sent twice",
        "The same form came for two steps; the second was not taken. Load the page and repeat it.",
    ),
    Refusal.NOT_YOURS: (
        "Somebody else's work",
        "You may act on your own work and on what is nobody's. Ask a manager to hand it to you.",
    ),
}
"""One entry for every refusal; a test keeps it complete."""

SILENCE: Final[Mapping[Refused, tuple[str, str]]] = {
    Refused.MATCHES_ALL: (
        "That would silence everything",
        "Name at least an account, owner, segment, reseller, type or reason. None was silenced.",
    ),
    Refused.NO_COMMENT: (
        "A comment is needed",
        "Say why nobody needs to hear of it, for whoever asks later. Nothing was silenced.",
    ),
    Refused.BACKWARDS: ("It ends before it begins", "Choose an end after the start."),
    Refused.PAST: ("That is past", "Choose an end that is still to come. Nothing was silenced."),
    Refused.TOO_LONG: (
        "That is too long",
        "A silence ends within 180 days; add another one then, if it is still needed.",
    ),
}

_INCOMPLETE: Final = frozenset(
    {
        Refusal.NOTE_MISSING,
        Refusal.REASON_MISSING,
        Refusal.OWNER_MISSING,
        Refusal.PAST,
        Refusal.TOO_LONG,
        Refusal.AFTER_NOTICE,
    }
)


def status_of(refusal: Refusal) -> int:
    """The HTTP status of the page that says so."""
    if refusal is Refusal.UNKNOWN:
        return 404
    if refusal is Refusal.NOT_YOURS:
        return 403
    return 422 if refusal in _INCOMPLETE else 409
