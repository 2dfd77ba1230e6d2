"""FakeSlack: a real server that enforces an incoming webhook's limits and misbehaves on cue."""

import asyncio
import json
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_SECTION = 3_000
_HEADER = 150
_TOTAL = 13_200
_BLOCKS = 50


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
Payload: TypeAlias = dict[str, Any]


def rate_limited(seconds: str) -> Answer:
    return Answer(status=429, body="rate_limited", headers=(("Retry-After", seconds),))


@dataclass(slots=True)
class FakeSlack:
    """`posted` is what the channel shows; `asked_at` when each request came (monotonic)."""

    port: int = 0
    script: deque[Turn] = field(default_factory=deque)
    posted: list[Payload] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T000/B000/secret"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (body := await _request(reader)) is not None:
                self.asked_at.append(time.monotonic())
                if not await self._answer(body, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        turn = self.script.popleft() if self.script else None
        match turn:
            case None | Slow():
                await asyncio.sleep(0 if turn is None else turn.seconds)
                status, said = self._post(body)
                await _respond(writer, status, said, ())
            case Answer():
                await _respond(writer, turn.status, turn.body, turn.headers)
            case Reset():
                if turn.posted:
                    self._post(body)
                _abort(writer)
                return False
            case Hang():
                if turn.posted:
                    self._post(body)
                await asyncio.sleep(turn.seconds)
                return False
        return True

    def _post(self, body: bytes) -> tuple[int, str]:
        try:
            payload = json.loads(body)
        except ValueError:
            return 400, "invalid_payload"
        problem = problem_with(payload)
        if problem is not None:
            return 400, problem
        self.posted.append(payload)
        return 200, "ok"


@asynccontextmanager
async def fake_slack() -> AsyncIterator[FakeSlack]:
    slack = FakeSlack()
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


def problem_with(payload: Payload) -> str | None:
    """What Slack would refuse it for (limits: notifier.md, section 6)."""
    text, blocks = payload.get("text", ""), payload.get("blocks", [])
    if not text and not blocks:
        return "no_text"
    if not isinstance(text, str) or not isinstance(blocks, list) or len(blocks) > _BLOCKS:
        return "invalid_blocks"
    texts = [text]
    for block in blocks:
        match block.get("type"):
            case "section":
                found, limit = [block["text"]["text"]], _SECTION
            case "header":
                found, limit = [block["text"]["text"]], _HEADER
            case "context":
                found, limit = [element["text"] for element in block["elements"]], _SECTION
            case _:
                return "invalid_blocks"
        if any(not one or _length(one) > limit for one in found):
            return "invalid_blocks"
        texts += found
    return "invalid_blocks" if sum(map(_length, texts)) > _TOTAL else None


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """The body of the next request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return await reader.readexactly(length)


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
