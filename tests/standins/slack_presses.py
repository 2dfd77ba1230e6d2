"""What Slack sends for a person who presses something in a message of FakeSlack's, signed."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.standins.slack import SIGNING_SECRET, Shown
from tests.standins.slack_limits import Payload

_moments = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request as it stands on the wire."""

    body: bytes
    headers: dict[str, str]


def press(
    shown: Shown, action: str, *, user: str, choose: str | None = None, item: int = 0
) -> Payload:
    """Of the n-th item that has that control; `choose`: the end of the option's value."""
    controls = [
        (block, element)
        for block in shown.payload["blocks"]
        if block["type"] == "actions"
        for element in block["elements"]
        if element["action_id"] == action
    ]
    block, element = controls[item]
    moment = f"1700000100.{next(_moments):06}"
    pressed: Payload = {
        "type": element["type"],
        "action_id": action,
        "block_id": block["block_id"],
        "action_ts": moment,
    }
    if choose is None:
        pressed["value"] = element["value"]
    else:
        options = element["options"]
        pressed["selected_option"] = next(
            one for one in options if one["value"].endswith(f":{choose}")
        )
    return {
        "type": "block_actions",
        "user": {"id": user, "username": "somebody", "team_id": "T000"},
        "api_app_id": "A000",
        "container": {
            "type": "message",
            "message_ts": shown.ts,
            "channel_id": shown.channel,
            "is_ephemeral": False,
        }
        | ({"thread_ts": shown.thread_ts} if shown.thread_ts else {}),
        "trigger_id": f"trigger-{moment}",
        "team": {"id": "T000", "domain": "vendor"},
        "channel": {"id": shown.channel, "name": "customer-success"},
        "message": {"type": "message", "ts": shown.ts, **shown.payload},
        "response_url": "https://hooks.slack.com/actions/T000/1/secret",
        "actions": [pressed],
    }


def submit(view: Payload, *, user: str, outcome: str | None, note: str | None = None) -> Payload:
    """The form that closes, sent off."""
    chosen: Any = None if outcome is None else {"value": outcome, "text": {"text": outcome}}
    return {
        "type": "view_submission",
        "user": {"id": user, "username": "somebody", "team_id": "T000"},
        "team": {"id": "T000", "domain": "vendor"},
        "view": {
            **view,
            "id": "V" + hashlib.sha256(view["private_metadata"].encode()).hexdigest()[:9].upper(),
            "hash": "156772938.1827394",
            "state": {
                "values": {
                    "outcome": {"outcome": {"type": "static_select", "selected_option": chosen}},
                    "note": {"note": {"type": "plain_text_input", "value": note}},
                }
            },
        },
    }


def signed(
    payload: Payload | bytes, *, at: datetime, secret: str = SIGNING_SECRET, **headers: str
) -> Sent:
    """`payload`: what is pressed, or a body as it is; `headers` replace those of Slack."""
    body = payload
    if not isinstance(body, bytes):
        body = urlencode({"payload": json.dumps(payload)}).encode()
    stamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    usual = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest}",
    }
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Sent(body=body, headers=usual | given)
