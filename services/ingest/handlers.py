"""What happens between a request and its reply, one handler per kind of route.

The order of effects is that of the wire page: size, key, rate, body, envelope, every item, append,
wait, answer. Each step stands in a module of its own; here they follow one another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_to_bytes

from services.ingest import directory
from services.ingest.admission import Admission, Admitted, Request, require_scope
from services.ingest.answers import answer_each
from services.ingest.decoding import decode
from services.ingest.directory import DirectoryRules, DirectorySubmission, Operation
from services.ingest.envelope import is_lines
from services.ingest.events import EventRules
from services.ingest.inflight import Held
from services.ingest.metrics import IngestMetrics
from services.ingest.overflow import Overflow
from services.ingest.publisher import Publisher
from services.ingest.replies import RefusalCode, Refused, Reply
from services.ingest.results import Decoded
from services.ingest.wire import FormatName, Submission, WireFormat, bearer_key
from shared.credentials import KeyRing, Scope
from shared.messages import WriteKey

_MAX_IDEMPOTENCY_KEY = 190
ACCOUNTS = b"/v1/accounts/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all handlers of this process share."""

    ring: KeyRing
    admission: Admission
    publisher: Publisher
    metrics: IngestMetrics
    event_rules: EventRules
    directory_rules: DirectoryRules
    overflow: Overflow | None = None

    async def publish(
        self,
        key: WriteKey,
        decoded: Decoded,
        held: Held,
        *,
        wire_format: FormatName,
        answer: Callable[[Decoded], Reply],
    ) -> Reply:
        """Store what is good, count everything, and answer."""
        self.admission.charge(key, len(decoded.results))
        await self.publisher.publish(decoded, held, wire_format=wire_format)
        self.metrics.count(wire_format, decoded)
        reply = answer(decoded)
        if reply.status >= 400:
            self.metrics.refused.labels(_refusal(decoded)).inc()
        return reply


class EventHandler:
    """Events in one wire format."""

    def __init__(self, desk: Desk, wire: WireFormat) -> None:
        self._desk = desk
        self._wire = wire

    async def __call__(self, request: Request, held: Held) -> Reply:
        desk, wire = self._desk, self._wire
        admitted = await desk.admission.admit(
            request,
            Scope.EVENTS_WRITE,
            held,
            token=wire.key(request.headers),
            body_key=wire.body_key,
        )
        submission = self._submission(request, admitted)
        decoded = decode(wire, admitted.body, submission, desk.event_rules, desk.overflow)
        return await desk.publish(
            admitted.key,
            decoded,
            held,
            wire_format=wire.name,
            answer=lambda decoded: wire.answer(decoded, request.request_id),
        )

    def _submission(self, request: Request, admitted: Admitted) -> Submission:
        headers, key = request.headers, admitted.key
        marks_backfill = _marks_backfill(headers.get(b"perennial-backfill"))
        if marks_backfill:
            require_scope(key, Scope.BACKFILL)
        return Submission(
            source=self._desk.ring.source(key.source),
            received_at=admitted.received_at,
            may_backfill=Scope.BACKFILL in key.scopes,
            may_change_accounts=Scope.ACCOUNTS_WRITE in key.scopes,
            marks_backfill=marks_backfill,
            idempotency_key=_idempotency_key(headers.get(b"idempotency-key")),
            headers=headers,
            path=request.path.removesuffix("/"),
        )


class AccountHandlers:
    """Changes to the directory."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def put(self, request: Request, held: Held) -> Reply:
        admitted = await self._admit(request, held)
        account = unquote_to_bytes(account_segment(request.raw_path))
        decoded = directory.decode_one(
            admitted.body,
            # Bytes that are no UTF-8 become what the account's own rule refuses.
            account.decode("utf-8", "surrogateescape"),
            self._desk.directory_rules,
            DirectorySubmission(
                source=admitted.key.source, received_at=admitted.received_at, operation="put"
            ),
        )
        return await self._publish(request, held, admitted.key, decoded)

    async def post(self, request: Request, held: Held) -> Reply:
        operation = _operation(request.query)
        admitted = await self._admit(request, held)
        decoded = directory.decode(
            admitted.body,
            self._desk.directory_rules,
            DirectorySubmission(
                source=admitted.key.source,
                received_at=admitted.received_at,
                operation=operation,
                lines=is_lines(request.headers.get(b"content-type")),
            ),
        )
        return await self._publish(request, held, admitted.key, decoded)

    async def _admit(self, request: Request, held: Held) -> Admitted:
        return await self._desk.admission.admit(
            request, Scope.ACCOUNTS_WRITE, held, token=bearer_key(request.headers)
        )

    async def _publish(
        self, request: Request, held: Held, key: WriteKey, decoded: Decoded
    ) -> Reply:
        return await self._desk.publish(
            key,
            decoded,
            held,
            wire_format=FormatName.DIRECTORY,
            answer=lambda decoded: answer_each(decoded, request.request_id),
        )


def account_segment(raw_path: bytes) -> bytes:
    """The account's id in a path as it was sent: ids may hold `/`, as such or as %2F."""
    if not raw_path.startswith(ACCOUNTS):
        return b""
    return raw_path[len(ACCOUNTS) :].removesuffix(b"/")


def _refusal(decoded: Decoded) -> str:
    for result in decoded.results:
        if result.status == "retry":
            return result.code or ""
    return RefusalCode.ALL_REJECTED


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
