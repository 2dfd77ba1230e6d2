"""Clients that mean no good: answered or cut within the limits, in bounded memory, without harm.

The server is a process of its own. After each test it serves, logged no error, and took no more
memory than it may.
"""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.databases import DatabaseServer, temporary_folder
from tests.integration.ingest.hostile import (
    ALLOWED_BYTES,
    BOMBS,
    EVENT,
    MIB,
    STALL_SECONDS,
    TOTAL_SECONDS,
    Target,
    bodies,
    bomb,
    running_target,
)
from tests.integration.shared.raw_http import RawReply, chunk, connected, exchange, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

SILENT = 1_000
LINES = "application/x-ndjson"
CHUNKED = "transfer-encoding: chunked"
WISH = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_target(database_server: DatabaseServer) -> AsyncIterator[Target]:
    with temporary_folder() as folder:
        async with (
            database_server.copy_of_template() as url,
            running_target(folder / "ingest", url) as target,
        ):
            yield target


@pytest.fixture(scope="module")
def silent(shared_target: Target) -> Iterator[list[socket.socket]]:
    """Connections that send nothing, or a head without end, while all the other tests run."""
    opened = []
    for number in range(SILENT):
        client = socket.create_connection(("127.0.0.1", shared_target.port))
        if number % 2:
            client.sendall(shared_target.head(CHUNKED)[: number // 10])
        opened.append(client)
    yield opened
    for client in opened:
        client.close()


@pytest_asyncio.fixture(loop_scope="module")
async def target(shared_target: Target, silent: list[socket.socket]) -> AsyncIterator[Target]:
    assert len(silent) == SILENT
    shared_target.forget_peak()
    yield shared_target
    assert shared_target.peak_bytes() < ALLOWED_BYTES
    assert await shared_target.serves()
    assert shared_target.complaints() == []


def code_of(reply: RawReply) -> str:
    code = reply.json()["code"]
    assert isinstance(code, str)
    return code


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_413(target: Target, name: str) -> None:
    encoding, body = bomb(name)
    reply = await target.answer(target.post(body, content_encoding=encoding, connection="close"))
    assert (reply.status, code_of(reply)) == (413, "body_too_large")


async def test_many_bombs_at_once_take_no_more_memory(target: Target) -> None:
    requests = [
        target.post(body, content_encoding=encoding, connection="close")
        for encoding, body in [bomb(name) for name in BOMBS] * 4
    ]
    replies = await asyncio.gather(*(target.answer(sent) for sent in requests))
    # On a machine under load some bodies wait too long for their turn.
    assert {reply.status for reply in replies} <= {408, 413, 503}


async def test_many_large_bodies_at_once_take_no_more_memory(target: Target) -> None:
    body = b"[" + b",".join([EVENT[:-1] + b',"x":"%s"}' % (b"y" * 60_000)] * 130) + b"]"
    packed = gzip.compress(body, 1)
    plain = target.post(body, connection="close")
    small = target.post(packed, connection="close", content_encoding="gzip")
    replies = await asyncio.gather(*(target.answer(sent) for sent in [plain, small] * 16))
    assert {reply.status for reply in replies} <= {200, 408, 503}


async def test_a_bomb_within_a_bomb_is_opened_once(target: Target) -> None:
    body = gzip.compress(gzip.compress(b"[" + b" " * 10 * MIB + b"]"))
    reply = await target.answer(target.post(body, content_encoding="gzip", connection="close"))
    assert (reply.status, code_of(reply)) == (400, "invalid_json")
    sent = target.post(body, content_encoding="gzip, gzip", connection="close")
    reply = await target.answer(sent)
    assert (reply.status, code_of(reply)) == (415, "unsupported_encoding")
    assert reply.headers["accept-encoding"] == "gzip, deflate, zstd, identity"


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in bodies()])
async def test_hostile_json_is_answered_per_item_or_as_a_whole(target: Target, body: bytes) -> None:
    for content_type in ("application/json", LINES):
        sent = target.post(body, content_type=content_type, connection="close")
        reply = await target.answer(sent)
        assert reply.status in (200, 400, 413)
        assert reply.json()


async def test_a_string_of_10_mb_is_too_large_an_event(target: Target) -> None:
    body = gzip.compress(EVENT[:-1] + b',"properties":{"a":"' + b"x" * 10_000_000 + b'"}}')
    reply = await target.answer(target.post(body, content_encoding="gzip", connection="close"))
    assert (reply.status, code_of(reply)) == (400, "all_rejected")
    assert b"event_too_large" in reply.body


async def test_a_length_below_the_bodys_ends_the_connection(target: Target) -> None:
    head = target.head("content-length: 10")
    replies = await exchange(target.port, head + EVENT)
    assert (replies[0].status, code_of(replies[0])) == (400, "invalid_json")
    # What is left of the body is no request; it may be seen before or after the answer.
    assert [reply.status for reply in replies[1:]] in ([], [400])


