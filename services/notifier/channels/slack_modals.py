"""What a person sees who has pressed a button: the form that closes, and a word in private."""

from typing import Final

from services.notifier.channels import Item, wording
from services.notifier.channels.slack_blocks import (
    Payload,
    controls,
    identified,
    inert,
    lines_of,
    plain_text,
    section,
)
from shared.messages import OutcomeKind

CLOSE: Final = "close"
OUTCOME: Final = "outcome"
NOTE: Final = "note"
_NOTE_LENGTH = 3_000
_SAID = 300


def close_form(item: Item, *, target: str, notice: str = "") -> Payload:
    """The modal; what stands in its fields already stays there where it takes another's place."""
    words = [inert(notice, _SAID)] if notice else []
    outcomes = [
        {"text": plain_text(wording.OUTCOME[one]), "value": one.value} for one in OutcomeKind
    ]
    form: list[Payload] = [
        {
            "type": "input",
            "block_id": OUTCOME,
            "label": plain_text("How did it end?"),
            "element": {
                "type": "static_select",
                "action_id": OUTCOME,
                "placeholder": plain_text("Choose an outcome"),
                "options": outcomes,
            },
        },
        {
            "type": "input",
            "block_id": NOTE,
            "optional": True,
            "label": plain_text("Note"),
            "hint": plain_text("Needed where it was a false alarm, or the account was lost."),
            "element": {
                "type": "plain_text_input",
                "action_id": NOTE,
                "multiline": True,
                "max_length": _NOTE_LENGTH,
            },
        },
    ]
    about = identified([section(text) for text in (*words, lines_of(item))])
    return _modal("Close intervention", about + form, target=target) | {
        "submit": plain_text("Close it")
    }


def told_form(text: str, item: Item | None = None) -> Payload:
    """The modal when nothing is left to fill in."""
    about = [lines_of(item)] if item else []
    blocks = identified([section(one) for one in (inert(text, _SAID), *about)])
    return _modal("Perennial", blocks, target="")


def whisper(text: str, item: Item | None = None, *, buttons: bool = True) -> Payload:
    """A message that one person sees: what is so, the intervention, and its present buttons."""
    said = inert(text, _SAID)
    blocks = [section(said)]
    if item is not None:
        blocks.append(section(lines_of(item)))
        row = controls(item) if buttons else None
        if row is not None:
            blocks.append(row)
    return {"text": said, "blocks": identified(blocks)}


def _modal(title: str, blocks: list[Payload], *, target: str) -> Payload:
    return {
        "type": "modal",
        "callback_id": CLOSE,
        "private_metadata": target,
        "title": plain_text(title),
        "close": plain_text("Back"),
        "blocks": blocks,
    }
