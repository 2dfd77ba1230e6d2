"""The read API against OWASP's API list of 2023; the items that the table in SECURITY.md names."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.api import api
from services.scoring.domain.rules import read_default
from services.scoring.register import Register
from shared.credentials import KeyRing, Scope, new_key
from shared.http_headers import OF_AN_API
from tests.factories import NOW
from tests.schemas import operations, promised

CANARY = "hunter2"
MOST_OF_A_PAGE = 1_000


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing()


@pytest.fixture
def app(engine: AsyncEngine, keys: KeyRing) -> FastAPI:
    return api(
        engine=engine,
        keys=keys,
        clock=lambda: NOW,
        rules=read_default(),
        register=Register(engine=engine, clock=lambda: NOW, max_age=timedelta(seconds=10)),
    )


@asynccontextmanager
async def caller(app: FastAPI, keys: KeyRing, *scopes: Scope) -> AsyncIterator[httpx.AsyncClient]:
    key = new_key(source="t", scopes=scopes or [Scope.ACCOUNTS_READ], now=NOW)
    keys.put(key.record)
    async with httpx.AsyncClient(
        # As uvicorn answers, also where the application fails.
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://scoring",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as client:
        yield client


def paths(app: FastAPI) -> Iterator[tuple[str, str]]:
    for method, path, _ in operations(app.openapi()):
        yield method, re.sub(r"\{month\}", "2026-02", re.sub(r"\{(account|version)\}", "x", path))


async def test_1_and_5_no_route_answers_a_key_with_another_scope(
    app: FastAPI, keys: KeyRing
) -> None:
    assert {path for _, path in paths(app)}
    for scope in set(Scope) - {Scope.ACCOUNTS_READ}:
        async with caller(app, keys, scope) as client:
            for method, path in paths(app):
                answer = await client.request(method, path, content=b"")
                found = (answer.status_code, answer.json()["code"])
                assert found == (403, "scope_missing"), (scope, method, path)


async def test_2_no_route_answers_without_a_good_key(app: FastAPI, keys: KeyRing) -> None:
    async with caller(app, keys) as client:
        for given in (
            "",
            "Bearer x",
            f"Bearer prn_live_{'a' * 12}_{'b' * 32}_cccccc",
            "Basic YTpi",
        ):
            for method, path in paths(app):
                answer = await client.request(method, path, headers={"Authorization": given})
                assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key"), path
                assert answer.headers.items() >= {
                    (name.lower(), value) for name, value in OF_AN_API.items()
                }


async def test_4_each_list_has_a_largest_page(app: FastAPI, keys: KeyRing) -> None:
    async with caller(app, keys) as client:
        for method, path, operation in operations(app.openapi()):
            for given in operation.get("parameters", ()):
                if given["name"] == "limit":
                    assert given["schema"]["maximum"] <= MOST_OF_A_PAGE, path
                    filled = re.sub(r"\{\w+\}", "x", path)
                    answer = await client.request(method, filled, params={"limit": 10**9})
                    assert answer.status_code == 422, path
                assert given["schema"].get("type") != "string" or (
                    "maxLength" in given["schema"] or given["in"] == "path" or "enum" in str(given)
                ), (path, given["name"])


async def test_8_an_error_tells_nothing_of_the_inside(
    app: FastAPI, keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr("services.scoring.queries.read_account", broken)
    async with caller(app, keys) as client:
        answer = await client.get("/v1/accounts/x")
    assert answer.status_code == 500
    for word in (CANARY, "Traceback", "ValueError", ".py", "services"):
        assert word not in answer.text


async def test_8_no_page_of_another_site_may_read(app: FastAPI, keys: KeyRing) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    async with caller(app, keys) as client:
        for method, path in paths(app):
            for asked in (method, "OPTIONS", "TRACE", "DELETE"):
                answer = await client.request(asked, path, headers=asks)
                assert not [one for one in answer.headers if one.startswith("access-control")]
                assert asked == method or answer.status_code == 405, (asked, path)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/oauth2-redirect", "/metrics", "/livez"])
async def test_8_and_9_nothing_else_is_served(app: FastAPI, keys: KeyRing, path: str) -> None:
    async with caller(app, keys) as client:
        assert (await client.get(path)).status_code == 404


def test_9_what_was_promised_is_there(app: FastAPI) -> None:
    gone, new = promised(app.openapi(), "scoring")
    assert not gone, "callers break; see tests/schemas"
    assert not new, "not committed yet; see tests/schemas"
