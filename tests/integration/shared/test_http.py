"""The edge of every HTTP port, over real sockets: slow, endless, broken and too many clients."""

import asyncio
import json
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http import Edge, Fault
from shared.lifecycle import serve
from tests.integration.shared.raw_http import chunk, connected, exchange, request


def body_of(fault: Fault, message: str, request_id: str) -> bytes:
    return json.dumps([fault, message, request_id]).encode()


# One server and one loop for all: starting and stopping takes longer than most of the tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = Edge(
    max_head_bytes=1_000,
    max_headers=10,
    head_seconds=0.3,
    unread_seconds=0.5,
    error_body=body_of,
)
ASK = request("GET", "/")
LAST = request("GET", "/", connection="close")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of what came, after the seconds that the path names."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await asyncio.sleep(float(scope["path"].strip("/") or "0"))
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(edge: Edge, app: ASGIApp = echo) -> AsyncIterator[int]:
    async with serve(
        app, host="127.0.0.1", port=0, name="test", grace_seconds=1, edge=edge
    ) as port:
        yield port


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def port() -> AsyncIterator[int]:
    async with serving(SMALL) as opened:
        yield opened


async def refusals(port: int, *parts: bytes, pause: float = 0.0) -> list[tuple[int, str]]:
    """Status and code of each reply until the server closes."""
    found: list[tuple[int, str]] = []
    for reply in await exchange(port, *parts, pause=pause):
        if reply.status == 200:
            found.append((200, reply.body.decode()))
            continue
        code, message, request_id = json.loads(reply.body)
        assert message
        assert reply.headers["x-request-id"] == request_id
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["connection"] == "close"
        assert reply.headers["date"]
        found.append((reply.status, code))
    return found


async def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    assert await refusals(port) == []


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([ASK[:-2]], id="stalled"),
        pytest.param([ASK[n : n + 1] for n in range(len(ASK))], id="byte by byte"),
        pytest.param([b"\r\n"] * 100, id="empty lines"),
    ],
)
async def test_a_head_that_does_not_end_in_time_is_408(port: int, parts: list[bytes]) -> None:
    assert await refusals(port, *parts, pause=0.05) == [(408, "stalled_request")]


async def test_the_next_head_has_the_same_time(port: int) -> None:
    found = await refusals(port, ASK, *[b"\r\n"] * 3, ASK, ASK[:20], pause=0.06)
    assert found == [(200, "0"), (200, "0"), (408, "stalled_request")]


async def test_only_heads_are_timed(port: int) -> None:
    """How long a body or an answer may take is the application's business."""
    slow = request("POST", "/0.4", b"x" * 6)
    assert await refusals(port, slow[:-4], slow[-4:-2], slow[-2:], LAST, pause=0.4) == [
        (200, "6"),
        (200, "0"),
    ]


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("where", ["header", "target"])
async def test_a_head_has_a_size(port: int, where: str, pieces: int) -> None:
    def head(extra: int) -> bytes:
        if where == "target":
            return request("GET", "/" + "0" * extra, connection="close")
        return request("GET", "/", x="y" * extra, connection="close")

    def parts(data: bytes) -> list[bytes]:
        size = -(-len(data) // pieces)
        return [data[start : start + size] for start in range(0, len(data), size)]

    fits = 900 if where == "header" else 950
    assert await refusals(port, *parts(head(fits)), pause=0.01) == [(200, "0")]
    assert await refusals(port, *parts(head(1_001)), pause=0.01) == [(431, "headers_too_large")]


async def test_a_head_has_a_number_of_headers(port: int) -> None:
    headers = {f"x{number}": "y" for number in range(8)}
    fits = request("GET", "/", connection="close", **headers)
    assert await refusals(port, fits) == [(200, "0")]
    one_more = request("GET", "/", connection="close", x8="y", **headers)
    assert await refusals(port, one_more) == [(431, "headers_too_large")]


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(b"GET /", b"0" * 500, id="target"),
        pytest.param(ASK[:-2] + b"x: ", b"y" * 500, id="value"),
        pytest.param(ASK[:-2], b"y" * 500, id="name"),
        pytest.param(ASK[:-2], b"x: y\r\n", id="headers"),
        pytest.param(ASK + ASK[:-2] + b"x: ", b"y" * 500, id="the second head"),
    ],
)
async def test_a_head_without_end_is_cut(port: int, begin: bytes, more: bytes) -> None:
    found = await refusals(port, begin, *[more] * 10_000)
    if begin.startswith(ASK):
        # It is in time for an answer of its own, or stays with the request before.
        assert found.pop(0) == (200, "0")
    assert found in ([(431, "headers_too_large")], [] if begin.startswith(ASK) else None)


