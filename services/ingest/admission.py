"""Who may send what, now: size, key, rate limit, and the body inflated within its bounds.

The order is the promise: nothing is inflated or decoded for a caller that sends too much, and no
body is read for one without a key. The exception are formats that keep the key in the body: for
these a little room is set apart.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, Self

import msgspec

from services.ingest.bodies import Body, BodyLimits, Room, encoding_of, inflate
from services.ingest.buckets import Buckets
from services.ingest.inflight import Held
from services.ingest.metrics import IngestMetrics
from services.ingest.replies import RefusalCode, Refused
from shared.clock import Clock
from shared.credentials import KeyRing, Refusal, Scope
from shared.messages import WriteKey
from shared.traceparent import RecordHeaders

_STRANGERS = 256
"""Requests at a time whose body is read before their key is known."""
_STRANGER_BYTES = 8 * 1024 * 1024
"""Of one such body, inflated."""
_STRANGERS_BYTES = 16 * 1024 * 1024
"""Of all of them together: the rest of the room is for callers with a key."""
_STRANGER_STALL_SECONDS = 2.0
_STRANGER_TOTAL_SECONDS = 10.0


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a route sees of an HTTP request; header names are in lower case."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: Body
    request_id: str
    trace: RecordHeaders = ()
    """What its records say of where they came from."""


class Admitted(NamedTuple):
    key: WriteKey
    received_at: datetime
    body: bytes


class _Strangers:
    """The callers whose key is not known yet: how many there are, and what they hold."""

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0


class _Stranger:
    """The room of one of them, within that of its request."""

    def __init__(self, all_of_them: _Strangers, held: Held) -> None:
        self._all = all_of_them
        self._held = held
        self._bytes = 0

    def __enter__(self) -> Self:
        if self._all.count >= _STRANGERS:
            raise _too_many()
        self._all.count += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._all.count -= 1
        self._all.bytes -= self._bytes

    def add_bytes(self, amount: int) -> None:
        if self._all.bytes + amount > _STRANGERS_BYTES:
            raise _too_many()
        self._held.add_bytes(amount)
        self._all.bytes += amount
        self._bytes += amount


class Admission:
    def __init__(
        self,
        *,
        ring: KeyRing,
        buckets: Buckets,
        limits: BodyLimits,
        metrics: IngestMetrics,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._buckets = buckets
        self._limits = limits
        self._metrics = metrics
        self._stranger_limits = replace(
            limits,
            max_inflated_bytes=min(limits.max_inflated_bytes, _STRANGER_BYTES),
            stall_seconds=min(limits.stall_seconds, _STRANGER_STALL_SECONDS),
            total_seconds=min(limits.total_seconds, _STRANGER_TOTAL_SECONDS),
        )
        self._strangers = _Strangers()
        self._clock = clock
        self._monotonic = monotonic

    async def admit(
        self,
        request: Request,
        scope: Scope,
        held: Held,
        *,
        token: str | None,
        body_key: Callable[[bytes], str | None] | None = None,
    ) -> Admitted:
        """The key and the plain body; raises Refused, or ClientGone.

        `token` is the key among the headers. Without one, `body_key` may find it in the body, which
        is then read for a stranger: few such requests at a time, and smaller ones.
        """
        headers = request.headers
        self._check_stated_size(headers.get(b"content-length"))
        received_at = self._clock()
        encoding = encoding_of(headers.get(b"content-encoding"))
        if token is None and body_key is not None:
            with _Stranger(self._strangers, held) as stranger:
                body = await self._plain_body(request, encoding, stranger, self._stranger_limits)
                key = self._check_key(body_key(body), scope, received_at)
                self._check_rate(key)
            return Admitted(key, received_at, body)
        key = self._check_key(token, scope, received_at)
        self._check_rate(key)
        return Admitted(
            key, received_at, await self._plain_body(request, encoding, held, self._limits)
        )

    def charge(self, key: WriteKey, items: int) -> None:
        self._buckets.charge(key.key_id, items, now=self._monotonic())

    def _check_stated_size(self, header: bytes | None) -> None:
        """Refuse early what says that it is too large; what is smaller is counted all the same."""
        if header is not None and header.isdigit() and int(header[:20]) > self._limits.max_bytes:
            raise Refused(
                RefusalCode.BODY_TOO_LARGE,
                f"the body takes more than {self._limits.max_bytes} bytes; split it",
            )

    def _check_rate(self, key: WriteKey) -> None:
        wait = self._buckets.wait_seconds(key.key_id, now=self._monotonic())
        if wait:
            raise Refused(
                RefusalCode.RATE_LIMITED, "this key sends too many events", retry_seconds=wait
            )

    async def _plain_body(
        self, request: Request, encoding: str, held: Room, limits: BodyLimits
    ) -> bytes:
        data = await request.body.read(limits, held)
        self._metrics.body_bytes_sent.observe(len(data))
        body = inflate(data, encoding, max_bytes=limits.max_inflated_bytes)
        if body is not data:
            held.add_bytes(len(body))
            self._metrics.body_bytes_inflated.observe(len(body))
        return body

    def _check_key(self, token: str | None, scope: Scope, now: datetime) -> WriteKey:
        found = self._ring.check(token, now=now)
        if found is Refusal.UNREAD:
            # Many libraries give up for good on 401.
            raise Refused(RefusalCode.LOG_UNAVAILABLE, "the keys are not read yet; send again")
        if isinstance(found, Refusal):
            message = (
                "send Authorization: Bearer <key>"
                if found is Refusal.MISSING
                else "the key is unknown, expired or revoked"
            )
            raise Refused(
                RefusalCode.INVALID_KEY, message, headers=((b"www-authenticate", b"Bearer"),)
            )
        require_scope(found, scope)
        return found


def _too_many() -> Refused:
    return Refused(
        RefusalCode.OVERLOADED, "too many send their key in the body; use the header, or send again"
    )


def require_scope(key: WriteKey, scope: Scope) -> None:
    if scope not in key.scopes:
        raise Refused(RefusalCode.SCOPE_MISSING, f"the key lacks the scope {scope}")
