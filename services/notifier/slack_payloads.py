"""What Slack sends when somebody presses something: from bytes to values, or MalformedPayload."""

import hashlib
import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from shared.errors import PerennialError

_FIELD = "payload"
_TARGET = re.compile(r"([0-9a-f-]{36}):([0-9]{1,9})(?::([a-z0-9]{1,20}))?")


class MalformedPayload(PerennialError):
    """It is signed, and yet not what Slack sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which intervention, as the person saw it; `choice`: of a list."""

    intervention_id: UUID
    version: int
    choice: str | None = None

    def __str__(self) -> str:
        return f"{self.intervention_id}:{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it was pressed, and so where the answer is shown."""

    channel: str
    thread_ts: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    user: str
    action: str
    value: str
    at: str
    """Slack's time of the click: another click has another."""
    trigger_id: str
    place: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A modal that was sent off; `fields` by the id of their block."""

    user: str
    view_id: str
    callback_id: str
    metadata: str
    fields: dict[str, str]


Pressed: TypeAlias = Click | Submission


class _Id(msgspec.Struct, frozen=True):
    id: str


class _Option(msgspec.Struct, frozen=True):
    value: str


class _Action(msgspec.Struct, frozen=True):
    action_id: str
    action_ts: str = ""
    value: str | None = None
    selected_option: _Option | None = None


class _Threaded(msgspec.Struct, frozen=True):
    thread_ts: str | None = None


class _Input(msgspec.Struct, frozen=True):
    value: str | None = None
    selected_option: _Option | None = None


class _State(msgspec.Struct, frozen=True):
    values: dict[str, dict[str, _Input]] = {}


class _View(msgspec.Struct, frozen=True):
    id: str
    callback_id: str = ""
    private_metadata: str = ""
    state: _State = _State()


class _Payload(msgspec.Struct, frozen=True):
    type: str
    user: _Id
    trigger_id: str = ""
    actions: tuple[_Action, ...] = ()
    channel: _Id | None = None
    container: _Threaded = _Threaded()
    message: _Threaded = _Threaded()
    view: _View | None = None


_decoder = msgspec.json.Decoder(_Payload)


def decode(body: bytes) -> Pressed | None:
    """What was pressed; None where it is of no interest. Raises MalformedPayload."""
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict"
        )
        fields = [value for name, value in pairs if name == _FIELD]
        if len(fields) != 1:
            raise MalformedPayload("not one field `payload`")
        payload = _decoder.decode(fields[0].encode())
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise MalformedPayload(type(error).__name__) from error
    match payload.type:
        case "block_actions" if payload.actions:
            return _click(payload, payload.actions[0])
        case "view_submission" if payload.view is not None:
            return _submission(payload, payload.view)
        case "block_actions" | "view_submission":
            raise MalformedPayload(f"{payload.type} without its subject")
    return None


def target_of(text: str) -> Target | None:
    """What a button's value names; None where no button of ours has it."""
    found = _TARGET.fullmatch(text)
    if found is None:
        return None
    try:
        intervention_id = UUID(found[1])
    except ValueError:
        return None
    return Target(intervention_id=intervention_id, version=int(found[2]), choice=found[3])


def request_key(*parts: str) -> str:
    """The same for a request that comes again, and for no other."""
    return f"slack:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def _click(payload: _Payload, action: _Action) -> Click:
    chosen = action.selected_option
    thread_ts = payload.container.thread_ts or payload.message.thread_ts
    channel = payload.channel
    return Click(
        user=payload.user.id,
        action=action.action_id,
        value=(chosen.value if chosen else action.value) or "",
        at=action.action_ts,
        trigger_id=payload.trigger_id,
        place=Place(channel=channel.id, thread_ts=thread_ts) if channel else None,
    )


def _submission(payload: _Payload, view: _View) -> Submission:
    fields = {}
    for name, inputs in view.state.values.items():
        for one in inputs.values():
            chosen = one.selected_option
            fields[name] = (chosen.value if chosen else one.value) or ""
    return Submission(
        user=payload.user.id,
        view_id=view.id,
        callback_id=view.callback_id,
        metadata=view.private_metadata,
        fields=fields,
    )
