"""Shows a message of Block Kit as a page, plainly: what a channel of Slack would show, no more.

Text that Slack would act on is marked, so that a picture shows what became active.
"""

import html
import re
from collections.abc import Sequence
from typing import Any

from tests.standins.slack_limits import Payload

_LINK = re.compile(r"<(https?://[^|>]*)\|([^>]*)>")
_ACTIVE = re.compile(r"<([@!#][^>]*)>")
_BOLD = re.compile(r"(?<!\w)\*([^*\n]+)\*(?!\w)")
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}

_STYLE = """
body { font: 15px/1.46 Lato, "Liberation Sans", Arial, sans-serif; color: #1d1c1d; margin: 0;
  background: #fff; width: 760px; padding: 16px 20px; box-sizing: border-box; }
.message { display: grid; grid-template-columns: 36px 1fr; gap: 0 8px; padding: 8px 0; }
.reply { margin-left: 44px; border-left: 2px solid #ddd; padding-left: 12px; }
.face { width: 36px; height: 36px; border-radius: 6px; background: #2e7d5b; color: #fff;
  font-weight: 700; display: grid; place-items: center; }
.name { font-weight: 900; } .app { font-size: 10px; background: #e8e8e8; padding: 1px 3px;
  border-radius: 2px; color: #616061; margin: 0 4px; } .when, .edited { color: #616061; font-size: 12px; }
.section { margin: 4px 0; white-space: pre-line; overflow-wrap: anywhere; }
.header { font-size: 18px; font-weight: 900; margin: 8px 0 4px; }
.context { color: #616061; font-size: 13px; margin: 4px 0; }
.actions { margin: 6px 0; display: flex; gap: 8px; flex-wrap: wrap; }
button, select { font: 700 14px Arial, sans-serif; height: 36px; padding: 0 12px; border-radius: 4px;
  border: 1px solid #bbb; background: #fff; } .primary { background: #007a5a; color: #fff; border: 0; }
a { color: #1264a3; text-decoration: none; } hr { border: 0; border-top: 1px solid #ddd; }
.active { background: #fdf2d0; color: #1264a3; }
label { display: block; font-weight: 700; margin: 12px 0 4px; } textarea { width: 90%; height: 60px; }
.push { background: #f3f3f5; border-radius: 10px; padding: 8px 12px; margin-bottom: 12px; font-size: 13px; }
.modal { border: 1px solid #ccc; border-radius: 8px; padding: 12px 20px; width: 520px; }
"""  # noqa: E501 - a style sheet


def to_html(*messages: Payload, replies: Sequence[Payload] = (), edited: bool = False) -> str:
    """A page with the messages one below the other, the replies in the thread of the last."""
    shown = [_message(one, edited=edited) for one in messages]
    shown += [f'<div class="reply">{_message(one)}</div>' for one in replies]
    return _page("".join(shown))


def push_to_html(message: Payload) -> str:
    """As a telephone's notice, cut as telephones cut."""
    return _page(f'<div class="push"><b>Perennial</b><br>{_mrkdwn(message["text"][:178])}</div>')


def view_to_html(view: Payload) -> str:
    body = "".join(map(_block, view["blocks"]))
    submit = view.get("submit")
    button = f'<button class="primary">{html.escape(submit["text"])}</button>' if submit else ""
    title = html.escape(view["title"]["text"])
    return _page(f'<div class="modal"><div class="header">{title}</div>{body}<p>{button}</p></div>')


def _page(body: str) -> str:
    head = f"<meta charset='utf-8'><title>Slack</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>"


def _message(payload: Payload, *, edited: bool = False) -> str:
    blocks = payload.get("blocks") or []
    text = f'<div class="section">{_mrkdwn(payload["text"])}</div>'
    body = "".join(map(_block, blocks)) if blocks else text
    mark = ' <span class="edited">(edited)</span>' if edited else ""
    who = '<span class="name">Perennial</span><span class="app">APP</span>'
    return (
        f'<div class="message"><div class="face">P</div><div>{who}'
        f'<span class="when">9:41 AM</span>{mark}{body}</div></div>'
    )


def _block(block: Payload) -> str:
    match block["type"]:
        case "section":
            return f'<div class="section">{_text(block["text"])}</div>'
        case "header":
            return f'<div class="header">{_text(block["text"])}</div>'
        case "context":
            return f'<div class="context">{" ".join(map(_text, block["elements"]))}</div>'
        case "actions":
            return f'<div class="actions">{"".join(map(_control, block["elements"]))}</div>'
        case "input":
            return f"<label>{_text(block['label'])}</label>{_control(block['element'])}"
    return "<hr>"


def _control(element: dict[str, Any]) -> str:
    match element["type"]:
        case "button":
            return f'<button class="{element.get("style", "")}">{_text(element["text"])}</button>'
        case "static_select":
            options = [element["placeholder"], *(one["text"] for one in element["options"])]
            chosen = "".join(f"<option>{_text(one)}</option>" for one in options)
            return f"<select>{chosen}</select>"
    return "<textarea></textarea>"


def _text(node: Payload) -> str:
    return _mrkdwn(node["text"]) if node["type"] == "mrkdwn" else html.escape(node["text"])


def _mrkdwn(text: str) -> str:
    """Slack's own order: what stands in angle brackets, then its three entities, then marks."""
    parts: list[str] = []

    def keep(shown: str) -> str:
        parts.append(shown)
        return f"\0{len(parts) - 1}\0"

    held = _LINK.sub(lambda found: keep(f'<a href="#">{_plain(found[2])}</a>'), text)
    held = _ACTIVE.sub(lambda found: keep(f'<span class="active">{_plain(found[1])}</span>'), held)
    shown = _BOLD.sub(r"<b>\1</b>", _plain(held))
    return re.sub("\0([0-9]+)\0", lambda found: parts[int(found[1])], shown)


def _plain(text: str) -> str:
    return html.escape(re.sub("&(?:amp|lt|gt);", lambda found: _ENTITIES[found[0]], text))
