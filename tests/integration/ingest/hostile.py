"""Ingest as a process of its own for clients that mean no good, and what they send."""

import asyncio
import functools
import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cramjam import zstd

from shared.credentials import Scope, new_key
from shared.log.postgres import open_postgres_log
from tests.integration.ingest.stored import publish_key
from tests.integration.shared.raw_http import RawReply, exchange, request
from tests.processes import PerennialProcess

MIB = 2**20
STALL_SECONDS = 1.0
TOTAL_SECONDS = 2.0
ALLOWED_BYTES = 150 * MIB

EVENT = b'{"id":"e-1","account_id":"acme","type":"login"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    process: PerennialProcess
    port: int
    key: str
    idle_bytes: int

    def post(self, body: bytes, target: str = "/v1/events", /, **headers: str) -> bytes:
        """A request that the server keeps its connection open after."""
        return request("POST", target, body, authorization=f"Bearer {self.key}", **headers)

    def head(self, *lines: str, target: str = "/v1/events") -> bytes:
        """The head of a request with a key; what is said of the body is in `lines`."""
        key = f"authorization: Bearer {self.key}"
        return "\r\n".join([f"POST {target} HTTP/1.1", "host: x", key, *lines, "", ""]).encode()

    async def answer(self, sent: bytes) -> RawReply:
        """The only reply to a request that asks for the connection's end."""
        (reply,) = await exchange(self.port, sent)
        return reply

    async def serves(self) -> bool:
        reply = await self.answer(self.post(EVENT, connection="close"))
        return reply.status == 200

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The most memory since `forget_peak`, above that of the idle process."""
        return _status(self.process.pid, "VmHWM") - self.idle_bytes

    def complaints(self) -> list[str]:
        """What it logged that no client may bring about."""
        return [line for line in self.process.output().splitlines() if _is_complaint(line)]


def _is_complaint(line: str) -> bool:
    marks = ("Traceback", '"error"', '"critical"', "request.crashed", "never awaited", "destroyed")
    return any(mark in line for mark in marks)


def _status(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024


@asynccontextmanager
async def running_target(folder: Path, database_url: str) -> AsyncIterator[Target]:
    scopes = [Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE]
    created = new_key(source="app", scopes=scopes, now=datetime.now(UTC))
    async with open_postgres_log(database_url) as log:
        await publish_key(log, created.record)
    process = PerennialProcess(
        folder,
        "--service",
        "ingest",
        DATABASE_URL=database_url,
        PERENNIAL_LOG_FORMAT="json",
        PERENNIAL_DRAIN_SECONDS="0",
        INGEST_RATE_PER_SECOND="0",
        INGEST_BODY_STALL_SECONDS=str(STALL_SECONDS),
        INGEST_BODY_TOTAL_SECONDS=str(TOTAL_SECONDS),
    )
    try:
        await asyncio.to_thread(process.start)
        port = process.ports["INGEST_PORT"]
        target = Target(process=process, port=port, key=created.secret, idle_bytes=0)
        for _ in range(20):
            assert await target.serves()
        idle = _status(process.pid, "VmRSS")
        yield Target(process=process, port=port, key=created.secret, idle_bytes=idle)
        assert process.terminate() == 0
    finally:
        process.stop()


BOMBS = (
    "gzip",
    "gzip in members",
    "gzip of a list",
    "deflate",
    "deflate without its frame",
    "zstd",
    "zstd in frames",
    "zstd of a large window",
)


@functools.cache
def bomb(name: str) -> tuple[str, bytes]:
    """The encoding and a body that inflates a thousand times, beyond every limit."""
    zeros, spaces = b"\0" * 32 * MIB, b"[" + b" " * 32 * MIB + b"]"
    match name:
        case "gzip":
            body = gzip.compress(zeros)
        case "gzip in members":
            body = gzip.compress(zeros[:MIB]) * 200
        case "gzip of a list":
            body = gzip.compress(spaces)
        case "deflate":
            body = zlib.compress(zeros)
        case "deflate without its frame":
            stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            body = stream.compress(zeros) + stream.flush()
        case "zstd":
            body = bytes(zstd.compress(zeros))
        case "zstd in frames":
            body = bytes(zstd.compress(zeros[:MIB])) * 200
        case _:
            # A window of 128 MiB, blocks of 128 KiB of one repeated byte.
            body = b"\x28\xb5\x2f\xfd\0\x88" + b"\x02\0\x10x" * 4_000
    return name.partition(" ")[0], body


def bodies() -> Iterator[tuple[str, bytes]]:
    """JSON, or nearly, that is expensive, deep or ambiguous."""
    wide = 4 * MIB
    yield "10,000 lists deep", b"[" * 10_000 + b"]" * 10_000
    yield "10,000 lists deep, cut", b"[" * 10_000
    yield "10,000 objects deep", b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    yield "deep properties", _with_properties(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    yield "deep in an item among good", b"[" + EVENT + b"," + b"[" * 900 + b"]" * 900 + b"]"
    yield "nothing but openings", b"[" * wide
    yield "nothing but empty lists", b"[" + b"[]," * (wide // 3) + b"[]]"
    yield "nothing but numbers", b"[" + b"1," * (wide // 2) + b"1]"
    yield "nothing but lines", b"\n" * wide
    yield "nothing but spaces", b" " * wide
    yield "nothing but escapes", b'["' + b"\\u0000" * (wide // 6) + b'"]'
    yield "nothing but surrogates", b'["' + b"\\ud83d" * (wide // 6) + b'"]'
    yield "duplicate keys", b"{" + EVENT[1:-1] + b',"id":"e-2"' * 100_000 + b"}"
    yield "duplicate properties", _with_properties(b"{" + b'"a":1,' * 9_000 + b'"a":2}')
    yield "100,000 keys", b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}"
    yield "a string of 7 MB", _with_properties(b'{"a":"' + b"x" * 7_000_000 + b'"}')
    yield "an id of 7 MB", EVENT.replace(b"e-1", b"x" * 7_000_000)
    yield "a number of a million digits", _with_properties(b'{"a":' + b"9" * 1_000_000 + b"}")
    yield "a number of 5,000 digits", _with_properties(b'{"a":' + b"9" * 5_000 + b"}")
    yield "a large exponent", _with_properties(b'{"a":1e999999999}')
    yield "no numbers", _with_properties(b'{"a":NaN,"b":-Infinity}')
    yield "2,000 nulls", b"[" + b"null," * 1_999 + b"null]"
    yield "NUL", b"\0" * 1_000
    yield "no UTF-8", b'[{"id":"\xff\xfe"}]'
    yield "UTF-16", EVENT.decode().encode("utf-16")
    yield "a mark of UTF-8 before it", b"\xef\xbb\xbf" + EVENT
    yield "a time of a million digits", EVENT[:-1] + b',"occurred_at":' + b"9" * 1_000_000 + b"}"
    yield "nothing", b""


def _with_properties(properties: bytes) -> bytes:
    return EVENT[:-1] + b',"properties":' + properties + b"}"
