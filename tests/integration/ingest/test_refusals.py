"""Every refusal looks as the description says, for every operation, by the real port."""

import base64
import json
import socket
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
import schemathesis

from services.ingest.replies import STATUS, RefusalCode
from shared.credentials import Scope, new_key
from shared.log import LogUnavailable
from tests.integration.ingest.described import DOCUMENT, OPERATIONS, Operation
from tests.integration.ingest.served import Served, served
from tests.unit.ingest.api import NOW, check_error
from tests.unit.ingest.native_bodies import item
from tests.unit.ingest.test_outages import StandIn

DESCRIBED = [operation for operation in OPERATIONS if not operation.variant]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
EVENTS = Operation("POST", "/v1/events")
MAX_BODY_BYTES = 2_000
STRANGER = new_key(source="app", scopes=[Scope.EVENTS_WRITE], now=NOW).secret


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served(
        ingest_max_body_bytes=MAX_BODY_BYTES, ingest_max_items=2, ingest_body_stall_seconds=0.1
    ) as running:
        yield running


def send(
    service: Served,
    operation: Operation,
    headers: dict[str, str],
    *,
    method: str | None = None,
    content: bytes | None = b"{}",
) -> httpx.Response:
    path = operation.path.format(id="acme", user_id="u-7")
    return service.client.request(
        method or operation.method, path, headers=headers, content=content
    )


def check_described(operation: Operation, response: httpx.Response, code: str) -> None:
    status = STATUS.get(RefusalCode(code)) if code in set(RefusalCode) else response.status_code
    assert status is not None
    check_error(response, status, code)
    # Its body by its schema; that the status is there at all it does not look at.
    described = SCHEMA[operation.path][operation.method]
    assert str(status) in described.definition.raw["responses"]
    described.validate_response(response)


@pytest.mark.parametrize("operation", DESCRIBED, ids=str)
def test_strangers_are_refused(operation: Operation, service: Served) -> None:
    basic = base64.b64encode(f"{STRANGER}:".encode()).decode()
    for authorization in (None, f"Bearer {STRANGER}", "Bearer x", f"Basic {basic}", "Basic ?"):
        headers = {} if authorization is None else {"authorization": authorization}
        response = send(service, operation, headers)
        check_described(operation, response, "invalid_key")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", DESCRIBED, ids=str)
def test_a_key_without_the_scope_is_refused(operation: Operation, service: Served) -> None:
    response = send(service, operation, service.key(Scope.ACCOUNTS_READ))
    check_described(operation, response, "scope_missing")


@pytest.mark.parametrize("operation", DESCRIBED, ids=str)
def test_other_methods_are_refused_with_those_that_are_served(
    operation: Operation, service: Served
) -> None:
    served_here = {method.upper() for method in DOCUMENT["paths"][operation.path]}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - served_here:
        response = send(service, operation, service.key(*Scope), method=method, content=None)
        check_described(operation, response, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == served_here
    head = send(service, operation, service.key(*Scope), method="HEAD", content=None)
    assert (head.status_code, head.content) == (405, b"")


@pytest.mark.parametrize("operation", DESCRIBED, ids=str)
def test_a_body_too_large_or_in_a_strange_encoding_is_refused(
    operation: Operation, service: Served
) -> None:
    key = service.key(*Scope)
    response = send(service, operation, key, content=b" " * (MAX_BODY_BYTES + 1))
    check_described(operation, response, "body_too_large")
    response = send(service, operation, {**key, "content-encoding": "br"})
    check_described(operation, response, "unsupported_encoding")
    assert "zstd" in response.headers["accept-encoding"]
    response = send(service, operation, {**key, "content-encoding": "gzip"})
    check_described(operation, response, "invalid_encoding")


@pytest.mark.parametrize("operation", DESCRIBED, ids=str)
def test_headers_too_large_are_refused(operation: Operation, service: Served) -> None:
    headers = {**service.key(*Scope), "x-long": "x" * 20_000}
    check_described(operation, send(service, operation, headers), "headers_too_large")


def test_what_is_no_http_is_refused(service: Served) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"POST /v1/events HTTP/1.1\r\ncontent-length: x\r\n\r\n")
        raw = b"".join(iter(lambda: connection.recv(65_536), b""))
    check_described(EVENTS, _response(raw), "invalid_request")


def test_a_body_that_stalls_is_refused(service: Served) -> None:
    key = service.key(*Scope)["Authorization"]
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        head = f"POST /v1/events HTTP/1.1\r\nauthorization: {key}\r\ncontent-length: 9\r\n\r\n["
        connection.sendall(head.encode())
        raw = b"".join(iter(lambda: connection.recv(65_536), b""))
    check_described(EVENTS, _response(raw), "stalled_body")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"[", "invalid_json"),
        (b"[]", "invalid_envelope"),
        (b"[{}]", "all_rejected"),
        (b"[{},{},{}]", "too_many_items"),
    ],
)
def test_a_body_without_good_events_is_refused(content: bytes, code: str, service: Served) -> None:
    check_described(EVENTS, send(service, EVENTS, service.key(), content=content), code)


def test_too_many_events_are_refused() -> None:
    with served(ingest_rate_per_second=1, ingest_rate_burst=1) as service:
        key = service.key()
        answers = [send(service, EVENTS, key, content=_two_events()) for _ in range(2)]
        check_described(EVENTS, answers[1], "rate_limited")


def test_while_the_log_is_away_everybody_comes_again() -> None:
    with served(StandIn(LogUnavailable("away"))) as service:
        response = send(service, EVENTS, service.key(), content=_two_events())
        check_described(EVENTS, response, "log_unavailable")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/accounts/", "/docs", "/redoc"])
def test_what_is_not_served_is_said_so(path: str, service: Served) -> None:
    check_error(service.client.get(path), 404, "not_found")
    check_error(service.client.post("/openapi.json"), 405, "method_not_allowed")


def test_the_description_is_served(service: Served) -> None:
    assert service.client.get("/openapi.json").json() == DOCUMENT


def _two_events() -> bytes:
    return json.dumps([item(id="1"), item(id="2")]).encode()


def _response(raw: bytes) -> httpx.Response:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    request = httpx.Request("POST", "http://ingest/v1/events")
    response = httpx.Response(
        int(status.split()[1]), headers=headers, content=body, request=request
    )
    response.elapsed = timedelta()
    return response
