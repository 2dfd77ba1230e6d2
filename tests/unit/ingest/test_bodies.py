"""Bodies come as they like; what is kept of them is bounded."""

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
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
    ],
)
@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 100_000])
def test_a_body_comes_back_whole(encoding: str, encode: type[bytes], data: bytes) -> None:
    assert inflate(encode(data), encoding, max_bytes=MAX) == data


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


@given(
    encoding=st.sampled_from(["gzip", "deflate", "identity"]),
    data=st.binary(max_size=100),
    framed=st.booleans(),
)
def test_any_bytes_inflate_or_are_refused(encoding: str, data: bytes, *, framed: bool) -> None:
    body = gzip.compress(b"x" * 50)[:20] + data if framed else data
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
        (b"identity", "identity"),
    ],
)
def test_encodings_are_known(header: bytes | None, encoding: str) -> None:
    assert encoding_of(header) == encoding


@pytest.mark.parametrize("header", [b"br", b"zstd", b"gzip, gzip", b"gzip,deflate", b"\xff"])
def test_other_encodings_are_told_what_is_taken(header: bytes) -> None:
    with pytest.raises(Refused) as refused:
        encoding_of(header)
    assert refused.value.code == "unsupported_encoding"
    assert refused.value.headers == ((b"accept-encoding", b"gzip, deflate, identity"),)


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
