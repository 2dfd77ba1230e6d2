"""Every route of the console, with every role: who may, and who is told that they may not."""

import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import update

from services.notifier.console.rights import is_public
from services.notifier.domain.access import Right, Role, Viewer
from services.notifier.domain.refusals import Refusal
from services.notifier.stepping import NotTaken
from services.notifier.tables import tasks
from tests.integration.notifier.rig import FALLBACK, OWNER, Rig, account, boss, flag
from tests.integration.notifier.sign_in_rig import add_user, browser, open_console, sign_in

R, A, N, L, ADMIN = Right.READ, Right.ACT, Right.NOTE, Right.LEAD, Right.ADMINISTER
NOBODY_NEEDED = None
_STEP = "/interventions/{intervention_id}"

# A route that is not here fails the test: its right must be thought of.
RIGHTS = {
    "GET /": R,
    "GET /accounts": R,
    "GET /accounts.csv": R,
    "GET /accounts/{account_id:path}": R,
    "GET /audit": ADMIN,
    "GET /board": R,
    "POST /board/reassign": L,
    "GET /deliveries": R,
    "GET /feedback": R,
    "GET /goals": R,
    "POST /goals/targets": L,
    "GET /insights": R,
    f"GET {_STEP}": R,
    f"POST {_STEP}/acknowledge": A,
    f"POST {_STEP}/close": A,
    f"POST {_STEP}/correct": A,
    f"POST {_STEP}/reassign": A,
    f"POST {_STEP}/snooze": A,
    f"POST {_STEP}/tasks/{{number}}": A,
    f"POST {_STEP}/wake": A,
    "POST /notes": N,
    "GET /people": R,
    "GET /people/{address:path}": R,
    # One's own; others' are a manager's, see below.
    "POST /people/{address:path}": N,
    "GET /playbooks": R,
    # Dry runs change nothing, but they cost.
    "POST /playbooks": N,
    "GET /portfolio": R,
    "GET /rules": R,
    "POST /rules": N,
    "POST /sentiments": N,
    "GET /silences": R,
    "POST /silences": L,
    "POST /silences/{silence_id}/expire": L,
    "GET /sources": R,
    "GET /system": R,
    "GET /users": ADMIN,
    "POST /users": ADMIN,
    "POST /users/disable": ADMIN,
    "POST /users/enable": ADMIN,
    "POST /users/reset": ADMIN,
    "POST /users/role": ADMIN,
    "GET /v1/status": R,
    "POST /views": N,
    "POST /views/{view_id}/remove": N,
    "GET /sign-in": NOBODY_NEEDED,
    "POST /sign-in": NOBODY_NEEDED,
    "POST /sign-out": NOBODY_NEEDED,
    "GET /static/{name}": NOBODY_NEEDED,
    "GET /welcome/{token}": NOBODY_NEEDED,
    "POST /welcome/{token}": NOBODY_NEEDED,
}
VIEWERS = {role: f"{role.value}@vendor.example" for role in Role}
_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def site(rig: Rig) -> AsyncIterator[httpx.ASGITransport]:
    async with open_console(rig) as opened:
        yield opened


def routes(site: httpx.ASGITransport) -> Iterator[tuple[str, str]]:
    guard = site.app
    app = getattr(guard, "app", None)
    assert isinstance(app, FastAPI)
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route}: nothing is mounted beside the routes"
        for method in route.methods or ():
            yield method, route.path


def filled(path: str, viewer: str) -> str:
    values = {"address": viewer, "number": "1", "name": "console.css", "token": "x"}
    return re.sub(
        r"{(\w+)(:path)?}",
        lambda found: _ID if found[1].endswith("_id") else values.get(found[1], "x"),
        path,
    )


