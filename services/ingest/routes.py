"""The write routes as bare ASGI; every other path goes on to the pages (FastAPI).

No middleware and no model stands before these routes: one layer of either costs as much as all of
the work on a single event. What a framework would do is done here, once, in `Routes._reply`.
"""

import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qs, unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from services.ingest import directory
from services.ingest.admission import Admission, Request, require_scope
from services.ingest.bodies import Body
from services.ingest.directory import DirectoryRules, DirectorySubmission, Operation
from services.ingest.envelope import is_lines
from services.ingest.events import EventRules, Submission
from services.ingest.formats import native
from services.ingest.inflight import Held, InFlight
from services.ingest.metrics import CLIENT_GONE, IngestMetrics
from services.ingest.publisher import Publisher
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
from services.ingest.results import Decoded
from shared import credentials, failpoints
from shared import logging as logs
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS, WriteKey

EVENTS = "/v1/events"
ACCOUNTS_BATCH = "/v1/accounts:batch"
ACCOUNTS = b"/v1/accounts/"

_MAX_IDEMPOTENCY_KEY = 190
_LINGER_BYTES = 32 * 1024 * 1024
_LINGER_SECONDS = 2.0

log = logs.get(__name__)

Handle: TypeAlias = Callable[[Request, Held], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    wire_format: str
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

    def __init__(
        self,
        *,
        admission: Admission,
        publisher: Publisher,
        inflight: InFlight,
        metrics: IngestMetrics,
        event_rules: EventRules,
        directory_rules: DirectoryRules,
        pages: ASGIApp,
    ) -> None:
        self._admission = admission
        self._publisher = publisher
        self._inflight = inflight
        self._metrics = metrics
        self._event_rules = event_rules
        self._directory_rules = directory_rules
        self._pages = pages
        self._exact = {
            EVENTS: Route(wire_format=native.NAME, handlers={"POST": self._post_events}),
            ACCOUNTS_BATCH: Route(
                wire_format=directory.NAME, handlers={"POST": self._post_accounts}
            ),
        }
        self._account = Route(wire_format=directory.NAME, handlers={"PUT": self._put_account})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._pages(scope, receive, send)
            return
        started = time.monotonic()
        headers = dict(scope["headers"])
        request = Request(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope.get("raw_path") or scope["path"].encode(),
            query=scope["query_string"],
            headers=headers,
            body=Body(receive),
            request_id=request_id_of(headers.get(b"x-request-id")),
        )
        try:
            reply = await self._reply(route, request)
        except ClientGone:
            self._metrics.refused.labels(CLIENT_GONE).inc()
            return
        failpoints.reach("ingest.before_response")
        self._metrics.requests.labels(route.wire_format, str(reply.status)).inc()
        close = self._inflight.draining or not request.body.ended
        await send_reply(send, reply, request.request_id, close=close)
        self._metrics.request_seconds.observe(time.monotonic() - started)

    def _find(self, scope: Scope) -> Route | None:
        path: str = scope["path"]
        route = self._exact.get(path) or self._exact.get(path.removesuffix("/"))
        if route is None and len(_account_segment(scope.get("raw_path") or path.encode())) > 0:
            return self._account
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
                request_id=request.request_id,
            )
            self._metrics.refused.labels(RefusalCode.INTERNAL_ERROR).inc()
            return error_reply(
                RefusalCode.INTERNAL_ERROR, "an error here, not yours", request.request_id
            )

    async def _post_events(self, request: Request, held: Held) -> Reply:
        headers = request.headers
        admitted = await self._admission.admit(request, credentials.Scope.EVENTS_WRITE, held)
        marks_backfill = _marks_backfill(headers.get(b"perennial-backfill"))
        if marks_backfill:
            require_scope(admitted.key, credentials.Scope.BACKFILL)
        submission = Submission(
            source=admitted.key.source,
            received_at=admitted.received_at,
            may_backfill=credentials.Scope.BACKFILL in admitted.key.scopes,
            marks_backfill=marks_backfill,
            idempotency_key=_idempotency_key(headers.get(b"idempotency-key")),
            lines=is_lines(headers.get(b"content-type")),
        )
        decoded = native.decode(admitted.body, self._event_rules, submission)
        return await self._publish(
            request, held, admitted.key, decoded, wire_format=native.NAME, topic=USAGE_EVENTS
        )

    async def _put_account(self, request: Request, held: Held) -> Reply:
        admitted = await self._admission.admit(request, credentials.Scope.ACCOUNTS_WRITE, held)
        account = unquote_to_bytes(_account_segment(request.raw_path))
        decoded = directory.decode_one(
            admitted.body,
            # Bytes that are no UTF-8 become what the account's own rule refuses.
            account.decode("utf-8", "surrogateescape"),
            self._directory_rules,
            DirectorySubmission(
                source=admitted.key.source, received_at=admitted.received_at, operation="put"
            ),
        )
        return await self._publish(
            request,
            held,
            admitted.key,
            decoded,
            wire_format=directory.NAME,
            topic=DIRECTORY_CHANGES,
        )

    async def _post_accounts(self, request: Request, held: Held) -> Reply:
        operation = _operation(request.query)
        admitted = await self._admission.admit(request, credentials.Scope.ACCOUNTS_WRITE, held)
        decoded = directory.decode(
            admitted.body,
            self._directory_rules,
            DirectorySubmission(
                source=admitted.key.source,
                received_at=admitted.received_at,
                operation=operation,
                lines=is_lines(request.headers.get(b"content-type")),
            ),
        )
        return await self._publish(
            request,
            held,
            admitted.key,
            decoded,
            wire_format=directory.NAME,
            topic=DIRECTORY_CHANGES,
        )

    async def _publish(
        self,
        request: Request,
        held: Held,
        key: WriteKey,
        decoded: Decoded,
        *,
        wire_format: str,
        topic: str,
    ) -> Reply:
        self._admission.charge(key, len(decoded.results))
        await self._publisher.publish(topic, decoded, held, wire_format=wire_format)
        self._metrics.count(wire_format, decoded)
        reply = native.answer(decoded.results, request.request_id)
        if reply.status != 200:
            self._metrics.refused.labels(_refusal(reply.status, decoded)).inc()
        return reply