@pytest.mark.parametrize(
    "more",
    [b"x: y\r\n", b"x: " + b"y" * 2_000, b"1;" + b"e" * 2_000],
    ids=["many", "long", "chunk"],
)
async def test_neither_trailers_nor_chunks_grow_without_a_body(port: int, more: bytes) -> None:
    head = request(transfer_encoding="chunked")
    begin = head + (chunk(b"") if not more.startswith(b"1") else b"")[:3]
    found = await refusals(port, begin, *[more] * 100)
    assert found == [(431, "headers_too_large")]


async def test_bodies_of_any_size_and_in_any_pieces_come_whole(port: int) -> None:
    large = request("POST", "/", b"x" * 2_000_000)
    small = request("POST", "/", b"x" * 5_000, connection="close")
    chunked = request(transfer_encoding="chunked") + chunk(b"x") * 20_000 + chunk(b"")
    found = await refusals(port, large, large[:300], large[300:], chunked + small)
    assert found == [(200, "2000000")] * 2 + [(200, "20000"), (200, "5000")]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\0", id="NUL"),
        pytest.param(b"HELO mail\r\n", id="SMTP"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="a version to come"),
        pytest.param(b"GET /\xff HTTP/1.1\r\n\r\n", id="a path that is not ASCII"),
        pytest.param(b"GET nowhere HTTP/1.1\r\n\r\n", id="a path without root"),
        pytest.param(request("GET", x="a\0b"), id="NUL in a header"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(request(content_length="x"), id="no length"),
        pytest.param(request(content_length="-1"), id="a length below zero"),
        pytest.param(request(content_length="9" * 40), id="a length beyond numbers"),
        pytest.param(request("POST", "/", b"xx", content_length="1"), id="two lengths"),
        pytest.param(
            request("POST", "/", b"0\r\n\r\n", transfer_encoding="chunked"), id="both lengths"
        ),
        pytest.param(request(transfer_encoding="gzip") + b"x", id="no length at all"),
        pytest.param(request("CONNECT", "example.org:443"), id="CONNECT"),
        pytest.param(request("CONNECT", "example.org:443") + b"\x16\x03", id="CONNECT and on"),
        pytest.param(request(transfer_encoding="chunked") + b"zz\r\n", id="no size of a chunk"),
        pytest.param(
            request(transfer_encoding="chunked") + b"f" * 17 + b"\r\n", id="a chunk beyond numbers"
        ),
        pytest.param(
            request(transfer_encoding="chunked") + chunk(b"x" * 50) + b"1\r\nxyz\r\n",
            id="a chunk longer than it says",
        ),
    ],
)
async def test_what_is_no_http_is_told_so(port: int, sent: bytes) -> None:
    assert await refusals(port, sent) == [(400, "invalid_request")]


async def test_a_refusal_reaches_a_client_that_still_sends(port: int) -> None:
    """Closing at once would reset the connection, and the client would fail before it reads."""

    def send_on() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"\0")
            assert select.select([client], [], [], 10)[0]  # It is refused now.
            for _ in range(50):
                client.sendall(b"x" * 60_000)
            return client.recv(1_000)

    assert (await asyncio.to_thread(send_on)).startswith(b"HTTP/1.1 400 ")


