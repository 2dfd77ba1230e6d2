"""PostHog's two protocols over HTTP into a real log."""

import gzip
import json

from shared.credentials import hash_user
from shared.log.postgres import PostgresLog
from shared.messages import (
    DIRECTORY_CHANGES,
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    DirectoryChange,
    UnplacedEvent,
    UsageEvent,
)
from tests.integration.ingest.stored import stored
from tests.unit.ingest.api import NOW, USER_KEY, Api
from tests.unit.ingest.test_posthog import V1_PATH, body_of, capture, describe, grouped


async def test_both_protocols_leave_the_same_event(api: Api, log: PostgresLog) -> None:
    key = api.key()
    event = capture(1, properties={"n": 1})
    secret = key["authorization"].removeprefix("Bearer ")
    response = await api.client.post(
        "/batch/",
        content=gzip.compress(body_of(event, api_key=secret, sent_at=NOW.isoformat())),
        headers={"content-encoding": "gzip"},
    )
    assert (response.status_code, response.json()) == (200, {"status": 1})
    response = await api.client.post(
        V1_PATH,
        content=body_of({**event, "options": {}}, created_at=NOW.isoformat()),
        headers={**key, "posthog-request-timestamp": NOW.isoformat()},
    )
    assert response.status_code == 200

    first, second = await stored(log, USAGE_EVENTS, UsageEvent)
    assert first == second
    assert first == (
        b"acme",
        UsageEvent(
            id=str(event["uuid"]),
            source="app",
            account="acme",
            user=hash_user(USER_KEY, "ada"),
            type="report_exported",
            occurred_at=NOW,
            client_at=NOW,
            received_at=NOW,
            format="posthog",
            properties={"n": 1},
        ),
    )


async def test_v1_tells_what_became_of_each_event(api: Api, log: PostgresLog) -> None:
    good = [capture(number) for number in range(1, 100)]
    bad = grouped({}, uuid="nowhere", options={"process_person_profile": False})
    alone = grouped({}, uuid="ada's")
    known = {**describe(name="Acme"), "uuid": "known"}
    content = body_of(*good[:50], bad, *good[50:], known, alone)
    response = await api.client.post(V1_PATH, content=content, headers=api.key())

    assert response.status_code == 200
    results = response.json()["results"]
    assert results.keys() == {each["uuid"] for each in (*good, bad, known, alone)}
    dropped = results.pop("nowhere")
    assert dropped["result"] == "drop"
    assert dropped["details"].startswith("missing_account: ")
    assert {json.dumps(each) for each in results.values()} == {'{"result": "ok"}'}

    events = [event for _, event in await stored(log, USAGE_EVENTS, UsageEvent)]
    assert {event.id for event in events} == results.keys() - {"ada's"}
    [(user, event)] = await stored(log, UNPLACED_EVENTS, UnplacedEvent)
    assert (event.id, event.user, user) == ("ada's", user.decode(), event.user.encode())
    [(account, change)] = await stored(log, DIRECTORY_CHANGES, DirectoryChange)
    assert (account, change.fields.name) == (b"acme", "Acme")
    assert api.metric("items_total", format="posthog", status="accepted", code="") == 101
    code = "missing_account"
    assert api.metric("items_total", format="posthog", status="rejected", code=code) == 1
