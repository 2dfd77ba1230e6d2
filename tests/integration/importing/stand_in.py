"""A small ingest that answers as wire.md says, and misbehaves when told to; no service's code."""

import asyncio
import json
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.types import Receive, Scope, Send

from shared.lifecycle import serve

JSON: TypeAlias = dict[str, Any]
Answer: TypeAlias = tuple[int, dict[str, str], object]
Fault: TypeAlias = Callable[[list[JSON]], Answer | None]
"""Given the items, the answer to give instead of the usual one, or None for the usual one."""


@dataclass(slots=True, kw_only=True)
class Request:
    path: str
    headers: dict[str, str]
    items: list[JSON]


@dataclass(slots=True, kw_only=True)
class StandIn:
    """What was asked, and what was accepted: one entry per event, however often it came."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    accepted: dict[str, JSON] = field(default_factory=dict)
    arrivals: list[JSON] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    reject: Callable[[JSON], tuple[str, str] | None] = lambda _: None
    warn: Callable[[JSON], list[str]] = lambda _: []
    most_at_once: int = 0
    _now: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0.002)
        status, headers, answer = self._answer(scope, body)
        self._now -= 1
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, scope: Scope, body: bytes) -> Answer:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["path"] + ("?" + scope["query_string"].decode()).removesuffix("?")
        content = json.loads(zlib.decompress(body, wbits=31))
        items = next(iter(content.values()))
        self.requests.append(Request(path=path, headers=headers, items=items))
        if headers.get("authorization") != "Bearer good-key":
            return error(401, "unauthorized", "unknown, expired or revoked")
        if self.faults and (answer := self.faults.pop(0)(items)) is not None:
            return answer
        return self.take(items)

    def take(self, items: list[JSON]) -> Answer:
        results: list[JSON] = []
        for index, item in enumerate(items):
            result = {"index": index, "id": item.get("id")}
            if why := self.reject(item):
                results.append({**result, "status": "rejected", "code": why[0], "message": why[1]})
                continue
            self.accepted[item["id"]] = item
            self.arrivals.append(item)
            warnings = self.warn(item)
            results.append({**result, "status": "accepted", "warnings": warnings})
        if all(result["status"] == "rejected" for result in results):
            return 400, {}, {"code": "all_rejected", "message": "no item", "results": results}
        return 200, {}, {"results": results}


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"code": code, "message": message, "detail": message, "error": code}


@asynccontextmanager
async def running() -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    async with serve(stand_in, host="127.0.0.1", port=0, name="stand-in", grace_seconds=1) as port:
        stand_in.url = f"http://127.0.0.1:{port}"
        yield stand_in


@asynccontextmanager
async def resetting_proxy(upstream: str, *, resets: int) -> AsyncIterator[str]:
    """Forwards to `upstream`, but resets the first connections: each second one after the request
    has reached the server, so that its answer is lost.
    """
    host, _, port = upstream.removeprefix("http://").partition(":")
    left = resets

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        reset, left = left > 0, left - 1
        if reset and left % 2:
            await reader.read(1000)
            _reset(writer)
            return
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        forward = asyncio.create_task(pump(reader, up_writer))
        try:
            if reset:
                await up_reader.read(100)
                _reset(writer)
            else:
                await pump(up_reader, writer)
        except ConnectionError:
            pass
        finally:
            forward.cancel()
            await asyncio.wait({forward})
            up_writer.close()
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _reset(writer: asyncio.StreamWriter) -> None:
    plain: socket.socket = writer.get_extra_info("socket")
    # Linger of 0 seconds: close sends RST instead of FIN.
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()