def _refusal(status: int, decoded: Decoded) -> str:
    if status == 400:
        return RefusalCode.ALL_REJECTED
    return next(result.code or "" for result in decoded.results if result.status == "retry")


async def _linger(request: Request, refused: Refused) -> None:
    """Let the client finish sending: a connection closed in its face would swallow the reply."""
    if refused.code is RefusalCode.STALLED_BODY or b"expect" in request.headers:
        return
    await request.body.discard(max_bytes=_LINGER_BYTES, seconds=_LINGER_SECONDS)


def _account_segment(raw_path: bytes) -> bytes:
    """The account's id in a path as it was sent: ids may hold `/`, as such or as %2F."""
    if not raw_path.startswith(ACCOUNTS):
        return b""
    return raw_path[len(ACCOUNTS) :].removesuffix(b"/")


def _marks_backfill(header: bytes | None) -> bool:
    match (header or b"false").strip().lower():
        case b"true":
            return True
        case b"false":
            return False
        case _:
            # Guessing would make history look like use of today.
            raise Refused(RefusalCode.INVALID_ENVELOPE, "Perennial-Backfill: must be true or false")


def _idempotency_key(header: bytes | None) -> str | None:
    if header is None or not header.strip():
        return None
    key = header.strip().decode("latin-1")
    if len(key) > _MAX_IDEMPOTENCY_KEY:
        raise Refused(
            RefusalCode.INVALID_ENVELOPE,
            f"Idempotency-Key: must have at most {_MAX_IDEMPOTENCY_KEY} characters",
        )
    return key


def _operation(query: bytes) -> Operation:
    match parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=20).get("mode"):
        case None | ["patch"]:
            return "patch"
        case ["put"]:
            return "put"
        case _:
            raise Refused(RefusalCode.INVALID_ENVELOPE, "mode: must be patch or put")
