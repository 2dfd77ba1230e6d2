"""What happens between a request and its reply, one handler per kind of route.

The order of effects is that of the wire page: size, key, rate, body, envelope, every item, append,
wait, answer. Each step stands in a module of its own; here they follow one another.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from msgspec.structs import replace

from services.ingest.admission import Admission, Admitted, Request, require_scope
from services.ingest.decoding import decode
from services.ingest.directory import DirectoryRules
from services.ingest.inflight import Held
from services.ingest.metrics import IngestMetrics
from services.ingest.overflow import Overflow
from services.ingest.publisher import Publisher
from services.ingest.quarantine import Aside, Origin, Quarantine
from services.ingest.replies import RefusalCode, Refused, Reply
from services.ingest.results import Decoded
from services.ingest.wire import EventRules, FormatName, Submission, WireFormat
from shared.credentials import KeyRing, Scope
from shared.messages import WriteKey

_MAX_IDEMPOTENCY_KEY = 190
_BYTES_OF_AN_EVENT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all handlers of this process share."""

    ring: KeyRing
    admission: Admission
    publisher: Publisher
    metrics: IngestMetrics
    quarantine: Quarantine
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
        origin: Origin | None = None,
    ) -> Reply:
        """Store what is good, set aside what is not, count everything, and answer.

        `origin` is needed where something was rejected: without it nothing can be replayed.
        """
        self.admission.charge(key, len(decoded.results))
        if decoded.rejects:
            origin = origin or Origin(format=wire_format, source=key.source)
            with self.quarantine.take(decoded, origin) as aside:
                held.add_bytes(aside.size)
                held.add_events(len(aside.records))
                reply = await self._publish_beside(aside, decoded, held, wire_format, answer)
        else:
            await self.publisher.publish(decoded, held, wire_format=wire_format)
            reply = answer(decoded)
        self.metrics.count(wire_format, decoded)
        if reply.code is not None:
            self.metrics.refused.labels(reply.code).inc()
        return reply

    async def _publish_beside(
        self,
        aside: Aside,
        decoded: Decoded,
        held: Held,
        wire_format: FormatName,
        answer: Callable[[Decoded], Reply],
    ) -> Reply:
        """The good ones first: where all is sent again, each time would leave a copy of the bad."""
        started = time.monotonic()
        await self.publisher.publish(decoded, held, wire_format=wire_format)
        reply = answer(decoded)
        if reply.status == 503:
            return reply
        if aside.records:
            waited = timedelta(seconds=time.monotonic() - started)
            decoded.are_rejects_kept = await self.publisher.set_aside(aside.records, waited=waited)
            if not decoded.are_rejects_kept:
                reply = answer(decoded)
        aside.settle(are_durable=decoded.are_rejects_kept)
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
        try:
            decoded = decode(wire, admitted.body, submission, desk.event_rules, desk.overflow)
        except Refused:
            # What cannot be read has cost time all the same.
            desk.admission.charge(admitted.key, 1 + len(admitted.body) // _BYTES_OF_AN_EVENT)
            raise
        return await desk.publish(
            admitted.key,
            decoded,
            held,
            wire_format=wire.name,
            answer=lambda decoded: wire.answer(decoded, request.request_id),
            # Made where it is needed: most requests hold nothing bad.
            origin=self._origin(request, submission, decoded) if decoded.rejects else None,
        )

    def _origin(self, request: Request, submission: Submission, decoded: Decoded) -> Origin:
        if decoded.is_history:
            submission = replace(submission, marks_backfill=True)
        return Origin(
            format=self._wire.name,
            source=submission.source.name,
            request_id=request.request_id,
            trace=request.trace,
            received_at=submission.received_at,
            wire=self._wire,
            submission=submission,
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
            trace=request.trace,
            path=request.path.removesuffix("/"),
        )


def _marks_backfill(header: bytes | None) -> bool:
    match b"false" if header is None else header.strip().lower():
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