NEVER_WHOLE = {
    "a length beyond the body's": ("content-length: 1000", [EVENT]),
    "no body": ("content-length: 1000", []),
    "no last chunk": (CHUNKED, [chunk(EVENT)]),
    "half a chunk": (CHUNKED, [chunk(EVENT)[:10]]),
    "trailers without end": (CHUNKED, [chunk(EVENT) + b"0\r\nx: y\r\n"]),
    "half a gzip": ("content-length: 9\r\ncontent-encoding: gzip", [b"\x1f\x8b"]),
    "byte by byte": ("content-length: 1000", [b"["] * 100),
}


async def test_a_body_that_does_not_come_is_408(target: Target) -> None:
    started = asyncio.get_running_loop().time()
    found = await asyncio.gather(
        *(
            exchange(target.port, target.head(lines), *parts, pause=STALL_SECONDS / 4)
            for lines, parts in NEVER_WHOLE.values()
        )
    )
    # All at once, in the time that a body has in all; more is for a machine under load.
    assert asyncio.get_running_loop().time() - started < TOTAL_SECONDS + 4
    for name, replies in zip(NEVER_WHOLE, found, strict=True):
        (reply,) = replies
        assert (reply.status, code_of(reply)) == (408, "stalled_body"), name
        assert reply.headers["connection"] == "close"


ENDLESS = {
    "large chunks": chunk(b"x" * 60_000),
    "chunks of a byte": chunk(b"x") * 10_000,
    "an extension": b"1;" + b"e" * 60_000,
    "trailers": b"0\r\n" + b"x: y\r\n" * 10_000,
}


async def test_chunks_without_end_are_answered_or_cut(target: Target) -> None:
    found = await asyncio.gather(
        *(exchange(target.port, target.head(CHUNKED), *[more] * 2_000) for more in ENDLESS.values())
    )
    for name, replies in zip(ENDLESS, found, strict=True):
        # It may be reset before it reads the answer: it never stops sending.
        assert [reply.status for reply in replies] in ([], [408], [413], [431], [400]), name


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 500, 400, id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 30, 400, id="HTTP/2"),
        pytest.param(request("CONNECT", "example.org:443"), 400, id="CONNECT"),
        pytest.param(request("TRACE", "/v1/events", connection="close"), 405, id="TRACE"),
        pytest.param(request("OPTIONS", "/v1/events", connection="close"), 405, id="OPTIONS"),
        pytest.param(request("OPTIONS", "*", connection="close"), 404, id="OPTIONS *"),
        pytest.param(request("GET", "/v1/events", **WISH) + b"\x81\x05hello", 405, id="WebSocket"),
        pytest.param(request("GET", "/%00%ff/..%2f", connection="close"), 404, id="a path"),
        pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n", 400, id="a path in UTF-8"),
        pytest.param(b"GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n", 400, id="NUL in a path"),
        pytest.param(request("GET", "/", x="\0"), 400, id="NUL in a header"),
        pytest.param(request("GET", "/", x="\xff", connection="close"), 404, id="8 bits"),
        pytest.param(
            request("POST", "/v1/events", b"", authorization="\xff", connection="close"),
            401,
            id="8 bits as key",
        ),
        pytest.param(request("GET", "/", x="y" * 20_000), 431, id="a header of 20 KB"),
        pytest.param(request("GET", "/" + "y" * 20_000), 431, id="a path of 20 KB"),
        pytest.param(
            request("GET", "/", x_request_id="\xff" * 200, connection="close"), 404, id="id"
        ),
    ],
)
async def test_what_is_no_request_of_ours_is_told_so(
    target: Target, sent: bytes, status: int
) -> None:
    replies = await exchange(target.port, sent)
    assert replies[0].status == status
    body = replies[0].json()
    assert all(body[name] for name in ("code", "message", "detail", "error", "request_id"))
    assert [reply.status for reply in replies[1:]] in ([], [400])


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([CHUNKED, "content-length: 5"], id="length and chunks"),
        pytest.param(["content-length: 5", CHUNKED], id="chunks and length"),
        pytest.param(["content-length: 5", "content-length: 6"], id="two lengths"),
        pytest.param(["content-length: 5, 5"], id="two lengths in one"),
        pytest.param(["content-length: +5"], id="a sign"),
        pytest.param(["content-length: 0x5"], id="hexadecimal"),
        pytest.param(["transfer-encoding: xchunked"], id="no such encoding"),
        pytest.param(["transfer-encoding: chunked, identity"], id="chunked is not the last"),
        pytest.param([" transfer-encoding: chunked"], id="a space before the name"),
        pytest.param(["transfer-encoding : chunked"], id="a space after the name"),
        pytest.param(["x: y\n" + CHUNKED, "content-length: 5"], id="a bare line feed"),
    ],
)
async def test_nothing_is_smuggled(target: Target, lines: list[str]) -> None:
    """Where two ends of a body can be read, none is: a proxy before us may have read the other."""
    smuggled = b"0\r\n\r\n" + target.post(EVENT)
    replies = await exchange(target.port, target.head(*lines) + smuggled)
    assert [reply.status for reply in replies] == [400]


