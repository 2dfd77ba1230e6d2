"""Replies to whole requests: the body of every error, and what is refused with which status."""

import itertools
import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
from starlette.types import Send

from services.ingest.results import Result
from shared.errors import PerennialError
from shared.http_headers import OF_AN_API
from shared.traceparent import Traceparent

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
_encoder = msgspec.json.Encoder()
_process = secrets.token_hex(4)
_numbers = itertools.count(1)


class RefusalCode(StrEnum):
    """Why a request as a whole is refused."""

    INVALID_JSON = "invalid_json"
    INVALID_ENVELOPE = "invalid_envelope"
    INVALID_ENCODING = "invalid_encoding"
    ALL_REJECTED = "all_rejected"
    PARTIAL_FAILURE = "partial_failure"
    INVALID_KEY = "invalid_key"
    SCOPE_MISSING = "scope_missing"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    STALLED_BODY = "stalled_body"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_ITEMS = "too_many_items"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    RATE_LIMITED = "rate_limited"
    INTERNAL_ERROR = "internal_error"
    OVERLOADED = "overloaded"
    LOG_UNAVAILABLE = "log_unavailable"
    NOT_DURABLE = "not_durable"
    SHUTTING_DOWN = "shutting_down"


STATUS = {
    RefusalCode.INVALID_JSON: 400,
    RefusalCode.INVALID_ENVELOPE: 400,
    RefusalCode.INVALID_ENCODING: 400,
    RefusalCode.ALL_REJECTED: 400,
    RefusalCode.PARTIAL_FAILURE: 400,
    RefusalCode.INVALID_KEY: 401,
    RefusalCode.SCOPE_MISSING: 403,
    RefusalCode.NOT_FOUND: 404,
    RefusalCode.METHOD_NOT_ALLOWED: 405,
    RefusalCode.STALLED_BODY: 408,
    RefusalCode.BODY_TOO_LARGE: 413,
    RefusalCode.TOO_MANY_ITEMS: 413,
    RefusalCode.UNSUPPORTED_ENCODING: 415,
    RefusalCode.RATE_LIMITED: 429,
    RefusalCode.INTERNAL_ERROR: 500,
    RefusalCode.OVERLOADED: 503,
    RefusalCode.LOG_UNAVAILABLE: 503,
    RefusalCode.NOT_DURABLE: 503,
    RefusalCode.SHUTTING_DOWN: 503,
}


class Refused(PerennialError):
    """The request is refused as a whole, and nothing of it is stored."""

    def __init__(
        self,
        code: RefusalCode,
        message: str,
        *,
        headers: Headers = (),
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.headers = headers
        self.retry_seconds = retry_seconds


class ClientGone(PerennialError):
    """The client hung up before its request was complete: nobody waits for a reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    body: bytes
    headers: Headers = ()
    code: RefusalCode | None = None
    """Why it is no good answer."""


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """Three words for the same message and two for the code: SDKs look for different ones."""

    code: str
    message: str
    detail: str
    error: str
    request_id: str
    results: Sequence[Result] | None = None


class ResultsBody(msgspec.Struct):
    results: Sequence[Result]


class SomeRejected(msgspec.Struct):
    success: bool
    accepted: int
    rejected: Sequence[Result]


SUCCESS = Reply(status=200, body=b'{"success":true}')
NOTHING = Reply(status=204, body=b"")


def results_reply(results: Sequence[Result]) -> Reply:
    return Reply(status=200, body=_encoder.encode(ResultsBody(results)))


def some_rejected(accepted: int, rejected: Sequence[Result]) -> Reply:
    body = SomeRejected(success=True, accepted=accepted, rejected=rejected)
    return Reply(status=200, body=_encoder.encode(body))


def error_reply(
    code: RefusalCode,
    message: str,
    request_id: str,
    *,
    headers: Headers = (),
    results: Sequence[Result] | None = None,
    retry_seconds: float | None = None,
) -> Reply:
    status = STATUS[code]
    if status in (429, 503):
        headers = (*headers, (b"retry-after", str(_retry_after(retry_seconds)).encode()))
    body = ErrorBody(code, message, message, code, request_id, results)
    return Reply(status=status, body=_encoder.encode(body), headers=headers, code=code)


def refusal_reply(refused: Refused, request_id: str) -> Reply:
    return error_reply(
        refused.code,
        refused.message,
        request_id,
        headers=refused.headers,
        retry_seconds=refused.retry_seconds,
    )


def request_id_of(header: bytes | None) -> str:
    """The caller's own id where it is harmless in logs, else a new one."""
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header.decode("ascii")
    return f"{_process}{next(_numbers):08x}"


_GUARDS: Final = tuple(
    (name.lower().encode("ascii"), value.encode("ascii")) for name, value in OF_AN_API.items()
)


async def send_reply(
    send: Send, reply: Reply, request_id: str, *, trace: Traceparent, close: bool = False
) -> None:
    headers = [
        (b"x-request-id", request_id.encode("ascii")),
        # By its trace a caller finds again what became of an event.
        (b"traceresponse", trace.encode("ascii")),
        *_GUARDS,
        *reply.headers,
    ]
    if reply.status != 204:  # It has no body, and may not say how long it is.
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(reply.body)).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _retry_after(seconds: float | None) -> int:
    """Whole seconds from 1 to 30, spread so that the callers do not come back all at once."""
    least = 1.0 if seconds is None else seconds
    return max(1, min(30, int(least + random.uniform(0.5, 4.5))))  # noqa: S311 - no secret
