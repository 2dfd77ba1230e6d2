"""The write routes as bare ASGI; every other path goes on to the pages (FastAPI).

No middleware and no model stands before these routes: one layer of either costs as much as all of
the work on a single event. What a framework would do is done here, once, in `Routes._reply`.
"""

import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from services.ingest.accounts import ACCOUNTS, USERS, AccountHandlers, id_in_path
from services.ingest.admission import Request
from services.ingest.bodies import Body
from services.ingest.formats import cloudevents, posthog, segment
from services.ingest.formats.native import NATIVE
from services.ingest.handlers import Desk, EventHandler
from services.ingest.inflight import Held, InFlight
from services.ingest.metrics import CLIENT_GONE
from services.ingest.replies import (
    ClientGone,
    RefusalCode,
    Refused,
    Reply,
    error_reply,
    refusal_reply,
    request_id_of,
    send_reply,
)
from services.ingest.wire import FormatName, WireFormat
from shared import failpoints, traceparent, tracing
from shared import logging as logs
from shared.traceparent import Traceparent

EVENT_PATHS: dict[str, WireFormat] = {
    "/v1/events": NATIVE,
    segment.BATCH: segment.SEGMENT,
    **{f"/v1/{kind}": segment.SEGMENT for kind in segment.KINDS},
    cloudevents.PATH: cloudevents.CLOUDEVENTS,
    posthog.V1_PATH: posthog.V1,
    posthog.V0_PATH: posthog.V0,
}
"""Each is served with a slash at its end too."""
ACCOUNTS_BATCH = "/v1/accounts:batch"

_LINGER_BYTES = 32 * 1024 * 1024
_LINGER_SECONDS = 2.0

log = logs.get(__name__)

Handle: TypeAlias = Callable[[Request, Held], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    wire_format: FormatName
    handlers: dict[str, Handle]

    def handler(self, method: str) -> Handle:
        handle = self.handlers.get(method)
        if handle is None:
            raise Refused(
                RefusalCode.METHOD_NOT_ALLOWED,
                "this method is not served here",
                headers=((b"allow", ", ".join(self.handlers).encode()),),
            )
        return handle


class Routes:
    """The ASGI application of ingest."""

    def __init__(self, *, desk: Desk, inflight: InFlight, pages: ASGIApp) -> None:
        self._inflight = inflight
        self._metrics = desk.metrics
        self._pages = pages
        accounts = AccountHandlers(desk)
        self._exact = {
            path: Route(wire_format=wire.name, handlers={"POST": EventHandler(desk, wire)})
            for path, wire in EVENT_PATHS.items()
        }
        self._exact[ACCOUNTS_BATCH] = Route(
            wire_format=FormatName.DIRECTORY, handlers={"POST": accounts.post}
        )
        self._by_id = {
            ACCOUNTS: Route(
                wire_format=FormatName.DIRECTORY,
                handlers={
                    "PUT": accounts.put,
                    "PATCH": accounts.patch,
                    "DELETE": accounts.delete,
                },
            ),
            USERS: Route(
                wire_format=FormatName.DIRECTORY, handlers={"DELETE": accounts.delete_user}
            ),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._pages(scope, receive, send)
            return
        headers = dict(scope["headers"])
        stated = _stated_trace(headers, scope)
        if tracing.is_on():
            name = f"ingest {route.wire_format}"
            with tracing.one(name, stated, kind=tracing.Kind.SERVER):
                await self._serve(route, scope, headers, receive, send)
        else:
            traceparent.go_on(traceparent.child(stated) if stated else traceparent.new())
            await self._serve(route, scope, headers, receive, send)

    async def _serve(
        self,
        route: Route,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request, in a task that belongs to its trace."""
        started = time.monotonic()
        trace = traceparent.begun()
        request = Request(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope.get("raw_path") or scope["path"].encode(),
            query=scope["query_string"],
            headers=headers,
            body=Body(receive),
            request_id=request_id_of(headers.get(b"x-request-id")),
            trace=traceparent.headers_of(trace),
        )
        logs.bind(request_id=request.request_id)
        try:
            reply = await self._reply(route, request)
        except ClientGone:
            self._metrics.refused.labels(CLIENT_GONE).inc()
            return
        failpoints.reach("ingest.before_response")
        self._metrics.requests.labels(route.wire_format, str(reply.status)).inc()
        close = self._inflight.draining or not request.body.ended
        await send_reply(send, reply, request.request_id, trace=trace, close=close)
        self._metrics.request_seconds.observe(time.monotonic() - started)

    def _find(self, scope: Scope) -> Route | None:
        path: str = scope["path"]
        route = self._exact.get(path) or self._exact.get(path.removesuffix("/"))
        if route is None:
            raw_path: bytes = scope.get("raw_path") or path.encode()
            return next(
                (by_id for prefix, by_id in self._by_id.items() if id_in_path(raw_path, prefix)),
                None,
            )
        return route

    async def _reply(self, route: Route, request: Request) -> Reply:
        """The handler's reply, or the one for what went wrong; raises ClientGone only."""
        try:
            handle = route.handler(request.method)
            with self._inflight.open() as held:
                return await handle(request, held)
        except Refused as refused:
            self._metrics.refused.labels(refused.code).inc()
            await _linger(request, refused)
            return refusal_reply(refused, request.request_id)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - the one place where a request's bug ends
            # Neither the text of the error nor its values: they may hold what a caller sent.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            log.error(  # noqa: TRY400
                "request.crashed",
                cause=type(error).__name__,
                at=f"{frame.filename}:{frame.lineno}",
            )
            self._metrics.refused.labels(RefusalCode.INTERNAL_ERROR).inc()
            return error_reply(
                RefusalCode.INTERNAL_ERROR, "an error here, not yours", request.request_id
            )


def _stated_trace(headers: dict[bytes, bytes], scope: Scope) -> Traceparent | None:
    """The caller's trace; None where it states none, or more than one."""
    stated = headers.get(b"traceparent")
    if stated is None:
        return None
    is_repeated = len(headers) < len(scope["headers"]) and (
        sum(name == b"traceparent" for name, _ in scope["headers"]) > 1
    )
    return None if is_repeated else traceparent.parse(stated)


async def _linger(request: Request, refused: Refused) -> None:
    """Let the client finish sending: a connection closed in its face would swallow the reply."""
    if refused.code is RefusalCode.STALLED_BODY or b"expect" in request.headers:
        return
    await request.body.discard(max_bytes=_LINGER_BYTES, seconds=_LINGER_SECONDS)
