"""Renders a message as Slack's blocks, within all of its limits.

Slack takes 50 blocks and about 13,200 rendered characters, a section 3,000, a button's value
2,000, an option's 150, and as the `text` of an edited message 4,000 bytes.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, TypeAlias

from services.notifier.channels import Item, Message, wording
from services.notifier.domain.interventions import Status
from services.notifier.domain.snoozes import LABELS, Put

Payload: TypeAlias = dict[str, Any]
Block: TypeAlias = dict[str, Any]

_BLOCKS = 50
# Below Slack's, whose way of counting is not documented, with room for what ends the message.
_ROOM = 11_500
# So short that the first lines hold all that counts, whatever a customer calls itself.
_NAME = 60
_TASK = 100
_LINE = 300
# In all fewer than 4,000 bytes, where each letter takes three.
_PUSH = 900
_PUSH_PART = 200
_SAID = 2_000
_REASONS = 4
_ESCAPES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    # Three of them, in two places, would turn all between them into code.
    "`": "'",
}
_USER = re.compile(r"[UW][A-Z0-9]{2,20}")


class Press(StrEnum):
    """What can be pressed: the `action_id`."""

    ACKNOWLEDGE = "acknowledge"
    SNOOZE = "snooze"
    CLOSE = "close"


def render(message: Message, *, buttons: bool) -> Payload:
    """The payload without its address. `buttons`: whether anybody hears them."""
    # A thread tells what is new; the rest stands in the message above it.
    is_reply = message.thread is not None and not message.edit
    items = wording.news(message) if is_reply else message.items
    payload: Payload = {
        "text": push(message, items),
        "unfurl_links": False,
        "unfurl_media": False,
    }
    if message.plain:
        # An edit without blocks would leave those of before.
        empty: Payload = {"blocks": []} if message.edit else {}
        # Bare text has no `verbatim`: what looks like an address would become a link.
        said = f"{_call(message)}{wording.unlinked(payload['text'])}\n<{message.url}>"
        return payload | empty | {"text": said}
    found = _blocks(message, items, is_reply=is_reply, buttons=buttons)
    return payload | {"blocks": identified(found)}


def push(message: Message, items: Sequence[Item]) -> str:
    """What a telephone shows: account, severity, value, why, until when, whose, renewal."""
    if not items:
        return inert(wording.clean(message.text) or wording.TEST, _PUSH)
    if wording.is_overview(message):
        return inert(wording.title(message), _PUSH)
    item = wording.news(message)[0]
    parts = (wording.headline(item), wording.why(item), wording.deadline(item), wording.whose(item))
    said = _joined([inert(part, _PUSH_PART) for part in parts])
    others = len(items) - 1 + message.more
    more = f" (+{others} more)" if others > 0 else ""
    return f"{inert(wording.name(item), _NAME)}: {said}{more}"


def lines_of(item: Item, *, whose: bool = True) -> str:
    """One intervention: in two lines who, how much, until when, where to click, what to do, why."""
    deadline, task = inert(wording.deadline(item), _LINE), inert(wording.todo(item), _TASK)
    first = [f"*{inert(wording.name(item), _NAME)}*", f"*{inert(wording.headline(item), _LINE)}*"]
    first += [f"*{deadline}*" if deadline else "", f"<{item.url}|Open>"]
    second = [f"*{task}*" if task else "", inert(wording.why(item), _LINE)]
    state = inert(wording.state(item), _NAME * 2)
    third = [f"*{state[:1].upper()}{state[1:]}*" if state else ""]
    third += [inert(wording.whose(item), _LINE) if whose else ""]
    return "\n".join(line for line in map(_joined, (first, second, third)) if line)


def controls(item: Item) -> Block | None:
    """What can be done with it from here; None where it is closed."""
    if item.status is Status.CLOSED:
        return None
    value = f"{item.intervention_id}:{item.version}"
    elements: list[Block] = []
    if item.status is Status.OPEN:
        elements.append(_button("Acknowledge", Press.ACKNOWLEDGE, value) | {"style": "primary"})
    if item.snoozed_until is None and not item.recovered:
        options = [
            {"text": plain_text(label), "value": f"{value}:{put.value}"}
            for put, label in LABELS.items()
            if put is not Put.NOTICE or item.renewal_date is not None
        ]
        elements.append(
            {
                "type": "static_select",
                "action_id": Press.SNOOZE.value,
                "placeholder": plain_text("Snooze"),
                "options": options,
            }
        )
    elements.append(_button("Close…", Press.CLOSE, value))
    return {"type": "actions", "elements": elements}


def identified(blocks: Sequence[Block]) -> list[Block]:
    """Each with an id that changes with it: else an edit may keep what the old one showed."""
    return [
        block | {"block_id": f"{number}-{_digest(block)}"} for number, block in enumerate(blocks)
    ]


def inert(text: str, limit: int) -> str:
    """Text from outside: one line, escaped, at most `limit` UTF-16 units."""
    return wording.cut(wording.clean(text), limit, escape=escape)


def escape(char: str) -> str:
    """Slack's three characters; everything that Slack would act on begins with one of them."""
    return _ESCAPES.get(char, char)


