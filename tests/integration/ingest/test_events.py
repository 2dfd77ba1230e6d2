"""Events over HTTP into a real log: what is answered as accepted is there, and nothing else is."""

import gzip
import json
import zlib
from datetime import timedelta

import msgspec
import pytest

from shared.credentials import Scope, hash_user
from shared.log.postgres import PostgresLog
from shared.messages import USAGE_EVENTS, UsageEvent
from tests.integration.ingest.stored import stored
from tests.unit.ingest.api import NOW, USER_KEY, Api, check_error, open_api
from tests.unit.ingest.native_bodies import item


async def test_an_accepted_event_is_in_the_log(api: Api, log: PostgresLog) -> None:
    event = item(user_id="ada@example.com", properties={"feature": "export"})
    response = await api.client.post("/v1/events", json=[event], headers=api.key(source="web"))

    assert response.status_code == 200
    assert response.json() == {"results": [{"index": 0, "id": "e-1", "status": "accepted"}]}
    assert await stored(log, USAGE_EVENTS, UsageEvent) == [
        (
            b"acme",
            UsageEvent(
                id="e-1",
                source="web",
                account="acme",
                user=hash_user(USER_KEY, "ada@example.com"),
                type="login",
                occurred_at=NOW,
                received_at=NOW,
                properties={"feature": "export"},
            ),
        )
    ]


async def test_the_good_items_of_a_bad_batch_are_kept(api: Api, log: PostgresLog) -> None:
    """The bad input of the issue: each answered by name, 99 good ones stored."""
    good = [item(id=f"good-{n}", account_id=f"account-{n % 7}") for n in range(99)]
    bad = {
        "missing_account": item(account_id=None),
        "event_too_large": item(id="big", properties={"x": "y" * 2**20}),
        "invalid_text": item(id="nul", account_id="a\0"),
        "invalid_time": item(id="year-1", occurred_at="0001-01-01T00:00:00Z"),
        "invalid_field": "not an object",
    }
    nan = '{"id":"nan","account_id":"acme","type":"t","properties":{"x":NaN,"y":"\\ud83d"}}'
    parts = [json.dumps(part) for part in [*good[:50], *bad.values(), *good[50:]]]
    body = "[" + ",".join([*parts, nan]) + "]"
    response = await api.client.post("/v1/events", content=body, headers=api.key())

    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["index"] for result in results] == list(range(105))
    assert [result["code"] for result in results if "code" in result] == list(bad)
    assert all(result["message"] for result in results if "code" in result)
    warned = [warning["code"] for warning in results[-1]["warnings"]]
    assert warned == ["text_repaired", "number_repaired"]
    events = [event for _, event in await stored(log, USAGE_EVENTS, UsageEvent)]
    assert {event.id for event in events} == {part["id"] for part in good} | {"nan"}
    assert len(events) == 100
    assert api.metric("items_total", format="native", status="accepted", code="") == 100
    assert api.metric("items_total", format="native", status="rejected", code="invalid_time") == 1
    assert api.metric("warnings_total", code="text_repaired") == 1
    assert api.metric("batches_total", format="native", mix="mixed") == 1


async def test_nothing_but_bad_items_is_400_with_the_reason(api: Api, log: PostgresLog) -> None:
    body = [item(account_id=None), item(type=None)]
    response = await api.client.post("/v1/events", json=body, headers=api.key())

    error = check_error(response, 400, "all_rejected")
    assert "item 0: missing_account: account_id is required" in str(error["message"])
    results = error["results"]
    assert isinstance(results, list)
    assert [result["code"] for result in results] == ["missing_account", "missing_type"]
    assert await stored(log, USAGE_EVENTS, UsageEvent) == []


async def test_years_1_and_9999_and_an_empty_batch_are_told_clearly(api: Api) -> None:
    key = api.key()
    for year in ("0001", "9999"):
        event = item(occurred_at=f"{year}-01-01T00:00:00Z")
        response = await api.client.post("/v1/events", json=event, headers=key)
        assert "invalid_time" in str(check_error(response, 400, "all_rejected")["message"])
    response = await api.client.post("/v1/events", json=[], headers=key)
    error = check_error(response, 400, "invalid_envelope")
    assert error["message"] == "the request holds no events"


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
async def test_a_body_may_be_encoded(
    api: Api, log: PostgresLog, encoding: str, encode: type[bytes]
) -> None:
    body = encode(json.dumps([item()]).encode())
    headers = {**api.key(), "content-encoding": encoding}
    response = await api.client.post("/v1/events", content=body, headers=headers)
    assert response.status_code == 200
    assert len(await stored(log, USAGE_EVENTS, UsageEvent)) == 1