async def test_the_corners_of_http_that_are_served(target: Target) -> None:
    accepted = target.post(EVENT, connection="close")
    version_1_0 = target.post(EVENT).replace(b"HTTP/1.1", b"HTTP/1.0")
    absolute = accepted.replace(b"/v1/events", b"http://perennial.example/v1/events")
    pipelined = target.post(EVENT) * 10 + accepted
    upgrade = target.post(EVENT, connection="Upgrade, close", upgrade="h2c", http2_settings="AA")
    for sent, count in ((version_1_0, 1), (absolute, 1), (pipelined, 11), (upgrade, 1)):
        assert [reply.status for reply in await exchange(target.port, sent)] == [200] * count


async def test_a_client_that_asks_first_is_told_to_go_on(target: Target) -> None:
    head = target.head("expect: 100-continue", f"content-length: {len(EVENT)}", "connection: close")
    async with connected(target.port) as client:
        await client.send(head)
        go_on = await client.reply()
        assert go_on is not None
        assert go_on.status == 100
        await client.send(EVENT)
        assert [reply.status for reply in await client.replies()] == [200]


_REQUEST = request("POST", "/v1/events", EVENT, authorization="Bearer KEY", connection="close")


@st.composite
def broken_requests(draw: st.DrawFn) -> bytes:
    """A good request with some bytes replaced, at any place."""
    sent = _REQUEST
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(sent)))
        end = draw(st.integers(start, min(len(sent), start + 20)))
        sent = sent[:start] + draw(st.binary(max_size=12)) + sent[end:]
    return sent


@settings(max_examples=150)
@given(sent=st.one_of(st.binary(min_size=1, max_size=300), broken_requests()))
async def test_any_bytes_on_a_connection_do_no_harm(shared_target: Target, sent: bytes) -> None:
    statuses = await asyncio.to_thread(_answers, shared_target, sent)
    assert all(status < 500 for status in statuses), statuses


@settings(max_examples=100)
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(
                    st.sampled_from(["id", "account_id", "type", "occurred_at", "properties"]),
                    inner,
                )
            ),
            max_leaves=20,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    encoding=st.sampled_from(["identity", "gzip", "deflate", "zstd"]),
    packed=st.booleans(),
    target_path=st.sampled_from(["/v1/events", "/v1/accounts:batch", "/v1/accounts/acme"]),
    content_type=st.sampled_from(["application/json", LINES, "text/csv"]),
)
async def test_any_body_is_answered(
    shared_target: Target,
    body: bytes,
    encoding: str,
    target_path: str,
    content_type: str,
    *,
    packed: bool,
) -> None:
    sent = shared_target.post(
        gzip.compress(body) if packed and encoding == "gzip" else body,
        target_path,
        content_encoding=encoding,
        content_type=content_type,
    )
    if target_path.endswith("acme"):
        sent = sent.replace(b"POST", b"PUT", 1)
    (status,) = await asyncio.to_thread(_answers, shared_target, sent, answers=1)
    assert status < 500


async def test_fuzzing_left_no_trace(target: Target) -> None:
    """The checks after each test; hypothesis runs them not between its examples."""
    assert target.process.is_running()


@pytest.mark.usefixtures("target")
async def test_silent_connections_are_closed_in_the_end(silent: list[socket.socket]) -> None:
    def read(client: socket.socket) -> bytes:
        client.settimeout(15)
        return client.recv(4_096)

    replies = await asyncio.to_thread(lambda: [read(client) for client in silent])
    assert set(replies[0::2]) == {b""}
    assert {reply[:12] for reply in replies[21::2]} == {b"HTTP/1.1 408"}


def _answers(target: Target, sent: bytes, *, answers: int = 0) -> list[int]:
    """The statuses of all replies; the client has no more to say, or waits for so many."""
    received = b""
    with closing(socket.create_connection(("127.0.0.1", target.port), timeout=10)) as client:
        client.sendall(sent.replace(b"KEY", target.key.encode()))
        if not answers:
            client.shutdown(socket.SHUT_WR)
        try:
            while not answers or received.count(b"\r\n\r\n") < answers:
                part = client.recv(65_536)
                if not part:
                    break
                received += part
        except ConnectionError:
            pass
    return [int(line[9:12]) for line in received.splitlines() if line.startswith(b"HTTP/1.1 ")]
