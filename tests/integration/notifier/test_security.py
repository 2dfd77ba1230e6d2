"""The console's API against OWASP's API list of 2023: the items that SECURITY.md names.

Rights of roles and scopes are in `test_rights.py` and `test_api.py`, sign-in in `test_sign_in.py`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from services.notifier.console.scoring import MOST_BYTES, Missing, ScoringApi
from services.notifier.freshness import Freshness
from shared.credentials import KeyRing, Scope, new_key
from shared.http_headers import OF_AN_API
from shared.lifecycle import serve
from tests.integration.notifier.console_rig import api_app
from tests.integration.notifier.rig import NOW, OWNER, Rig
from tests.schemas import operations, promised

CANARY = "hunter2"
MOST_OF_A_PAGE = 1_000
_NOWHERE = "00000000-0000-4000-8000-000000000000"


@asynccontextmanager
async def caller(rig: Rig, *scopes: Scope) -> AsyncIterator[httpx.AsyncClient]:
    ring, key = KeyRing(), new_key(source="crm", scopes=scopes or list(Scope), now=NOW)
    ring.put(key.record)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api_app(rig, ring), raise_app_exceptions=False),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {key.secret}"},
    ) as client:
        yield client


async def described(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/api/v1/openapi.json")).json()
    return found


def filled(path: str) -> str:
    known = {"account": "nobody", "number": "1", "year": "2026", "measure": "accounts_saved"}
    return re.sub(
        r"\{(\w+)\}",
        lambda one: _NOWHERE if one[1].endswith("_id") else known.get(one[1], OWNER),
        path,
    )


async def test_1_and_5_each_scope_opens_its_own_routes_and_no_other(rig: Rig) -> None:
    useless = set(Scope) - {
        Scope.INTERVENTIONS_READ,
        Scope.INTERVENTIONS_WRITE,
        Scope.SETTINGS_READ,
        Scope.SETTINGS_WRITE,
    }
    for scope in useless:
        async with caller(rig, scope) as client:
            for method, path, operation in operations(await described(client)):
                if "requestBody" in operation:
                    continue  # with a body that fits: `test_api.py`
                answer = await client.request(method, filled(path))
                assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path


async def test_1_what_is_not_there_is_told_as_what_one_may_not_know(rig: Rig) -> None:
    async with caller(rig) as client:
        for method, path, operation in operations(await described(client)):
            if "_id}" in path and "requestBody" not in operation:
                answer = await client.request(method, filled(path))
                # It says the same of what is not there and of what is over.
                status = 409 if path.endswith("/expire") else 404
                assert answer.status_code == status, (method, path, answer.text)


async def test_3_no_body_may_hold_more_than_is_described(rig: Rig) -> None:
    async with caller(rig) as client:
        document = await described(client)
        bodies = 0
        for method, path, operation in operations(document):
            for content in operation.get("requestBody", {}).get("content", {}).values():
                bodies += 1
                for schema in schemas(document, content["schema"]):
                    assert schema.get("additionalProperties") is False, (method, path)
                answer = await client.request(method, filled(path), json={CANARY: True})
                assert answer.status_code == 422, (method, path)
        assert bodies > 5


def schemas(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that a body may be."""
    if "$ref" in schema:
        return schemas(document, document["components"]["schemas"][schema["$ref"].split("/")[-1]])
    parts = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if parts:
        return [one for part in parts for one in schemas(document, part)]
    return [schema] if schema.get("type") == "object" else []


async def test_4_each_list_has_a_largest_page(rig: Rig) -> None:
    async with caller(rig) as client:
        for method, path, operation in operations(await described(client)):
            for given in operation.get("parameters", ()):
                if given["name"] in ("limit", "per_page"):
                    assert given["schema"]["maximum"] <= MOST_OF_A_PAGE, path
                    answer = await client.request(method, filled(path), params={"limit": 10**9})
                    assert answer.status_code == 422, path


async def test_8_an_error_tells_nothing_of_the_inside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncConnection.execute", broken)
    async with caller(rig) as client:
        answer = await client.get("/api/v1/interventions")
    assert answer.status_code in (500, 503)
    for word in (CANARY, "Traceback", "ValueError", ".py"):
        assert word not in answer.text


async def test_8_each_answer_carries_the_guards_and_no_leave_for_other_sites(rig: Rig) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    guards = {(name.lower(), value) for name, value in OF_AN_API.items()}
    async with caller(rig) as client:
        found = [(method, path) for method, path, _ in operations(await described(client))]
        for method, path in [*found, ("GET", "/api/v1/nowhere")]:
            for asked in (method, "OPTIONS", "TRACE"):
                answer = await client.request(asked, filled(path), headers=asks)
                assert not [one for one in answer.headers if one.startswith("access-control")]
                assert set(answer.headers.items()) >= guards, (asked, path)
        for path in ("/docs", "/redoc", "/api/docs", "/api/v1/docs", "/metrics"):
            assert (await client.get(path)).status_code == 404, path


async def test_9_what_was_promised_is_there(rig: Rig) -> None:
    async with caller(rig) as client:
        document = await described(client)
    gone, new = await asyncio.to_thread(promised, document, "notifier")
    assert not gone, "callers break; see tests/schemas"
    assert not new, "not committed yet; see tests/schemas"


async def _endless(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """Says 200 and goes on far beyond what is read."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    piece = b'"' + CANARY.encode() + b"x" * 1_000_000
    for _ in range(3 * MOST_BYTES // len(piece)):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)


async def _dripping(_scope: AsgiScope, _receive: Receive, send: Send) -> None:
    """One byte now and then: no pause is too long, but all of them are."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(25):
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("other", [_endless, _dripping])
async def test_10_an_answer_of_scoring_is_bounded_and_not_repeated(
    other: Callable[..., Any], logged: Callable[[], str]
) -> None:
    async with (
        serve(other, host="127.0.0.1", port=0, name="scoring", grace_seconds=1) as port,
        httpx.AsyncClient(timeout=1) as client,
    ):
        url = f"http://127.0.0.1:{port}"
        api = ScoringApi(client=client, url=url, key="prn_live_key")
        async with asyncio.timeout(10):
            found = await api.ask(dict, "/v1/status")
            freshness = Freshness(client=client, url=url, key="prn_live_key")
            await freshness.ask()
    assert isinstance(found, Missing)
    assert CANARY not in found.text
    assert freshness.outage_since() is None
    assert CANARY not in logged()
    assert MOST_BYTES < 64 * 1024 * 1024