async def test_lines_and_a_trailing_slash(api: Api, log: PostgresLog) -> None:
    headers = {**api.key(), "content-type": "application/x-ndjson"}
    body = json.dumps(item(id="1")) + "\nbroken\n" + json.dumps(item(id="2"))
    response = await api.client.post("/v1/events/", content=body, headers=headers)
    codes = [result.get("code") for result in response.json()["results"]]
    assert codes == [None, "invalid_json", None]
    assert len(await stored(log, USAGE_EVENTS, UsageEvent)) == 2


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        pytest.param(b"{", {}, 400, "invalid_json", id="malformed"),
        pytest.param(b"x", {"content-encoding": "gzip"}, 400, "invalid_encoding", id="no gzip"),
        pytest.param(b"x", {"content-encoding": "br"}, 415, "unsupported_encoding", id="brotli"),
        pytest.param(b"x" * (2**23 + 1), {}, 413, "body_too_large", id="8 MiB and one"),
        pytest.param(
            gzip.compress(b"\0" * 2**25),
            {"content-encoding": "gzip"},
            413,
            "body_too_large",
            id="bomb",
        ),
        pytest.param(b"[]", {"perennial-backfill": "1"}, 400, "invalid_envelope", id="backfill 1"),
        pytest.param(b"[" + b"{}," * 2000 + b"{}]", {}, 413, "too_many_items", id="2,001 items"),
        pytest.param(b"[]", {"idempotency-key": "k" * 191}, 400, "invalid_envelope", id="long key"),
    ],
)
async def test_a_bad_request_is_refused_as_a_whole(
    api: Api, log: PostgresLog, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = await api.client.post(
        "/v1/events", content=content, headers={**api.key(), **headers}
    )
    check_error(response, status, code)
    assert api.metric("refused_total", reason=code) == 1
    assert api.metric("requests_total", format="native", status=str(status)) == 1
    assert await stored(log, USAGE_EVENTS, UsageEvent) == []


async def test_a_wrong_key_is_401_and_a_scope_too_few_403(api: Api) -> None:
    good = api.key()
    typo = {"authorization": good["authorization"][:-1] + "!"}
    revoked = api.key()
    (record,) = [r for r in api.ring.records() if r.key_id in revoked["authorization"]]
    api.ring.put(msgspec.structs.replace(record, revoked_at=NOW - timedelta(seconds=1)))
    for headers in ({}, {"authorization": "Basic abc"}, typo, revoked):
        response = await api.client.post("/v1/events", json=item(), headers=headers)
        check_error(response, 401, "invalid_key")
        assert response.headers["www-authenticate"] == "Bearer"
    for headers in (
        api.key(Scope.ACCOUNTS_WRITE),
        {**good, "perennial-backfill": "true"},
    ):
        response = await api.client.post("/v1/events", json=item(), headers=headers)
        check_error(response, 403, "scope_missing")


async def test_history_is_marked(api: Api, log: PostgresLog) -> None:
    old = item(id="old", occurred_at="2020-01-01T00:00:00Z")
    key = api.key(Scope.EVENTS_WRITE, Scope.BACKFILL)
    await api.client.post("/v1/events", json=[old, item(id="new")], headers=key)
    marked = {**key, "perennial-backfill": "true"}
    await api.client.post("/v1/events", json=[item(id="marked")], headers=marked)

    events = [event for _, event in await stored(log, USAGE_EVENTS, UsageEvent)]
    backfill = {event.id: event.backfill for event in events}
    assert backfill == {"old": True, "new": False, "marked": True}


async def test_a_key_that_sends_too_much_waits(log: PostgresLog) -> None:
    async with open_api(log, ingest_rate_per_second=1, ingest_rate_burst=3) as api:
        key = api.key()
        first = await api.client.post(
            "/v1/events", json=[item(id=str(n)) for n in range(10)], headers=key
        )
        assert first.status_code == 200
        response = await api.client.post("/v1/events", json=item(), headers=key)
        check_error(response, 429, "rate_limited")
        # Seven below zero and one above, at one a second.
        assert int(response.headers["retry-after"]) >= 7
        other = await api.client.post("/v1/events", json=item(id="other"), headers=api.key())
        assert other.status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
async def test_other_methods_are_405(api: Api, method: str) -> None:
    response = await api.client.request(method, "/v1/events", headers={"origin": "https://x.y"})
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/event", "/v1/accounts", "/v1/accounts/"])
async def test_other_paths_are_404_with_the_same_body(api: Api, path: str) -> None:
    response = await api.client.post(path, json={}, headers={"x-request-id": "my-id.1"})
    error = check_error(response, 404, "not_found")
    assert error["request_id"] == "my-id.1"


async def test_a_request_id_that_could_harm_a_log_is_replaced(api: Api) -> None:
    response = await api.client.get("/v1/events", headers={"x-request-id": "a b\tc"})
    assert response.headers["x-request-id"] != "a b\tc"


async def test_the_record_is_the_same_on_a_second_try(api: Api, log: PostgresLog) -> None:
    """A retry differs in nothing that tells two deliveries of an event from two events."""
    key = api.key()
    for _ in range(2):
        await api.client.post("/v1/events", json=item(), headers=key)
    first, second = [event for _, event in await stored(log, USAGE_EVENTS, UsageEvent)]
    assert first == second
