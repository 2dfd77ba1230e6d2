"""What keys do through the API: each step once, by the version that was seen, and written down."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from services.notifier.tables import audit, timeline
from shared.messages import OutcomeKind
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, flag

DAY = timedelta(days=1)
KEPT = {"Idempotency-Key": "4711"}


async def open_one(rig: Rig) -> str:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    return f"/api/v1/interventions/{row.id}"


async def post(api: httpx.AsyncClient, path: str, **body: object) -> dict[str, Any]:
    answer = await api.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def audited(rig: Rig) -> list[str]:
    async with rig.engine.connect() as connection:
        return list(await connection.scalars(select(audit.c.action).order_by(audit.c.id)))


async def test_an_intervention_goes_its_way_through_the_api(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    one = await open_one(rig)
    assert (await post(api, f"{one}/acknowledge", version=1))["status"] == "acknowledged"
    until = (NOW + 3 * DAY).isoformat()
    asleep = await post(api, f"{one}/snooze", version=2, until=until, reason="On holiday")
    assert asleep["snooze"]["reason"] == "On holiday"
    assert (await post(api, f"{one}/wake", version=3))["snooze"] is None
    assert (await post(api, f"{one}/tasks/1", done=True))["version"] == 5
    assert (await post(api, f"{one}/reassign", version=5, owner=FALLBACK.upper()))["owner"] == (
        FALLBACK
    )
    closed = await post(api, f"{one}/close", version=6, outcome="saved")
    assert (closed["status"], closed["outcome"]) == ("closed", "saved")
    again = await post(api, f"{one}/correct", version=7, outcome="churned", note="They left")
    assert (again["outcome"], again["version"]) == ("churned", 8)

    steps = "acknowledged snoozed woken task_done owner_changed closed corrected"
    assert await audited(rig) == [f"intervention.{step}" for step in steps.split()]
    async with rig.engine.connect() as connection:
        row = (await connection.execute(select(audit).limit(1))).one()
        told = select(timeline.c.by).where(timeline.c.kind == "closed")
        assert await connection.scalar(told) == row.actor
    assert row.actor.startswith("key:crm/")
    assert (row.way, row.role, row.account_id) == ("key", "admin", "acme")


async def test_a_step_by_an_old_version_is_refused_with_the_row_as_it_is(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    one = await open_one(rig)
    await post(api, f"{one}/acknowledge", version=1)
    answer = await api.post(f"{one}/close", json={"version": 1, "outcome": "saved"})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale")
    now = answer.json()["intervention"]
    assert (now["version"], now["status"]) == (2, "acknowledged")
    assert await audited(rig) == ["intervention.acknowledged"]


async def test_without_a_version_no_step_is_taken(rig: Rig, api: httpx.AsyncClient) -> None:
    one = await open_one(rig)
    for step in ("acknowledge", "wake", "snooze", "close", "correct", "reassign"):
        answer = await api.post(f"{one}/{step}", json={})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert "body.version" in answer.json()["message"]
    assert await audited(rig) == []


async def test_a_request_that_comes_again_with_its_key_is_one_step(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    one = await open_one(rig)
    body = {"version": 1}
    first = await api.post(f"{one}/acknowledge", json=body, headers=KEPT)
    again = await api.post(f"{one}/acknowledge", json=body, headers=KEPT)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    # Without the key it is another step, and comes too late.
    assert (await api.post(f"{one}/acknowledge", json=body)).status_code == 409
    assert await audited(rig) == ["intervention.acknowledged"]

    said = {"mood": "good", "expires_at": (NOW + DAY).isoformat()}
    path = "/api/v1/accounts/acme/sentiments"
    ids = {(await api.post(path, json=said, headers=KEPT)).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    # The same key about something else is something else.
    other = await api.post(path, json=said | {"mood": "neutral"}, headers=KEPT)
    assert other.json()["id"] not in ids


@pytest.mark.parametrize(
    ("step", "body", "code"),
    [
        ("close", {"outcome": "false_alarm"}, "note_missing"),
        ("snooze", {"until": NOW.isoformat(), "reason": "x"}, "past"),
        ("snooze", {"until": (NOW + 61 * DAY).isoformat(), "reason": "x"}, "too_long"),
        ("snooze", {"until": (NOW + DAY).isoformat(), "reason": " "}, "reason_missing"),
        ("snooze", {"until": "2026-06-02T00:00:00", "reason": "x"}, "invalid_request"),
        ("snooze", {"until": "0001-01-01T00:00:00+14:00", "reason": "x"}, "invalid_request"),
        ("reassign", {"owner": "nobody@vendor.example"}, "unknown_owner"),
        ("reassign", {"owner": "nobody"}, "owner_missing"),
        ("close", {"outcome": "saved", "note": "\0"}, "invalid_request"),
        ("close", {"outcome": "saved", "surprise": 1}, "invalid_request"),
    ],
)
async def test_what_is_incomplete_is_refused(
    rig: Rig, api: httpx.AsyncClient, step: str, body: dict[str, Any], code: str
) -> None:
    one = await open_one(rig)
    answer = await api.post(f"{one}/{step}", json={"version": 1} | body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_what_is_not_there_is_told(rig: Rig, api: httpx.AsyncClient) -> None:
    nobody = "/api/v1/interventions/6a0e7d0a-54f0-4f3c-8f0e-3d7f6c2f5a11"
    assert (await api.get(nobody)).status_code == 404
    answer = await api.post(f"{nobody}/close", json={"version": 1, "outcome": "saved"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
    said = {"mood": "good", "expires_at": (NOW + DAY).isoformat()}
    answer = await api.post("/api/v1/accounts/nobody/sentiments", json=said)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
    one = await open_one(rig)
    assert (await api.post(f"{one}/tasks/99", json={"done": True})).status_code == 404


async def test_a_silence_is_added_and_ended(rig: Rig, api: httpx.AsyncClient) -> None:
    body = {
        "matchers": {"segment": "smb"},
        "ends_at": (NOW + DAY).isoformat(),
        "comment": "A campaign",
    }
    created = (await api.post("/api/v1/silences", json=body)).json()
    assert (created["state"], created["matchers"]) == ("active", {"segment": "smb"})
    path = f"/api/v1/silences/{created['id']}/expire"
    assert (await api.post(path)).status_code == 200
    assert (await api.post(path)).status_code == 409
    assert await audited(rig) == ["silence.created", "silence.ended"]
    for change, code in (
        ({"matchers": {}}, "matches_all"),
        ({"comment": " "}, "no_comment"),
        ({"ends_at": NOW.isoformat()}, "backwards"),
        ({"matchers": {"reason": "x"}}, "invalid_request"),
    ):
        answer = await api.post("/api/v1/silences", json=body | change)
        assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_what_a_person_wants_is_kept(rig: Rig, api: httpx.AsyncClient) -> None:
    path = f"/api/v1/people/{OWNER}"
    wanted = {"mode": "daily", "opens": "08:00", "closes": "16:00", "channels": ["email"]}
    found = (await api.put(path, json=wanted)).json()
    assert found["own_choice"] == {
        "mode": "daily", "channels": ["email"], "opens": "08:00:00", "closes": "16:00:00",
    }  # fmt: skip
    assert (await api.get(path)).json()["own_choice"] == found["own_choice"]
    for wrong in ({"opens": "08:00"}, {"zone": "Mars"}, {"channels": ["fax"]}, {"mode": "often"}):
        assert (await api.put(path, json=wrong)).status_code == 422
    assert (await api.put("/api/v1/people/nobody", json={})).status_code == 404
    assert await audited(rig) == ["preference.changed"]


async def test_people_are_told_what_a_key_did_as_what_a_person_did(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    """The same steps: outcomes are published, and the timeline tells."""
    one = await open_one(rig)
    await post(api, f"{one}/close", version=1, outcome=OutcomeKind.SAVED.value, note="Called them")
    found = (await api.get(one)).json()
    (told,) = [entry for entry in found["timeline"] if entry["kind"] == "closed"]
    assert told["detail"] == {"outcome": "saved", "note": "Called them"}


async def test_users_are_invited_given_a_role_and_shut_out(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    made = await post(api, "/api/v1/users", address="Bob@vendor.example", role="csm")
    assert (made["address"], made["state"]) == ("bob@vendor.example", "invited")
    assert made["welcome_path"].startswith("/welcome/")
    again = await api.post("/api/v1/users", json={"address": "bob@vendor.example", "role": "csm"})
    assert (again.status_code, again.json()["code"]) == (409, "there_already")
    one = "/api/v1/users/bob@vendor.example"
    assert (await post(api, f"{one}/role", role="manager"))["role"] == "manager"
    assert (await post(api, f"{one}/disable"))["state"] == "disabled"
    assert (await post(api, f"{one}/enable"))["state"] == "invited"
    assert (await post(api, f"{one}/reset"))["welcome_path"] != made["welcome_path"]
    (user,) = (await api.get("/api/v1/users")).json()["users"]
    assert "password" not in user
    assert (await api.post("/api/v1/users/eve@vendor.example/disable")).status_code == 404
    assert await audited(rig) == [
        "user.added", "user.role", "user.disabled", "user.enabled", "user.reset",
    ]  # fmt: skip


async def test_notes_and_views_are_kept_and_written_down(rig: Rig, api: httpx.AsyncClient) -> None:
    await open_one(rig)
    await post(api, "/api/v1/accounts/acme/notes", text=" They want\nto talk ")
    (note,) = (await api.get("/api/v1/accounts/acme/notes")).json()["notes"]
    assert note["text"] == "They want\nto talk"
    assert (await api.post("/api/v1/accounts/nobody/notes", json={"text": "x"})).status_code == 404
    assert (await api.post("/api/v1/accounts/acme/notes", json={"text": " "})).status_code == 422

    kept = await post(api, "/api/v1/views", name="Mine", query="band=critical&x=1")
    (view,) = kept["views"]
    assert view["query"] == "band=critical"
    path = f"/api/v1/views/{view['id']}"
    assert [(await api.delete(path)).status_code for _ in range(2)] == [200, 404]

    assert await audited(rig) == ["note.added", "view.saved", "view.removed"]
