"""What Slack refuses a message, an edit or a modal for (limits: Slack's reference of Block Kit)."""

from collections.abc import Iterator
from typing import Any, TypeAlias

Payload: TypeAlias = dict[str, Any]

_SECTION = 3_000
_HEADER = 150
_HEADER_COSTS = 100  # in the total, beside its text: measured by others
_TOTAL = 13_200
_BLOCKS = 50
_VIEW_BLOCKS = 100
_ACTIONS = 25
_CONTEXT = 10
_LABEL = 75
_VALUE = 2_000
_OPTION_VALUE = 150
_OPTIONS = 100
_ID = 255
_FALLBACK = 40_000
_EDITED_BYTES = 4_000  # of `text` in an edit: measured by others
_TITLE = 24
_METADATA = 3_000


def problem_with(payload: Payload, *, edited: bool = False) -> str | None:
    """The error Slack would answer with; None where it takes the message."""
    text, blocks = payload.get("text", ""), payload.get("blocks", [])
    if not text and not blocks:
        return "no_text"
    if not isinstance(text, str) or length(text) > _FALLBACK:
        return "msg_too_long"
    if edited and len(text.encode()) > _EDITED_BYTES:
        return "msg_too_long"
    return _problem_with_blocks(blocks, most=_BLOCKS)


def problem_with_view(view: Payload) -> str | None:
    """As `problem_with`, for `views.open`."""
    titles = [view.get(name, {}).get("text", "") for name in ("title", "submit", "close")]
    if view.get("type") != "modal" or not titles[0] or any(length(one) > _TITLE for one in titles):
        return "invalid_arguments"
    if length(view.get("private_metadata", "")) > _METADATA or len(view["callback_id"]) > _ID:
        return "invalid_arguments"
    asks = any(block.get("type") == "input" for block in view["blocks"])
    if asks and not titles[1]:
        return "invalid_arguments"
    return _problem_with_blocks(view["blocks"], most=_VIEW_BLOCKS)


def length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def texts_of(node: object) -> Iterator[str]:
    """Every text that is shown."""
    if isinstance(node, list):
        for child in node:
            yield from texts_of(child)
    elif isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield node["text"]
        for name in ("text", "fields", "elements", "options", "placeholder", "label", "element"):
            if isinstance(node.get(name), list | dict):
                yield from texts_of(node[name])


def _problem_with_blocks(blocks: object, *, most: int) -> str | None:
    if not isinstance(blocks, list) or len(blocks) > most:
        return "invalid_blocks"
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    if len(set(ids)) < len(ids) or any(not 0 < len(one) <= _ID for one in ids):
        return "invalid_blocks"
    if not all(map(_is_valid, blocks)):
        return "invalid_blocks"
    headers = sum(block["type"] == "header" for block in blocks)
    total = sum(map(length, texts_of(blocks))) + headers * _HEADER_COSTS
    return "msg_blocks_too_long" if total > _TOTAL else None


def _is_valid(block: Payload) -> bool:
    match block.get("type"):
        case "section" | "header" as kind:
            is_header = kind == "header"
            return _is_text(block.get("text"), _HEADER if is_header else _SECTION, plain=is_header)
        case "context":
            texts = block["elements"]
            return 0 < len(texts) <= _CONTEXT and all(_is_text(one, _SECTION) for one in texts)
        case "actions":
            controls = block["elements"]
            ids = {one["action_id"] for one in controls}
            return 0 < len(controls) == len(ids) <= _ACTIONS and all(map(_is_control, controls))
        case "input":
            label = block.get("label")
            return _is_text(label, _VALUE, plain=True) and _is_control(block["element"])
    return block.get("type") == "divider"


def _is_control(element: Payload) -> bool:
    if not 0 < len(element["action_id"]) <= _ID:
        return False
    match element["type"]:
        case "button":
            return (
                _is_text(element.get("text"), _LABEL, plain=True)
                and length(element.get("value", "")) <= _VALUE
                and element.get("style") in (None, "primary", "danger")
            )
        case "static_select":
            options = element["options"]
            return 0 < len(options) <= _OPTIONS and all(
                _is_text(option["text"], _LABEL, plain=True)
                and 0 < length(option["value"]) <= _OPTION_VALUE
                for option in options
            )
        case "plain_text_input":
            return int(element.get("max_length", 1)) <= _SECTION
        case _:
            return False


def _is_text(node: Any, limit: int, *, plain: bool = False) -> bool:
    kinds = ("plain_text",) if plain else ("mrkdwn", "plain_text")
    return node.get("type") in kinds and 0 < length(node["text"]) <= limit
