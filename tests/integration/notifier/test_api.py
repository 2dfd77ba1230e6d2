"""The JSON API: what it tells, who may ask, and how lists go on."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from services.notifier import audit as audit_log
from services.notifier.api.openapi import EXAMPLES
from services.notifier.domain.access import Role, Viewer
from services.notifier.tables import audit, channels, deliveries, destinations
from shared.credentials import KeyRing, Scope, new_key
from shared.messages import Band, FlagReason, OutcomeKind, Source, Stage
from tests.integration.notifier.console_rig import api_app
from tests.integration.notifier.rig import FALLBACK, NOW, OWNER, Rig, account, flag

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ANYBODY = Viewer(address="key:crm/x", role=Role.MANAGER, way="key")


def client_of(rig: Rig, *scopes: Scope, ring: KeyRing | None = None) -> httpx.AsyncClient:
    keys, key = ring or KeyRing(), new_key(source="crm", scopes=scopes, now=NOW)
    keys.put(key.record)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(api_app(rig, keys)),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {key.secret}"},
    )


async def told(api: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await api.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def fill(rig: Rig) -> str:
    """One account with an intervention, and something in every list; the intervention's id."""
    await rig.take(account())
    await rig.take(flag())
    await rig.send_all()
    (row,) = await rig.interventions()
    assert await rig.steps.acknowledge(row.id, version=1, by=ANYBODY)
    return str(row.id)


async def test_all_filters_of_the_board_narrow_the_list(rig: Rig, api: httpx.AsyncClient) -> None:
    await rig.take(
        account(),
        account(account_id="beta", name="Beta", owner="bob@vendor.example"),
        account(account_id="nobody", name="Nobody's", owner=None),
    )
    await rig.take(flag(), flag(reason=FlagReason.SEATS_IDLE, flag_id="2", stage=Stage.ADOPT))
    await rig.take(flag(account="beta", flag_id="3", band=Band.CRITICAL), flag(account="nobody"))

    async def ids(**query: str) -> set[tuple[str, str]]:
        found = (await api.get("/api/v1/interventions", params=query)).json()["interventions"]
        return {(one["account_id"], one["reason"]) for one in found}

    acme, idle = ("acme", "churn_risk"), ("acme", "seats_idle")
    beta, nobody = ("beta", "churn_risk"), ("nobody", "churn_risk")
    assert await ids() == {acme, idle, beta, nobody}
    assert await ids(owner=OWNER) == {acme, idle}
    assert await ids(account="acme", type="adopt") == {idle}
    assert await ids(reason="seats_idle") == {idle}
    assert await ids(severity="critical") == {beta}
    assert await ids(show="unassigned") == {nobody}
    assert await ids(show="acknowledged") == set()
    assert await ids(show="overdue") == set()
    rig.hands.now += 8 * DAY
    assert await ids(show="overdue") == {acme, idle, beta, nobody}
    (row, *_) = [one for one in await rig.interventions() if one.account_id == "beta"]
    await rig.steps.close(row.id, version=None, outcome=OutcomeKind.SAVED, note="", by=ANYBODY)
    assert await ids(show="closed") == {beta}