def section(text: str) -> Block:
    return {"type": "section", "text": _mrkdwn(text)}


def plain_text(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}


def _blocks(
    message: Message, items: Sequence[Item], *, is_reply: bool, buttons: bool
) -> list[Block]:
    found: list[Block] = []
    if said := _said_first(message, items):
        found.append(section(inert(said, _SAID)))
    is_overview, said_of = wording.is_overview(message), ""
    shown = 0
    for item in items:
        # Several of one account have the same owner and renewal: once is enough.
        whose = f"{item.account_id}\0{wording.whose(item)}"
        about = [section(lines_of(item, whose=whose != said_of and not is_overview))]
        if len(items) == 1 and (more := _more(item)):
            about.append(section(more))
        if buttons and not is_overview and (row := controls(item)) is not None:
            about.append(row)
        if len(found) + len(about) > _BLOCKS - 2 or _length(found) + _length(about) > _ROOM:
            break
        found += about
        said_of = whose
        shown += 1
    found[0] = section(f"{_lead(message, is_reply=is_reply)}{found[0]['text']['text']}")
    left_out = len(items) - shown + message.more
    if left_out > 0:
        found.append(section(f"<{message.url}|+{left_out:,} more in Perennial>"))
    ids = {inert(item.account_id, _NAME) for item in items}
    told = [] if is_reply else [wording.WHY[message.why]]
    if said := _joined([*told, *(ids if len(ids) == 1 else ())]):
        found.append({"type": "context", "elements": [_mrkdwn(said)]})
    return found


def _said_first(message: Message, items: Sequence[Item]) -> str:
    text = wording.clean(message.text)
    if not items:
        return text or wording.TEST
    return _joined([wording.overview(message), text]) if wording.is_overview(message) else text


def _lead(message: Message, *, is_reply: bool) -> str:
    """What comes before the first line: whom it calls, and in a thread what has happened."""
    happened = f"{wording.WHY[message.why]}: " if is_reply else ""
    # Of an edited message nobody is told anyway.
    return f"{'' if message.edit else _call(message)}{happened}"


def _call(message: Message) -> str:
    is_user = message.mention is not None and _USER.fullmatch(message.mention) is not None
    return f"<@{message.mention}> " if is_user else ""


def _more(item: Item) -> str:
    """The other reasons, as many as fit."""
    first = wording.why(item)
    others = [text for text in wording.evidence(item) if text not in first]
    lines = [f"• {inert(text, _LINE)}" for text in others[:_REASONS]]
    if len(others) > _REASONS:
        lines.append(f"+{len(others) - _REASONS} more in Perennial")
    return "\n".join(lines)


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(part for part in parts if part)


def _button(label: str, press: Press, value: str) -> Block:
    return {
        "type": "button",
        "action_id": press.value,
        "text": plain_text(label),
        "value": value,
    }


def _mrkdwn(text: str) -> Block:
    # `verbatim`: Slack makes no links of its own out of what a customer called itself.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _digest(block: Block) -> str:
    return hashlib.sha256(json.dumps(block, sort_keys=True).encode()).hexdigest()[:16]


def _length(node: object) -> int:
    """UTF-16 units of all that Slack might count: texts, labels and values."""
    if isinstance(node, str):
        return len(node.encode("utf-16-le", "surrogatepass")) // 2
    if isinstance(node, dict):
        return sum(_length(part) for part in node.values())
    if isinstance(node, list | tuple):
        return sum(map(_length, node))
    return 0
