"""FakeSlack: a real server with a webhook and the Web API that enforces Slack's limits.

It misbehaves on cue, and sends the clicks of its users, signed as Slack signs them.
"""

import asyncio
import json
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.standins.slack_limits import Payload, problem_with, problem_with_view

TOKEN = "xoxb-secret"
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer instead of the usual one; nothing is posted."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The connection is cut after the request was read; `posted`: the message was taken too."""

    posted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """The usual answer, but only after so long."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """No answer for so long."""

    seconds: float
    posted: bool = False


Turn: TypeAlias = Answer | Reset | Slow | Hang


def rate_limited(seconds: str) -> Answer:
    return Answer(status=429, body="rate_limited", headers=(("Retry-After", seconds),))


def refused(error: str) -> Answer:
    """What the Web API says with status 200."""
    return Answer(status=200, body=json.dumps({"ok": False, "error": error}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def method(self) -> str:
        """Of the Web API; `webhook` for the other."""
        return self.path.removeprefix("/api/") if self.path.startswith("/api/") else WEBHOOK


@dataclass(slots=True)
class Shown:
    """A message of the Web API as the channel shows it."""

    channel: str
    ts: str
    payload: Payload
    thread_ts: str | None = None
    edits: int = 0


@dataclass(slots=True)
class FakeSlack:
    """`posted` is each message that was taken, of both kinds; `asked_at` when each request came.

    `script` holds for the next requests whatever they are, `scripts` for those of one method.
    """

    port: int = 0
    pace_seconds: float = 0
    """The least time between two messages to one channel; sooner ones are refused with 429."""
    script: deque[Turn] = field(default_factory=deque)
    scripts: dict[str, deque[Turn]] = field(default_factory=lambda: defaultdict(deque))
    posted: list[Payload] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    shown: dict[tuple[str, str], Shown] = field(default_factory=dict)
    """Of the Web API: by channel and `ts`, in the order they came."""
    whispered: list[Payload] = field(default_factory=list)
    views: list[Payload] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Channels that are not there any more."""
    _last: dict[str, float] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T000/B000/secret"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def parents(self) -> list[Shown]:
        return [one for one in self.shown.values() if one.thread_ts is None]

    def replies_to(self, parent: Shown) -> list[Shown]:
        where = (parent.channel, parent.ts)
        return [one for one in self.shown.values() if (one.channel, one.thread_ts) == where]

    def delete(self, shown: Shown) -> None:
        del self.shown[shown.channel, shown.ts]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _request(reader)) is not None:
                self.asked_at.append(time.monotonic())
                self.asked.append(request.method)
                if not await self._answer(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        own = self.scripts[request.method]
        turn = own.popleft() if own else self.script.popleft() if self.script else None
        match turn:
            case None | Slow():
                await asyncio.sleep(0 if turn is None else turn.seconds)
                usual = self._take(request)
                await _respond(writer, usual.status, usual.body, usual.headers)
            case Answer():
                await _respond(writer, turn.status, turn.body, turn.headers)
            case Reset():
                if turn.posted:
                    self._take(request)
                _abort(writer)
                return False
            case Hang():
                if turn.posted:
                    self._take(request)
                await asyncio.sleep(turn.seconds)
                return False
        return True

    def _take(self, request: Request) -> Answer:
        if request.method == WEBHOOK:
            return self._take_webhook(request.body)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return refused("invalid_auth")
        try:
            payload = json.loads(request.body)
        except ValueError:
            return refused("invalid_json")
        methods = {
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "chat.postEphemeral": self._whisper,
            "views.open": self._open,
            "auth.test": _identify,
        }
        method = methods.get(request.method)
        return refused("unknown_method") if method is None else method(payload)

    def _take_webhook(self, body: bytes) -> Answer:
        try:
            payload = json.loads(body)
        except ValueError:
            return Answer(status=400, body="invalid_payload")
        problem = problem_with(payload)
        if problem is not None:
            return Answer(status=400, body=problem)
        if self._is_too_fast(WEBHOOK):
            return rate_limited("1")
        self.posted.append(payload)
        return Answer(status=200, body="ok")

    def _post(self, payload: Payload) -> Answer:
        channel = _conversation(payload.get("channel", ""))
        if channel is None or channel in self.lost:
            return refused("channel_not_found")
        problem = problem_with(payload)
        if problem is not None:
            return refused(problem)
        thread_ts = payload.get("thread_ts")
        if thread_ts is not None and (channel, thread_ts) not in self.shown:
            return refused("thread_not_found")
        if self._is_too_fast(channel):
            return rate_limited("1")
        ts = f"1700000000.{len(self.posted) + 1:06}"
        self.posted.append(payload)
        self.shown[channel, ts] = Shown(
            channel=channel, ts=ts, payload=payload, thread_ts=thread_ts
        )
        return _ok(channel=channel, ts=ts, message=payload)

    def _update(self, payload: Payload) -> Answer:
        # An edit names the conversation: a user's id is not one.
        shown = self.shown.get((payload["channel"], payload["ts"]))
        if shown is None:
            return refused("message_not_found")
        problem = problem_with(payload, edited=True)
        if problem is not None:
            return refused(problem)
        # What is left out stays as it was.
        shown.payload = shown.payload | payload
        shown.edits += 1
        return _ok(channel=shown.channel, ts=shown.ts)

    def _whisper(self, payload: Payload) -> Answer:
        if _conversation(payload.get("channel", "")) is None or "user" not in payload:
            return refused("channel_not_found")
        problem = problem_with(payload)
        if problem is not None:
            return refused(problem)
        self.whispered.append(payload)
        return _ok(message_ts="1700000000.999999")

    def _open(self, payload: Payload) -> Answer:
        problem = problem_with_view(payload["view"])
        if problem is not None:
            return refused(problem)
        if not str(payload.get("trigger_id", "")).startswith("trigger-"):
            return refused("expired_trigger_id")
        self.views.append(payload["view"])
        return _ok(view=payload["view"])

    def _is_too_fast(self, channel: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(channel, -self.pace_seconds) < self.pace_seconds:
            return True
        self._last[channel] = now
        return False


@asynccontextmanager
async def fake_slack(
    *, pace_seconds: float = 0, slack: FakeSlack | None = None
) -> AsyncIterator[FakeSlack]:
    """`slack`: one that has more to it than the usual."""
    slack = slack or FakeSlack(pace_seconds=pace_seconds)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await slack.serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    slack.port = server.sockets[0].getsockname()[1]
    try:
        yield slack
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


def _conversation(channel: str) -> str | None:
    """Where a message to that id stands: one to a person is a direct message."""
    if channel[:1] in ("U", "W"):
        return f"D{channel[1:]}"
    return channel if channel[:1] in ("C", "D", "G") else None


def _identify(_payload: Payload) -> Answer:
    return _ok(team="Vendor", user="perennial", team_id="T000")


def _ok(**said: object) -> Answer:
    return Answer(status=200, body=json.dumps({"ok": True, **said}))


async def _request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.decode("latin-1").rstrip().split("\r\n")
    headers = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(path=first.split(" ")[1], headers=headers, body=body)


async def _respond(
    writer: asyncio.StreamWriter, status: int, body: str, headers: tuple[tuple[str, str], ...]
) -> None:
    raw = body.encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(raw)}", "Content-Type: text/html"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
    await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, as a dying peer or a middlebox does."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