async def test_every_route_says_who_may_and_keeps_to_it(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    found = {f"{method} {path}": (method, path) for method, path in routes(site)}
    assert found.keys() == RIGHTS.keys()
    for role, address in VIEWERS.items():
        await add_user(rig, address, role)
        viewer = Viewer(address=address, role=role, way="local")
        async with browser(site) as client:
            await sign_in(client, address)
            for name, (method, path) in found.items():
                right = RIGHTS[name]
                if right is NOBODY_NEEDED:
                    assert is_public(path), name
                    continue
                assert not is_public(path), name
                answer = await client.request(method, filled(path, address))
                is_refused = answer.status_code == 403 and "Not for your role" in answer.text
                assert is_refused is not viewer.may(right), (role, name, answer.status_code)
                assert answer.status_code != 500, (role, name)


async def test_nobody_means_nowhere(site: httpx.ASGITransport) -> None:
    async with browser(site) as client:
        for method, path in routes(site):
            if RIGHTS[f"{method} {path}"] is not NOBODY_NEEDED:
                answer = await client.request(method, filled(path, OWNER))
                away = 401 if method == "POST" or path.startswith("/v1/") else 303
                assert answer.status_code == away, (method, path)


async def test_other_peoples_preferences_are_a_managers(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    for role, status in ((Role.CSM, 403), (Role.MANAGER, 303)):
        await add_user(rig, VIEWERS[role], role)
        async with browser(site) as client:
            await sign_in(client, VIEWERS[role])
            own = await client.post(f"/people/{VIEWERS[role]}", data={"mode": "daily"})
            others = await client.post(f"/people/{OWNER}", data={"mode": "daily"})
        assert (own.status_code, others.status_code) == (303, status)


@pytest.mark.parametrize(
    ("role", "work", "status"),
    [
        pytest.param(Role.VIEWER, "own", 403, id="a viewer looks on"),
        pytest.param(Role.CSM, "own", 303, id="a CSM on their own work"),
        pytest.param(Role.CSM, "queue", 303, id="a CSM on what belongs to nobody"),
        pytest.param(Role.CSM, "others", 403, id="a CSM on a colleague's"),
        pytest.param(Role.MANAGER, "others", 303, id="a manager on everybody's"),
    ],
)
@pytest.mark.parametrize("step", ["acknowledge", "snooze", "close", "reassign"])
async def test_whose_work_it_is_decides(
    rig: Rig, site: httpx.ASGITransport, role: Role, work: str, status: int, step: str
) -> None:
    me = VIEWERS[role]
    owner = {"own": me, "queue": None, "others": OWNER}[work]
    await rig.take(account(owner=owner))
    await rig.take(flag())
    (row,) = await rig.interventions()
    assert row.owner == (owner or FALLBACK)
    await add_user(rig, me, role)
    sent = {"version": "1", "put": "1d", "reason": "x", "outcome": "saved", "owner": FALLBACK}
    if work == "queue":
        sent["owner"] = OWNER
    async with browser(site) as client:
        await sign_in(client, me)
        answer = await client.post(f"/interventions/{row.id}/{step}", data=sent)
    assert answer.status_code == status, answer.text
    (after,) = await rig.interventions()
    assert (after.version > row.version) is (status == 303)


async def test_work_that_was_handed_on_meanwhile_is_not_ones_own(
    rig: Rig, site: httpx.ASGITransport
) -> None:
    me = VIEWERS[Role.CSM]
    await rig.take(account(owner=me))
    await rig.take(flag())
    (row,) = await rig.interventions()
    await add_user(rig, me, Role.CSM)
    async with browser(site) as client:
        await sign_in(client, me)
        await rig.steps.reassign(row.id, version=None, owner=OWNER, by=boss("ada"))
        answer = await client.post(f"/interventions/{row.id}/acknowledge", data={"version": "2"})
    assert (answer.status_code, "Somebody else" in answer.text) == (403, True)


async def test_a_task_of_ones_own_is_ones_own_work(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    csm = Viewer(address=VIEWERS[Role.CSM], role=Role.CSM, way="local")
    refused = await rig.steps.mark_task(row.id, 1, done=True, by=csm)
    assert isinstance(refused, NotTaken)
    assert refused.refusal is Refusal.NOT_YOURS
    async with rig.engine.begin() as connection:
        theirs = update(tasks).where(tasks.c.number == 1).values(owner=csm.address)
        await connection.execute(theirs)
    assert not isinstance(await rig.steps.mark_task(row.id, 1, done=True, by=csm), NotTaken)
    # The task is theirs, the intervention is not.
    for step in (
        rig.steps.mark_task(row.id, 2, done=True, by=csm),
        rig.steps.wake(row.id, version=None, by=csm),
    ):
        assert isinstance(await step, NotTaken)
