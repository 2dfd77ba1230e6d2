"""Reading a request's body: counted while it comes, against the clock, inflated within bounds."""

import asyncio
import zlib
from dataclasses import dataclass

from starlette.types import Receive

from services.ingest.inflight import Held
from services.ingest.replies import ClientGone, RefusalCode, Refused

_CHUNK = 64 * 1024
_MAX_MEMBERS = 1_024
"""Parts of one gzip body; many tiny ones would cost more time than bytes."""

ENCODINGS = ("gzip", "deflate", "identity")
_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    max_bytes: int
    max_inflated_bytes: int
    stall_seconds: float
    total_seconds: float


class Body:
    """The body of one request as it arrives; `ended` once there is no more of it."""

    __slots__ = ("_receive", "ended")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def read(self, limits: BodyLimits, held: Held) -> bytes:
        """All of it; raises Refused (too large, stalled, overloaded) or ClientGone."""
        chunks: list[bytes] = []
        size = 0
        now = asyncio.get_running_loop().time
        last = now() + limits.total_seconds
        try:
            async with asyncio.timeout(limits.stall_seconds) as limit:
                while True:
                    chunk = await self._next()
                    size += len(chunk)
                    if size > limits.max_bytes:
                        raise _too_large(limits.max_bytes, "as sent")
                    held.add_bytes(len(chunk))
                    chunks.append(chunk)
                    if self.ended:
                        break
                    limit.reschedule(min(now() + limits.stall_seconds, last))
        except TimeoutError as error:
            raise Refused(RefusalCode.STALLED_BODY, "the body did not arrive in time") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def discard(self, *, max_bytes: int, seconds: float) -> None:
        """Read on without keeping anything: a client that still sends does not see the reply."""
        try:
            async with asyncio.timeout(seconds):
                while not self.ended and max_bytes > 0:
                    max_bytes -= len(await self._next())
        except TimeoutError:
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.ended = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def encoding_of(header: bytes | None) -> str:
    """The body's one encoding; raises Refused for others, and for several."""
    encoding = (header or b"").strip().lower().decode("latin-1")
    encoding = {"": "identity", "x-gzip": "gzip"}.get(encoding, encoding)
    if encoding not in ENCODINGS:
        accepted = ", ".join(ENCODINGS)
        raise Refused(
            RefusalCode.UNSUPPORTED_ENCODING,
            f"Content-Encoding must be one of {accepted}",
            headers=((b"accept-encoding", accepted.encode()),),
        )
    return encoding


def inflate(data: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """The body without its encoding; raises Refused where it is broken, cut short or too large."""
    if encoding == "identity":
        if len(data) > max_bytes:
            raise _too_large(max_bytes, "inflated")
        return data
    try:
        if encoding == "gzip":
            return _inflate(data, _GZIP, max_bytes)
        try:
            return _inflate(data, zlib.MAX_WBITS, max_bytes)
        except zlib.error:
            # "deflate" means zlib's format, but many send the bare stream.
            return _inflate(data, _RAW, max_bytes)
    except zlib.error as error:
        raise _broken(encoding) from error
    except EOFError as error:
        raise _broken(encoding) from error


def _inflate(data: bytes, window_bits: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    members = 1
    stream = zlib.decompressobj(window_bits)
    position = 0
    pending = b""
    while True:
        if not pending:
            pending = data[position : position + _CHUNK]
            position += len(pending)
            if not pending:
                break
        if stream.eof:
            if window_bits != _GZIP or members == _MAX_MEMBERS:
                raise zlib.error("more data after the end")
            members += 1
            stream = zlib.decompressobj(window_bits)
        # One byte more than there is room for shows that there is too much.
        part = stream.decompress(pending, room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(max_bytes, "inflated")
        parts.append(part)
        pending = stream.unused_data if stream.eof else stream.unconsumed_tail
    if not stream.eof:
        raise EOFError
    return b"".join(parts)


def _too_large(limit: int, how: str) -> Refused:
    return Refused(
        RefusalCode.BODY_TOO_LARGE, f"the body takes more than {limit} bytes {how}; split it"
    )


def _broken(encoding: str) -> Refused:
    return Refused(
        RefusalCode.INVALID_ENCODING, f"the body is no complete {encoding}, as its header says"
    )
