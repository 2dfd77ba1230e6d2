"""Reading a request's body: counted while it comes, against the clock, inflated within bounds."""

import time
import zlib
from dataclasses import dataclass
from typing import Protocol

from cramjam import DecompressionError, zstd
from starlette.types import Receive

from services.ingest.replies import ClientGone, RefusalCode, Refused
from shared.limit import Limit

_CHUNK = 64 * 1024
_MAX_MEMBERS = 1_024
"""Of one gzip body; many tiny ones would cost more time than bytes."""
_MAX_BLOCKS = 4_096
"""Of one zstd body, and frames; a full block holds 128 KiB, one flushed after an event less."""
_MAX_WASTE = 256 * 1024
"""How far a deflated body may run ahead of what comes out; empty blocks cost nothing but time."""

ENCODINGS = ("gzip", "deflate", "zstd", "identity")
_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZSTD_FRAME = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
_NO_ROOM = "failed to write whole buffer"
"""What cramjam says where the output does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    max_bytes: int
    max_inflated_bytes: int
    stall_seconds: float
    total_seconds: float


class Room(Protocol):
    """What the bytes of a body take up while its request is in flight."""

    def add_bytes(self, amount: int) -> None:
        """Raises Refused where there is no more room."""
        ...


class Body:
    """The body of one request as it arrives; `ended` once there is no more of it."""

    __slots__ = ("_receive", "ended")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def read(self, limits: BodyLimits, held: Room) -> bytes:
        """All of it; raises Refused (too large, stalled, overloaded) or ClientGone."""
        chunks: list[bytes] = []
        size = 0
        last = time.monotonic() + limits.total_seconds
        try:
            with Limit(limits.stall_seconds) as limit:
                while True:
                    chunk = await self._next()
                    size += len(chunk)
                    if size > limits.max_bytes:
                        raise _too_large(limits.max_bytes, "as sent")
                    held.add_bytes(len(chunk))
                    chunks.append(chunk)
                    if self.ended:
                        break
                    limit.move(min(limits.stall_seconds, last - time.monotonic()))
        except TimeoutError as error:
            raise Refused(RefusalCode.STALLED_BODY, "the body did not arrive in time") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def discard(self, *, max_bytes: int, seconds: float) -> None:
        """Read on without keeping anything: a client that still sends does not see the reply."""
        try:
            with Limit(seconds):
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
        match encoding:
            case "zstd":
                return _inflate_zstd(data, max_bytes)
            case "gzip":
                return _inflate(data, _GZIP, max_bytes)
        try:
            return _inflate(data, zlib.MAX_WBITS, max_bytes)
        except zlib.error:
            # "deflate" means zlib's format, but many send the bare stream.
            return _inflate(data, _RAW, max_bytes)
    except (zlib.error, DecompressionError, EOFError) as error:
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
        if position - len(pending) > max_bytes - room + _MAX_WASTE:
            raise zlib.error("more goes in than comes out")
    if not stream.eof:
        raise EOFError
    return b"".join(parts)


def _inflate_zstd(data: bytes, max_bytes: int) -> bytes:
    """Into buffers that cannot grow, so that nothing which a frame says of its size is believed.

    The decoder's window is as long as the output so far at most: it takes memory as it is written.
    """
    _check_blocks(data)
    for room in (min(8 * len(data) + _CHUNK, max_bytes), max_bytes):
        buffer = bytearray(room)
        try:
            size = zstd.decompress_into(data, buffer)
        except DecompressionError as error:
            if _NO_ROOM not in str(error):
                raise
        else:
            return bytes(memoryview(buffer)[:size])
    raise _too_large(max_bytes, "inflated")


def _check_blocks(data: bytes) -> None:
    """Count frames and blocks, by their headers (RFC 8878); what is broken the decoder will say."""
    position = count = 0
    while position < len(data):
        count += 1
        if count > _MAX_BLOCKS:
            raise DecompressionError("too many frames and blocks")
        magic = int.from_bytes(data[position : position + 4], "little")
        if magic & ~0xF == _ZSTD_SKIPPABLE:
            position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
            continue
        if magic != _ZSTD_FRAME or position + 4 >= len(data):
            return
        descriptor = data[position + 4]
        has_window = not descriptor & 0x20
        position += 5 + has_window + (0, 1, 2, 4)[descriptor & 3]
        position += (0 if has_window else 1, 2, 4, 8)[descriptor >> 6]
        is_last = False
        while not is_last and position < len(data):
            count += 1
            if count > _MAX_BLOCKS:
                raise DecompressionError("too many frames and blocks")
            header = int.from_bytes(data[position : position + 3], "little")
            is_last = bool(header & 1)
            is_repeated = (header >> 1) & 3 == 1
            position += 3 + (1 if is_repeated else header >> 3)
        position += 4 if descriptor & 4 else 0


def _too_large(limit: int, how: str) -> Refused:
    return Refused(
        RefusalCode.BODY_TOO_LARGE, f"the body takes more than {limit} bytes {how}; split it"
    )


def _broken(encoding: str) -> Refused:
    return Refused(
        RefusalCode.INVALID_ENCODING, f"the body is no complete {encoding}, as its header says"
    )