@pytest.mark.parametrize("sort", ["priority", "due", "opened"])
async def test_pages_by_cursor_hold_each_row_once(
    rig: Rig, api: httpx.AsyncClient, sort: str
) -> None:
    for number in range(7):
        await rig.take(account(account_id=f"a{number}"))
        await rig.take(flag(account=f"a{number}", flag_id=f"a{number}"))
        # Two of each moment, so that the id must decide between them.
        rig.hands.now += HOUR * (number % 2)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        answer = await api.get("/api/v1/interventions", params={"limit": "2", "sort": sort, **more})
        page = answer.json()
        assert len(page["interventions"]) <= 2
        seen += [one["account_id"] for one in page["interventions"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == [f"a{number}" for number in range(7)]


@pytest.mark.parametrize("cursor", ["", "x", "W10", "WyJkdWUiLCJ4IiwieCJd", "é", "=" * 50])
async def test_a_cursor_that_we_did_not_give_is_refused(
    api: httpx.AsyncClient, cursor: str
) -> None:
    for path in ("interventions", "deliveries", "audit"):
        answer = await api.get(f"/api/v1/{path}", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), path


async def test_answers_look_like_their_examples(rig: Rig, api: httpx.AsyncClient) -> None:
    """Field by field; only what is open by nature may be more."""
    one = await fill(rig)
    until = (NOW + 9 * DAY).isoformat()
    said = {"mood": "bad", "note": "A new manager", "expires_at": until}
    silence = {"matchers": {"reason": "seats_idle"}, "ends_at": until, "comment": "shared"}
    await rig.take(account(account_id="beta"))
    trial = {"account_id": "beta", "reason": "usage_drop", "severity": "critical"}
    async with rig.engine.begin() as connection:
        await connection.execute(channels.insert().values(channel="sms", broken_since=NOW))
        await connection.execute(
            destinations.insert().values(destination="sms:1", channel="sms", broken_since=NOW)
        )
    sentiment = (await api.post("/api/v1/accounts/acme/sentiments", json=said)).json()
    created = (await api.post("/api/v1/silences", json=silence)).json()
    found = {
        "list": await told(api, "interventions"),
        "intervention": await told(api, f"interventions/{one}"),
        "step": (
            await api.post(f"/api/v1/interventions/{one}/tasks/1", json={"done": True})
        ).json(),
        "timeline": await told(api, "accounts/acme/timeline"),
        "sentiment": sentiment,
        "sentiments": await told(api, "accounts/acme/sentiments"),
        "note": (await api.post("/api/v1/accounts/acme/notes", json={"text": "x"})).json(),
        "notes": await told(api, "accounts/acme/notes"),
        "views": (await api.post("/api/v1/views", json={"name": "x", "query": "q=a"})).json(),
        "deliveries": await told(api, "deliveries"),
        "channels": await told(api, "channels"),
        "silence": created,
        "silences": await told(api, "silences"),
        "expired": (await api.post(f"/api/v1/silences/{created['id']}/expire")).json(),
        "feedback": await told(api, "feedback"),
        "today": await told(api, "today"),
        "playbooks": await told(api, "playbooks"),
        "dry_run": (await api.post("/api/v1/playbooks/dry-run", json=trial)).json(),
        "people": await told(api, "people"),
        "person": await told(api, f"people/{OWNER}"),
        "sources": await told(api, "sources"),
        "invited": (await api.post("/api/v1/users", json=NEW_USER)).json(),
        "user": (await api.post("/api/v1/users/bob@vendor.example/disable")).json(),
        "users": await told(api, "users"),
        "audit": await told(api, "audit"),
    }
    (view,) = found["views"]["views"]
    found["removed"] = (await api.delete(f"/api/v1/views/{view['id']}")).json()
    # Targets need scoring: see `test_api_targets.py`.
    assert found.keys() == EXAMPLES.keys() - {"targets", "target"}
    for name, answer in found.items():
        assert shape(answer) == shape(EXAMPLES[name]), name


OPEN = frozenset(
    {"detail", "matchers", "settings", "own_choice", "outcomes", "reasons", "playbooks", "due"}
    | {"repeat", "snooze", "value_at_risk", "uplift", "missing", "problem"}
)


def shape(value: object, name: str = "") -> object:
    """Names and nesting; of a list, of its first entry."""
    if name in OPEN:
        return None
    if isinstance(value, dict):
        return {key: shape(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


async def test_every_route_describes_itself(api: httpx.AsyncClient) -> None:
    answer = await api.get("/api/v1/openapi.json", headers={"Authorization": ""})
    for path, methods in answer.json()["paths"].items():
        for method, route in methods.items():
            assert route["description"], path
            assert route["security"] == [{"HTTPBearer": []}], path
            assert {"401", "403", "422", "503"} <= set(route["responses"]), (method, path)
            good = next(status for status in ("200", "201") if status in route["responses"])
            assert route["responses"][good]["content"]["application/json"]["example"], path


async def test_each_route_needs_the_scope_that_its_description_names(rig: Rig) -> None:
    """Reading needs a reading scope, writing a writing one, and no other scope will do."""
    one = await fill(rig)
    for scope in (Scope.EVENTS_WRITE, Scope.ACCOUNTS_READ):
        async with client_of(rig, scope) as stranger:
            for method, path in await routes(stranger):
                answer = await stranger.request(method, filled(path, one), json={})
                assert answer.status_code in (403, 422), (method, path)
                assert answer.status_code == 403 or method in ("POST", "PUT"), (method, path)
    reads = (Scope.INTERVENTIONS_READ, Scope.SETTINGS_READ)
    async with client_of(rig, *reads) as reader:
        for method, path in await routes(reader):
            if method != "GET" and not path.endswith("dry-run"):
                body = BODIES[path.rpartition("/")[2].partition("{")[0] or path]
                answer = await reader.request(method, filled(path, one), json=body)
                assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
    async with client_of(rig, Scope.INTERVENTIONS_WRITE, Scope.SETTINGS_WRITE) as writer:
        for method, path in await routes(writer):
            if method == "GET":
                answer = await writer.get(filled(path, one), params={"year": 2026})
                assert answer.json()["code"] == "scope_missing", path


NEW_USER = {"address": "bob@vendor.example", "role": "csm"}
PLAN = {"version": 0, "plan": 5}
LATER = (NOW + DAY).isoformat()
BODIES: dict[str, Any] = {
    "acknowledge": {"version": 1},
    "wake": {"version": 1},
    "snooze": {"version": 1, "until": LATER, "reason": "x"},
    "close": {"version": 1, "outcome": "saved"},
    "correct": {"version": 1, "outcome": "saved"},
    "reassign": {"version": 1, "owner": FALLBACK},
    "/api/v1/interventions/{intervention_id}/tasks/{number}": {"done": True},
    "sentiments": {"mood": "good", "expires_at": LATER},
    "silences": {"matchers": {"account": "acme"}, "ends_at": LATER, "comment": "x"},
    "expire": None,
    "/api/v1/people/{address}": {},
    "users": NEW_USER,
    "notes": {"text": "x"},
    "views": {"name": "x", "query": ""},
    "/api/v1/views/{view_id}": None,
    "/api/v1/targets/{year}/{measure}": PLAN,
    "role": {"role": "csm"},
    "reset": None,
    "disable": None,
    "enable": None,
}


async def routes(api: httpx.AsyncClient) -> list[tuple[str, str]]:
    document = (await api.get("/api/v1/openapi.json")).json()
    return [(m.upper(), path) for path, methods in document["paths"].items() for m in methods]


def filled(path: str, one: str) -> str:
    known = {"intervention_id": one, "silence_id": one, "number": "1", "account": "acme"}
    known |= {"view_id": one, "year": "2026", "measure": "accounts_saved"}
    return re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], OWNER), path)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": ""}, 401, "invalid_key"),
        ({"Authorization": "Bearer prn_live_x"}, 401, "invalid_key"),
        ({"Authorization": "Basic YTpi"}, 401, "invalid_key"),
        ({"Host": "evil.example"}, 400, "unknown_host"),
        ({"Content-Length": "70000"}, 413, "too_large"),
    ],
    ids=["no key", "a broken key", "a password", "another host", "a long body"],
)
async def test_who_may_not_is_told_so_in_json(
    api: httpx.AsyncClient, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await api.post("/api/v1/silences", headers=headers, json=BODIES["silences"])
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"]
    assert answer.headers["cache-control"] == "no-store"


async def test_a_revoked_key_and_one_that_is_not_read_yet_are_told_apart(rig: Rig) -> None:
    ring = KeyRing(is_complete=False)
    transport = httpx.ASGITransport(api_app(rig, ring))
    key = new_key(source="crm", scopes=[Scope.SETTINGS_READ], now=NOW)
    headers = {"Authorization": f"Bearer {key.secret}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/api/v1/people", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
        assert answer.headers["retry-after"] == "2"
        ring.put(key.record)
        assert (await client.get("/api/v1/people", headers=headers)).status_code == 200


async def test_unknown_paths_and_methods_are_answered_in_json(api: httpx.AsyncClient) -> None:
    assert (await api.get("/api/v2/x")).json()["code"] == "unknown_path"
    assert (await api.delete("/api/v1/people")).json()["code"] == "method_not_allowed"


async def test_sources_and_keys_are_told_without_secrets(rig: Rig) -> None:
    ring = KeyRing()
    ring.put_source(Source(name="app", type_map={"signed_in": "login"}))
    async with client_of(rig, Scope.SETTINGS_READ, ring=ring) as api:
        answer = await api.get("/api/v1/sources")
    (app, crm) = answer.json()["sources"]
    assert (app["name"], app["keys"]) == ("app", [])
    assert app["settings"]["type_map"] == {"signed_in": "login"}
    (key,) = crm["keys"]
    assert (key["scopes"], key["is_live"]) == (["settings:read"], True)
    (record,) = ring.records()
    assert record.secret_sha256 not in answer.text


async def test_what_was_not_sent_is_told_with_its_reason(rig: Rig, api: httpx.AsyncClient) -> None:
    await fill(rig)
    async with rig.engine.begin() as connection:
        await connection.execute(
            deliveries.update().values(state="cancelled", suppress_reason="silenced")
        )
    found = (await told(api, "deliveries?show=suppressed&account=acme"))["deliveries"]
    assert {one["suppressed_because"] for one in found} == {"silenced"}
    assert (await told(api, "deliveries?show=sent"))["deliveries"] == []


async def test_the_audit_log_is_read_by_who_and_by_account(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    await fill(rig)
    async with rig.engine.begin() as connection:
        bob = Viewer(address="bob", role=Role.ADMIN, way="local")
        await audit_log.write(connection, bob, "user.created", "eve", at=NOW)
    assert [one["actor"] for one in (await told(api, "audit"))["audit"]] == ["bob", "key:crm/x"]
    (one,) = (await told(api, "audit?actor=bob"))["audit"]
    assert (one["role"], one["way"], one["action"], one["subject"]) == (
        "admin", "local", "user.created", "eve",
    )  # fmt: skip
    (one,) = (await told(api, "audit?account=acme"))["audit"]
    assert one["action"] == "intervention.acknowledged"


async def test_a_dry_run_says_who_would_be_told_and_stores_nothing(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    await rig.take(account())
    body = {"account_id": "acme", "reason": "usage_drop", "severity": "critical"}
    found = (await api.post("/api/v1/playbooks/dry-run", json=body)).json()
    assert (found["would"], found["owner"], found["playbook"]) == ("opened", OWNER, "default")
    assert {one["reason"] for one in found["messages"]} == {"first"}
    assert await rig.interventions() == []
    async with rig.engine.connect() as connection:
        assert (await connection.execute(select(audit))).all() == []


def test_the_examples_hold_no_address_of_a_real_domain() -> None:
    text = (Path(__file__).parents[3] / "services/notifier/api/openapi.py").read_text()
    assert set(re.findall(r"@([\w.]+)", text)) == {"example.com"}
