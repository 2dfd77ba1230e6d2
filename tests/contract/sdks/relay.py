"""A reverse proxy before ingest: it notes requests and, if told so, turns the first ones away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from services.ingest.replies import RefusalCode, Reply, error_reply
from shared.lifecycle import serve

_HOP_BY_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}
_PASSED_ON = ("content-type", "retry-after", "x-request-id")
_ANSWERED_SECONDS = 15.0
_REFUSING_SECONDS = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One request and what came of it."""

    path: str
    encoding: str
    is_chunked: bool
    status: int


@dataclass(slots=True)
class Relay:
    """The ASGI application of the proxy."""

    client: httpx.AsyncClient
    refusals: Sequence[RefusalCode] = ()
    """What the first requests are answered, with `Retry-After: 1`; the last one to all that come
    within the next second, too."""
    url: str = ""
    passed: list[Passed] = field(default_factory=list)
    refused: int = 0
    _until: float = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        # Chosen before the body is read: requests may come side by side.
        refusal = self._refusal()
        body = await request.body()
        reply = await self._ask(request, body) if refusal is None else _refuse(refusal)
        self.passed.append(
            Passed(
                path=request.url.path,
                encoding=request.headers.get("content-encoding", "none"),
                is_chunked="content-length" not in request.headers,
                status=reply.status,
            )
        )
        await _send(send, reply)

    def _refusal(self) -> RefusalCode | None:
        now = asyncio.get_running_loop().time()
        if self.refusals and self.refused == 0:
            self._until = now + _REFUSING_SECONDS
        if self.refused >= len(self.refusals) and now >= self._until:
            return None
        self.refused += 1
        return self.refusals[min(self.refused, len(self.refusals)) - 1]

    async def _ask(self, request: Request, body: bytes) -> Reply:
        """The same request to ingest, chunked where it came so."""
        is_chunked = "content-length" not in request.headers
        answer = await self.client.request(
            request.method,
            request.url.path,
            content=_chunks(body) if is_chunked else body,
            headers={k: v for k, v in request.headers.items() if k not in _HOP_BY_HOP},
        )
        headers = ((name, answer.headers.get(name)) for name in _PASSED_ON)
        return Reply(
            status=answer.status_code,
            body=answer.content,
            headers=tuple((name.encode(), value.encode()) for name, value in headers if value),
        )


@asynccontextmanager
async def relaying(target: str, refusals: Sequence[RefusalCode] = ()) -> AsyncIterator[Relay]:
    async with httpx.AsyncClient(
        base_url=target, timeout=_ANSWERED_SECONDS, trust_env=False
    ) as client:
        relay = Relay(client, refusals)
        async with serve(relay, host="127.0.0.1", port=0, name="relay") as port:
            relay.url = f"http://127.0.0.1:{port}"
            yield relay


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _refuse(code: RefusalCode) -> Reply:
    """Our own error body; the shortest wait that ingest asks for."""
    reply = error_reply(code, "come back later", "relay")
    headers = ((b"content-type", b"application/json"), (b"retry-after", b"1"))
    return Reply(status=reply.status, body=reply.body, headers=headers)


async def _send(send: Send, reply: Reply) -> None:
    headers = list(reply.headers)
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
