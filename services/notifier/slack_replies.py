"""What somebody who presses something in Slack gets: an answer, a word in private, or a modal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.notifier.channels import Item
from services.notifier.channels.slack_blocks import Payload
from services.notifier.channels.slack_modals import whisper
from services.notifier.domain.refusals import Refusal
from services.notifier.slack_payloads import Click, Place

UNKNOWN_BUTTON: Final = "This button is not known any more. Open the account in Perennial."
GONE: Final = "This intervention is not there any more."
_REFUSALS = {
    Refusal.STALE: "It has changed since this message: nothing was done. This is how it is now.",
    Refusal.CLOSED: "It is closed already: nothing was done.",
    Refusal.ACKNOWLEDGED: "It is acknowledged already.",
    Refusal.NOT_YOURS: "It is not yours to act on: ask its owner, or a manager to hand it to you.",
    Refusal.TOO_LONG: "Nobody can snooze for longer than 60 days: nothing was done.",
    Refusal.AFTER_NOTICE: "That would end after the last day for notice: nothing was done.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisper:
    user: str
    place: Place
    payload: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Modal:
    trigger_id: str
    view: Payload
    otherwise: Whisper | None
    """Said where Slack does not open it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What Slack is answered at once (None: nothing but that we have it), and what follows."""

    body: Mapping[str, Any] | None = None
    then: Whisper | Modal | None = None


def tell(click: Click, text: str, item: Item | None = None, *, buttons: bool = True) -> Reply:
    if click.place is None:
        return Reply()
    said = whisper(text, item, buttons=buttons)
    return Reply(then=Whisper(user=click.user, place=click.place, payload=said))


def errors(field: str, text: str) -> Reply:
    """A form stays open, and says it below that field."""
    return Reply(body={"response_action": "errors", "errors": {field: text}})


def update(view: Payload) -> Reply:
    """Another form takes the place of the one that was sent off."""
    return Reply(body={"response_action": "update", "view": view})


def stranger(user: str) -> str:
    return f"Perennial does not know you: ask for your Slack id {user} to be added to the team."


def why_not(refusal: Refusal) -> str:
    return _REFUSALS.get(refusal, "Nothing was done.")
