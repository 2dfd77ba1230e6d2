"""One HTTP connection, with limits against clients that are slow, endless or no HTTP at all.

The server is uvicorn's, and so is the way from the bytes to the application. What is added here
looks at a connection only while no request is being served on it.
"""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TypeAlias

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_MAX_PIPELINED = 16
"""Requests that wait on one connection; those behind them are lost with it, and sent again."""
_LINGER_SECONDS = 1.0
"""A client that still sends would see a reset instead of the reply."""


class Fault(StrEnum):
    """Why a connection is refused or ended before an application sees its request."""

    INVALID_REQUEST = "invalid_request"
    STALLED_REQUEST = "stalled_request"
    HEADERS_TOO_LARGE = "headers_too_large"
    OVERLOADED = "overloaded"


_ANSWERS = {
    Fault.INVALID_REQUEST: (HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1, or not whole"),
    Fault.STALLED_REQUEST: (HTTPStatus.REQUEST_TIMEOUT, "the headers did not arrive in time"),
    Fault.HEADERS_TOO_LARGE: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the request line and the headers are too long or too many",
    ),
    Fault.OVERLOADED: (HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again"),
}

ErrorBody: TypeAlias = Callable[[Fault, str, str], bytes]
"""The JSON of an error: what went wrong, in a message, and the request's id."""


def error_body(fault: Fault, message: str, request_id: str) -> bytes:
    """The words that all our ports use, and FastAPI's (`detail`)."""
    words = {"code": fault, "message": message, "detail": message, "error": fault}
    return json.dumps({**words, "request_id": request_id}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What a connection may do before, between and after requests.

    Together they bound the memory that clients without a key can take: 4,096 heads of 16 KiB are
    64 MiB. SDKs send heads of 1 KiB over a handful of connections each.
    """

    max_connections: int = 4_096
    max_head_bytes: int = 16 * 1024
    max_headers: int = 128
    head_seconds: float = 10.0
    """From the connection, or the first byte after a reply, to the end of the headers."""
    unread_seconds: float = 30.0
    """How long a client may leave an answer unread."""
    error_body: ErrorBody = error_body


class EdgeConfig(uvicorn.Config):
    """uvicorn's configuration, carrying the limits to each connection."""

    edge: Edge


class Connection(HttpToolsProtocol):
    """A connection whose silences and heads are bounded."""

    def __init__(
        self,
        config: EdgeConfig,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._edge = config.edge
        self._max_head_bytes = config.edge.max_head_bytes
        self._max_headers = config.edge.max_headers
        self._unproductive = 0
        """Bytes since a head was complete or a part of a body came."""
        self._deadline: asyncio.TimerHandle | None = None
        self._fault = Fault.INVALID_REQUEST
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._edge.max_connections:
            self._refuse(Fault.OVERLOADED, linger=False)
        else:
            self._deadline = self.loop.call_later(self._edge.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        size = self._max_head_bytes
        try:
            if len(data) <= size:
                self._take(data)
            else:
                # What follows a whole request in one piece is not measured: pieces are small.
                for start in range(0, len(data), size):
                    self._take(data[start : start + size])
        except httptools.HttpParserError:
            self._refuse(self._fault)
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._deadline is None:
                self._deadline = self.loop.call_later(self._edge.head_seconds, self._give_up)
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def on_headers_complete(self) -> None:
        if len(self.headers) > self._max_headers or (
            # Most of what has come may be a body.
            self._unproductive > self._max_head_bytes and self._head_bytes() > self._max_head_bytes
        ):
            self._fail(Fault.HEADERS_TOO_LARGE)
        if len(self.pipeline) == _MAX_PIPELINED:
            self._fail(Fault.INVALID_REQUEST)
        self._unproductive = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unproductive = 0
        super().on_body(body)

    def _should_upgrade(self) -> bool:
        # uvicorn then starts no application: `_without_upgrade` takes the request up again.
        return True

    def _take(self, data: bytes) -> None:
        self._unproductive += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take(self._without_upgrade(data[upgrade.args[0] :]))
            return
        # A head that is whole was measured when it was; this is one without an end, or trailers.
        if self._unproductive > self._max_head_bytes or (
            self.headers is not None and len(self.headers) > self._max_headers
        ):
            self._fail(Fault.HEADERS_TOO_LARGE)

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request, not asking for an upgrade (WebSocket, h2c): servers may ignore the wish.

        The parser takes what follows the head for another protocol, and would drop the body.
        """
        if self.scope["method"] == "CONNECT":
            self._fail(Fault.INVALID_REQUEST)
        self.parser = httptools.HttpRequestParser(self)
        version = self.scope["http_version"].encode()
        lines = [b"%s %s HTTP/%s" % (self.scope["method"].encode(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n" + rest

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _fail(self, fault: Fault) -> None:
        self._fault = fault
        raise httptools.HttpParserError(fault)

    def _give_up(self) -> None:
        self._deadline = None
        if self._unproductive:
            self._refuse(Fault.STALLED_REQUEST)
        else:
            self.transport.close()

    def _refuse(self, fault: Fault, *, linger: bool = True) -> None:
        """Answer, unless that would stand for a request that is answered otherwise, and close."""
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            cycle.keep_alive = False  # It is whole: the fault lies behind it.
            return
        if cycle is not None and cycle.more_body:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        self.transport.write(self._answer(fault))
        if linger and self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _answer(self, fault: Fault) -> bytes:
        status, message = _ANSWERS[fault]
        request_id = secrets.token_hex(8)
        body = self._edge.error_body(fault, message, request_id)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"%d" % (1 + secrets.randbelow(5))))
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        lines += [b"%s: %s" % header for header in headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body
