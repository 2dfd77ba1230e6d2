"""Bodies come as they like; what is kept of them is bounded."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cramjam import zstd as cramjam_zstd
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive

from services.ingest.bodies import Body, BodyLimits, encoding_of, inflate
from services.ingest.inflight import InFlight
from services.ingest.replies import ClientGone, Refused

LIMITS = BodyLimits(max_bytes=100, max_inflated_bytes=1000, stall_seconds=0.05, total_seconds=0.12)
MAX = 1_000_000


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def zstd(data: bytes) -> bytes:
    return bytes(cramjam_zstd.compress(data))


def zstd_frame(*blocks: bytes, window_log: int = 20) -> bytes:
    """A frame by hand, to claim what no encoder writes; it states no size of its content."""
    return b"\x28\xb5\x2f\xfd" + bytes([0, (window_log - 10) << 3]) + b"".join(blocks)


def zstd_block(content: bytes, *, repeated: int | None = None, last: bool = False) -> bytes:
    kind, size = (0, len(content)) if repeated is None else (1, repeated)
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def zstd_skipped(content: bytes, *, says: int | None = None) -> bytes:
    size = len(content) if says is None else says
    return b"\x50\x2a\x4d\x18" + size.to_bytes(4, "little") + content


def empty_deflate_blocks(count: int) -> bytes:
    """Blocks with code tables of their own (RFC 1951, 3.2.7) and nothing in them; 90 bits each."""
    lengths = {18: 1, 1: 1}
    order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1]
    # Header, counts of codes, the code of code lengths, 138 + 118 zeros, two lengths of 1, the end.
    fields = [(0b100, 3), (0, 5), (0, 5), (14, 4), *((lengths.get(code, 0), 3) for code in order)]
    fields += [(1, 1), (127, 7), (1, 1), (107, 7), (0, 1), (0, 1), (0, 1)]
    bits = position = 0
    for _ in range(8):
        for value, width in fields:
            bits |= value << position
            position += width
    return bits.to_bytes(position // 8, "little") * (count // 8) + b"\x01\0\0\xff\xff"


def receiving(*chunks: bytes, pause: float = 0.0, ends: bool = True) -> Receive:
    """The messages of a body; without an end the client hangs up."""
    left = list(chunks)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        if not left:
            return {"type": "http.disconnect"}
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left) or not ends}

    return receive


def room() -> InFlight:
    return InFlight(max_bytes=10_000, max_events=10)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        pytest.param("identity", bytes, id="identity"),
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("deflate", zlib.compress, id="deflate as zlib"),
        pytest.param("deflate", raw_deflate, id="deflate as it says"),
        pytest.param("zstd", zstd, id="zstd"),
    ],
)
@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 100_000])
def test_a_body_comes_back_whole(encoding: str, encode: type[bytes], data: bytes) -> None:
    assert inflate(encode(data), encoding, max_bytes=MAX) == data


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("identity", bytes), ("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstd)],
)
def test_a_body_may_be_as_large_as_the_limit(
    encoding: str, encode: Callable[[bytes], bytes]
) -> None:
    assert len(inflate(encode(b"x" * MAX), encoding, max_bytes=MAX)) == MAX
    with pytest.raises(Refused) as refused:
        inflate(encode(b"x" * (MAX + 1)), encoding, max_bytes=MAX)
    assert refused.value.code == "body_too_large"


def test_zstd_may_have_several_frames_and_skip_some() -> None:
    parts = [b"a" * 70_000, b"", b"b" * 10]
    body = zstd_skipped(b"note").join(zstd(part) for part in parts)
    assert inflate(body, "zstd", max_bytes=MAX) == b"".join(parts)
    assert inflate(zstd_skipped(b"note"), "zstd", max_bytes=MAX) == b""


def test_zstd_may_be_flushed_after_each_event() -> None:
    blocks = [zstd_block(b"{}")] * 2_000
    body = zstd_frame(*blocks, zstd_block(b"", last=True))
    assert inflate(body, "zstd", max_bytes=MAX) == b"{}" * 2_000


def test_gzip_may_have_several_members() -> None:
    parts = [b"a" * 70_000, b"", b"b" * 10]
    body = b"".join(gzip.compress(part) for part in parts)
    assert inflate(body, "gzip", max_bytes=MAX) == b"".join(parts)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", b"", id="nothing"),
        pytest.param("gzip", b"no gzip", id="plain"),
        pytest.param("gzip", gzip.compress(b"x" * 500)[:-4], id="cut in the trailer"),
        pytest.param("gzip", gzip.compress(b"x" * 500)[:15], id="cut in the data"),
        pytest.param("gzip", gzip.compress(b"x") + b"rubbish", id="more after the end"),
        pytest.param("gzip", gzip.compress(b"x")[:-8] + b"\0" * 8, id="wrong checksum"),
        pytest.param("gzip", gzip.compress(b"") * 1_025, id="1,025 members"),
        pytest.param("deflate", zlib.compress(b"x" * 500)[:-2], id="deflate cut short"),
        pytest.param("deflate", zlib.compress(b"x") + b"more", id="more after deflate"),
        pytest.param("deflate", empty_deflate_blocks(80_000), id="80,000 empty blocks"),
        pytest.param("zstd", b"", id="no zstd"),
        pytest.param("zstd", b"no zstd", id="plain as zstd"),
        pytest.param("zstd", zstd(b"x" * 500)[:3], id="zstd cut in its first word"),
        pytest.param("zstd", zstd(b"x" * 500)[:5], id="zstd cut in its header"),
        pytest.param("zstd", zstd(b"x" * 500)[:-1], id="zstd cut short"),
        pytest.param("zstd", zstd(b"x") + b"rubbish", id="more after zstd"),
        pytest.param("zstd", zstd_skipped(b"note", says=9), id="zstd skips beyond the end"),
        pytest.param("zstd", zstd_frame(zstd_block(b"x" * 9)), id="zstd without a last block"),
        pytest.param("zstd", zstd_frame(b"\x07\0\0"), id="zstd with a reserved block"),
        pytest.param(
            "zstd", b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\x01\0\0", id="zstd of 2^64 bytes"
        ),
        *(
            pytest.param(
                "zstd",
                zstd_frame(zstd_block(b"x", last=True), window_log=log),
                id=f"a window of 2^{log}",
            )
            for log in (28, 31, 41)
        ),
        pytest.param("zstd", zstd(b"") * 4_097, id="4,097 frames"),
        pytest.param("zstd", zstd_skipped(b"") * 4_097, id="4,097 frames to skip"),
        pytest.param(
            "zstd",
            zstd_frame(zstd_block(b"x", repeated=0) * 4_097, zstd_block(b"", last=True)),
            id="4,097 empty blocks",
        ),
    ],
)
def test_a_broken_encoding_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        inflate(body, encoding, max_bytes=MAX)
    assert refused.value.code == "invalid_encoding"


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        pytest.param("gzip", gzip.compress(b"\0" * 50_000_000), id="gzip"),
        pytest.param("gzip", gzip.compress(b"\0" * 1_000_000) * 50, id="gzip in members"),
        pytest.param("deflate", zlib.compress(b"\0" * 50_000_000), id="zlib"),
        pytest.param("deflate", raw_deflate(b"\0" * 50_000_000), id="raw"),
        pytest.param("zstd", zstd(b"\0" * 50_000_000), id="zstd"),
        pytest.param("zstd", zstd(b"\0" * 1_000_000) * 50, id="zstd in frames"),
        pytest.param(
            "zstd",
            zstd_frame(*[zstd_block(b"x", repeated=2**17)] * 2_000, window_log=27),
            id="zstd with a window of 128 MiB",
        ),
    ],
)
def test_a_bomb_takes_no_more_than_the_limit(encoding: str, bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as refused:
            inflate(bomb, encoding, max_bytes=MAX)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.code == "body_too_large"
    assert peak < 4 * MAX


def test_what_a_zstd_window_claims_is_not_taken() -> None:
    """The decoder's own memory, which tracemalloc does not see: the process's peak tells."""
    blocks = [zstd_block(b"x", repeated=2**17)] * 300
    bodies = [zstd_frame(*blocks, window_log=log) for log in range(20, 28)]
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_bytes()
    for body in bodies:
        with pytest.raises(Refused):
            inflate(body, "zstd", max_bytes=16 * MAX)
    # The output, its window, and what the allocator keeps of those before: 3 times the limit.
    assert _peak_bytes() - before < 3 * 16 * MAX


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


_FRAMED = {
    "gzip": gzip.compress(b"x" * 50)[:20],
    "deflate": zlib.compress(b"x" * 50)[:10],
    "zstd": zstd_frame(zstd_block(b"x" * 50)),
    "identity": b"",
}


@given(
    encoding=st.sampled_from(sorted(_FRAMED)), data=st.binary(max_size=100), framed=st.booleans()
)
def test_any_bytes_inflate_or_are_refused(encoding: str, data: bytes, *, framed: bool) -> None:
    body = _FRAMED[encoding] + data if framed else data
    try:
        assert len(inflate(body, encoding, max_bytes=1_000)) <= 1_000
    except Refused as refused:
        assert refused.code in ("invalid_encoding", "body_too_large")  # noqa: PT017


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, "identity"),
        (b"", "identity"),
        (b"GZIP", "gzip"),
        (b"x-gzip", "gzip"),
        (b" deflate ", "deflate"),
        (b"zstd", "zstd"),
        (b"identity", "identity"),
    ],
)
def test_encodings_are_known(header: bytes | None, encoding: str) -> None:
    assert encoding_of(header) == encoding


@pytest.mark.parametrize("header", [b"br", b"gzip, gzip", b"gzip,zstd", b"zstd, identity", b"\xff"])
def test_other_encodings_are_told_what_is_taken(header: bytes) -> None:
    with pytest.raises(Refused) as refused:
        encoding_of(header)
    assert refused.value.code == "unsupported_encoding"
    assert refused.value.headers == ((b"accept-encoding", b"gzip, deflate, zstd, identity"),)


async def test_a_body_in_chunks_is_joined() -> None:
    body = Body(receiving(b"ab", b"", b"cd"))
    with room().open() as held:
        assert await body.read(LIMITS, held) == b"abcd"
    assert body.ended


async def test_a_body_is_counted_whatever_it_says_of_itself() -> None:
    body = Body(receiving(b"x" * 60, b"x" * 60, ends=False))
    with room().open() as held, pytest.raises(Refused) as refused:
        await body.read(LIMITS, held)
    assert refused.value.code == "body_too_large"


@pytest.mark.parametrize(
    ("chunks", "pause"),
    [pytest.param(1, 0.2, id="one stall"), pytest.param(50, 0.02, id="a drip")],
)
async def test_a_slow_body_is_not_waited_for(chunks: int, pause: float) -> None:
    body = Body(receiving(*[b"x"] * chunks, pause=pause))
    with room().open() as held, pytest.raises(Refused) as refused:
        await body.read(LIMITS, held)
    assert refused.value.code == "stalled_body"


async def test_a_client_that_hangs_up_is_noticed() -> None:
    with room().open() as held, pytest.raises(ClientGone):
        await Body(receiving(b"x", ends=False)).read(LIMITS, held)


async def test_what_is_in_flight_has_a_bound() -> None:
    inflight = InFlight(max_bytes=50, max_events=10)
    with inflight.open() as first:
        await Body(receiving(b"x" * 40)).read(LIMITS, first)
        with inflight.open() as second, pytest.raises(Refused) as refused:
            await Body(receiving(b"x" * 40)).read(LIMITS, second)
        assert refused.value.code == "overloaded"
        assert (inflight.bytes, inflight.requests) == (40, 1)
    assert (inflight.bytes, inflight.requests) == (0, 0)


async def test_discarding_ends_at_its_limits() -> None:
    endless = Body(receiving(*[b"x" * 10] * 100))
    await endless.discard(max_bytes=50, seconds=1)
    assert not endless.ended

    stalled = Body(receiving(b"x", pause=5))
    await stalled.discard(max_bytes=50, seconds=0.02)
    assert not stalled.ended


async def test_draining_waits_for_what_is_in_flight() -> None:
    inflight = room()
    held = inflight.open()
    with held:
        assert not await inflight.drain(0.01)
        waiting = asyncio.create_task(inflight.drain(5))
        await asyncio.sleep(0)
    assert await waiting
    with pytest.raises(Refused) as refused:
        inflight.open()
    assert refused.value.code == "shutting_down"
