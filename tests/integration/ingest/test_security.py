"""Ingest against OWASP's API list of 2023; the items that the table in SECURITY.md names.

Limits of bodies, items and time (item 4): `test_hostile.py`, `test_refusals.py`, `test_run.py`.
"""

import json

import pytest

from services.ingest.openapi import document
from shared.credentials import Scope
from shared.http_headers import OF_AN_API
from shared.log import LogRefused, LogUnavailable
from tests.schemas import operations, promised
from tests.unit.ingest.api import NOW, Api, open_api
from tests.unit.ingest.test_outages import StandIn

CANARY = "hunter2"
# A route that is not here fails the test: what it needs must be thought of.
NEEDS = {
    "POST /v1/events": Scope.EVENTS_WRITE,
    "PUT /v1/accounts/{id}": Scope.ACCOUNTS_WRITE,
    "PATCH /v1/accounts/{id}": Scope.ACCOUNTS_WRITE,
    "DELETE /v1/accounts/{id}": Scope.ERASE,
    "POST /v1/accounts:batch": Scope.ACCOUNTS_WRITE,
    "DELETE /v1/users/{user_id}": Scope.ERASE,
    **{
        f"POST /v1/{name}": Scope.EVENTS_WRITE
        for name in ("batch", "track", "identify", "group", "page", "screen", "alias")
    },
    "POST /api/v1/events": Scope.EVENTS_WRITE,
    "POST /i/v1/analytics/events": Scope.EVENTS_WRITE,
    "POST /batch/": Scope.EVENTS_WRITE,
}
DOCUMENT = document.describe()


def filled(path: str) -> str:
    return path.format(id="acme", user_id="u-7")


async def test_1_and_5_no_route_takes_a_key_with_another_scope() -> None:
    assert {f"{method} {path}" for method, path, _ in operations(DOCUMENT)} == NEEDS.keys()
    log = StandIn({})
    async with open_api(log) as api:
        for scope in Scope:
            headers = api.key(scope)
            for name, needed in NEEDS.items():
                method, path = name.split()
                if scope is needed:
                    continue
                answer = await api.client.request(
                    method, filled(path), headers=headers, content=b"{}"
                )
                assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), name
    assert log.appended == []


async def stored(api: Api, log: StandIn, method: str, path: str, body: object) -> str:
    headers = api.key(Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE, source="mine")
    await api.client.request(method, path, headers=headers, json=body)
    return b"".join((record.value or b"") + record.key for record in log.appended).decode()


async def test_3_an_event_says_nothing_of_what_is_ours_to_say() -> None:
    log = StandIn({})
    event = {"id": "e-1", "account_id": "acme", "user_id": "ada", "type": "login"}
    forged = {
        "source": CANARY,
        "received_at": "1999-01-01T00:00:00Z",
        "user": f"u1:{CANARY}",
        "backfill": True,
        "v": 9,
        CANARY: True,
    }
    async with open_api(log) as api:
        text = await stored(api, log, "POST", "/v1/events", [{**event, **forged}])
    for record in log.appended:
        found = json.loads(record.value or b"{}")
        assert found.get("source", "mine") == "mine"
        assert found.get("v") != 9
    assert CANARY not in text
    assert "1999-01-01" not in text


async def test_3_an_account_has_the_fields_that_are_described() -> None:
    log = StandIn({})
    async with open_api(log) as api:
        for method in ("PUT", "PATCH"):
            body = {"name": "Acme", "risk": CANARY, "band": CANARY, "erased_at": CANARY, "v": 9}
            text = await stored(api, log, method, "/v1/accounts/acme", body)
            assert CANARY not in text


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        KeyError(CANARY),
        LogUnavailable(f"Kafka is away: {CANARY}"),
        LogRefused(f"KAFKA_SASL_PASSWORD: {CANARY}"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_8_an_error_tells_nothing_of_the_inside(error: Exception) -> None:
    event = {"id": "e-1", "account_id": "acme", "type": "login", "occurred_at": NOW.isoformat()}
    async with open_api(StandIn(error)) as api:
        answer = await api.client.post("/v1/events", headers=api.key(), json=[event])
    assert answer.status_code in (500, 503)
    for word in (CANARY, "Traceback", "Kafka", "KAFKA", ".py", "Error("):
        assert word not in answer.text


async def test_8_each_answer_carries_the_guards_and_no_leave_for_other_sites() -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    guards = {(name.lower(), value) for name, value in OF_AN_API.items()}
    async with open_api(StandIn({})) as api:
        for name in [*NEEDS, "GET /openapi.json", "GET /nowhere"]:
            method, path = name.split()
            for asked in (method, "OPTIONS", "TRACE"):
                answer = await api.client.request(asked, filled(path), headers=asks, content=b"")
                assert not [one for one in answer.headers if one.startswith("access-control")]
                assert set(answer.headers.items()) >= guards, (asked, path)
                assert asked == method or answer.status_code in (404, 405), (asked, path)
        for path in ("/docs", "/redoc", "/metrics", "/livez"):
            assert (await api.client.get(path)).status_code == 404, path


def test_9_what_was_promised_is_there() -> None:
    gone, new = promised(DOCUMENT, "ingest")
    assert not gone, "callers break; see tests/schemas"
    assert not new, "not committed yet; see tests/schemas"
