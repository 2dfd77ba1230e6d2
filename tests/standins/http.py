"""A small HTTP server that misbehaves on cue: what stand-ins for web services have in common."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer instead of the usual one."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """The connection is cut after the request was read; `posted`: it was taken all the same."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A good answer whose body never ends."""


Turn: TypeAlias = Answer | Reset | Slow | Hang | Flood


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


async def read(reader: asyncio.StreamReader) -> Asked | None:
    """The next request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (one.partition(":") for one in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(line=line, headers=headers, body=body)


async def respond(writer: asyncio.StreamWriter, answer: Answer) -> None:
    raw = answer.body.encode()
    lines = [f"HTTP/1.1 {answer.status} Said", f"Content-Length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
    await writer.drain()


async def flood(writer: asyncio.StreamWriter) -> None:
    """Send until the other side has had enough."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, as a dying peer or a middlebox does."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def listening(
    answer: Callable[[Asked, asyncio.StreamWriter], Awaitable[bool]],
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """The port of a server on 127.0.0.1; `answer` says whether the connection goes on."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            while (asked := await read(reader)) is not None:
                if not await answer(asked, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