async def test_an_application_that_answers_a_broken_body_is_not_heard() -> None:
    answered = asyncio.Event()

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["more_body"]
        assert (await receive())["type"] == "http.disconnect"
        await echo(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        answered.set()

    broken = request(transfer_encoding="chunked") + chunk(b"x")
    async with serving(SMALL, deaf) as port:
        assert await refusals(port, broken, b"zz", pause=0.05) == [(400, "invalid_request")]
        assert answered.is_set()


async def test_a_request_is_answered_whatever_follows_it(port: int) -> None:
    """Else the refusal would pass for the answer of the request before."""
    slow = request("POST", "/0.1", b"xx")
    assert await refusals(port, slow + b"\0garbage") == [(200, "2")]
    assert await refusals(port, slow + slow + b"\0garbage", b"more") == [(200, "2")] * 2
    broken = request(transfer_encoding="chunked") + b"zz\r\n"
    assert await refusals(port, ASK, broken, pause=0.05) == [
        (200, "0"),
        (400, "invalid_request"),
    ]


async def test_a_connection_holds_few_requests_at_once(port: int) -> None:
    """One packet holds thousands, each of them 100 times larger once it is parsed."""
    assert await refusals(port, ASK * 16 + LAST) == [(200, "0")] * 17
    found = await refusals(port, ASK * 3_000)
    assert found == [(200, "0")] * 17


async def test_a_head_behind_a_whole_request_has_the_same_size(port: int) -> None:
    assert await refusals(port, ASK + ASK[:-2] + b"x: " + b"y" * 5_000) == [(200, "0")]


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.0"])
async def test_an_upgrade_is_ignored(port: int, upgrade: str) -> None:
    wish = {"connection": "Upgrade, HTTP2-Settings", "upgrade": upgrade, "http2_settings": "AA"}
    get, post = request("GET", "/", **wish), request("POST", "/", b"x" * 5_000, **wish)
    chunked = request("POST", "/", transfer_encoding="chunked", **wish) + chunk(b"xyz") + chunk(b"")
    found = await refusals(port, get, post, chunked[:-9], chunked[-9:], LAST, pause=0.05)
    assert found == [(200, "0"), (200, "5000"), (200, "3"), (200, "0")]
    assert await refusals(port, get + post + chunked + LAST) == found


async def test_more_connections_than_the_limit_are_told_to_come_back() -> None:
    edge = Edge(max_connections=3, head_seconds=5, error_body=body_of)
    async with serving(edge) as port, connected(port), connected(port):
        async with connected(port) as third:
            await third.send(ASK)
            served = await third.reply()
            assert served is not None
            assert served.status == 200
            (reply,) = await exchange(port)
            assert (reply.status, json.loads(reply.body)[0]) == (503, "overloaded")
            assert 1 <= int(reply.headers["retry-after"]) <= 30
        while await refusals(port, LAST) != [(200, "0")]:  # noqa: ASYNC110 - as clients retry
            await asyncio.sleep(0.02)


async def test_silent_connections_make_room_by_themselves() -> None:
    edge = Edge(max_connections=3, head_seconds=0.3, error_body=body_of)
    async with serving(edge) as port, connected(port), connected(port), connected(port):
        assert await refusals(port, LAST) in ([(503, "overloaded")], [])
        while await refusals(port, LAST) != [(200, "0")]:  # noqa: ASYNC110 - as clients retry
            await asyncio.sleep(0.02)


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    gone = asyncio.Event()

    async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        part = {"type": "http.response.body", "body": b"x" * 100_000, "more_body": True}
        sending = asyncio.create_task(_repeat(send, part))
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        gone.set()

    async with (
        asyncio.timeout(15),
        serve(endless, host="127.0.0.1", port=0, name="test", grace_seconds=1, edge=SMALL) as port,
        connected(port) as client,
    ):
        await client.send(ASK)
        await gone.wait()


async def _repeat(send: Send, message: dict[str, object]) -> None:
    while True:
        await send(message)


async def test_leaving_waits_for_no_silent_connection() -> None:
    edge = Edge(head_seconds=60)
    started = asyncio.get_running_loop().time()
    async with serving(edge) as port, connected(port) as partial, connected(port):
        await partial.send(ASK[:-1])
    assert asyncio.get_running_loop().time() - started < 2


async def test_without_a_body_of_its_own_a_port_uses_all_the_words() -> None:
    async with serving(Edge()) as port:
        (reply,) = await exchange(port, b"\0")
    body = reply.json()
    assert body["code"] == body["error"] == "invalid_request"
    assert body["message"] == body["detail"] == "this is not HTTP/1.1, or not whole"
    assert body["request_id"] == reply.headers["x-request-id"]
