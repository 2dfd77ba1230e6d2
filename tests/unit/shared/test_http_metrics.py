"""Requests are counted by the template of their path, however many paths there are."""

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http_metrics import Measured, routes_of
from shared.lifecycle import Frame


def _app() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/accounts/{account:path}")
    async def read(account: str) -> str:
        return account

    @app.post("/v1/broken")
    async def broken() -> None:
        raise KeyError("a bug")

    return app


async def _ask(app: ASGIApp, method: str, path: str) -> int:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.request(method, path)).status_code


def _count(frame: Frame, route: str, method: str, code: str) -> float | None:
    return frame.registry.get_sample_value(
        "perennial_http_requests_total",
        {"service": "scoring", "route": route, "method": method, "code": code},
    )


@pytest.fixture
def app(frame: Frame) -> Measured:
    inner = _app()
    return Measured(inner, service="scoring", frame=frame, routes=routes_of(inner))


async def test_all_accounts_are_one_series(frame: Frame, app: Measured) -> None:
    for name in ("acme", "globex", "a/b"):
        assert await _ask(app, "GET", f"/v1/accounts/{name}") == 200
    assert _count(frame, "/v1/accounts/{account:path}", "GET", "200") == 3
    seconds = frame.registry.get_sample_value(
        "perennial_http_request_seconds_count",
        {"service": "scoring", "route": "/v1/accounts/{account:path}"},
    )
    assert seconds == 3


async def test_what_no_route_serves_is_one_series(frame: Frame, app: Measured) -> None:
    for path in ("/", "/.env", "/wp-admin"):
        assert await _ask(app, "GET", path) == 404
    assert await _ask(app, "BREW", "/coffee") == 404
    assert _count(frame, "none", "GET", "404") == 3
    assert _count(frame, "none", "other", "404") == 1


async def test_failures_start_at_zero_and_are_unhandled_errors(frame: Frame, app: Measured) -> None:
    assert _count(frame, "/v1/broken", "POST", "500") == 0
    assert await _ask(app, "POST", "/v1/broken") == 500
    assert _count(frame, "/v1/broken", "POST", "500") == 1
    unhandled = frame.registry.get_sample_value(
        "perennial_unhandled_errors_total", {"service": "scoring", "loop": "http"}
    )
    assert unhandled == 1


async def test_a_client_that_goes_before_its_answer_is_told_apart(frame: Frame) -> None:
    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pass

    measured = Measured(silent, service="scoring", frame=frame)
    scope = {"type": "http", "method": "GET", "path": "/"}
    await measured(scope, None, None)  # type: ignore[arg-type]
    assert _count(frame, "none", "GET", "gone") == 1
