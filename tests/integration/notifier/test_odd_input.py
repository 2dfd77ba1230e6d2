"""What nobody types but somebody sends: each is answered with what is wrong, never with a fault."""

import base64
import json

import httpx
import pytest
from sqlalchemy import select

from services.notifier.domain.access import Role
from services.notifier.tables import saved_views
from tests.integration.notifier.console_rig import FakeScoring
from tests.integration.notifier.rig import Rig, account, flag
from tests.integration.notifier.test_console_work import ORIGIN, console_of

SURROGATE = "\\ud800"
"""Half a character, as JSON may hold it and UTF-8 may not."""
MANY_FIELDS = "q=acme" + "&x=1" * 60


async def test_a_view_of_an_endless_query_is_kept_as_far_as_it_is_known(
    rig: Rig, scoring: FakeScoring, api: httpx.AsyncClient
) -> None:
    async with console_of(rig, scoring, Role.CSM) as console:
        sent = {"name": "Long", "query": MANY_FIELDS}
        answer = await console.post("/views", data=sent, headers=ORIGIN)
        assert answer.status_code == 303
    answer = await api.post("/api/v1/views", json={"name": "Long", "query": MANY_FIELDS})
    assert answer.status_code == 200
    async with rig.engine.connect() as connection:
        kept = (await connection.execute(select(saved_views.c.query))).scalars().all()
    assert kept == ["q=acme", "q=acme"]


@pytest.mark.parametrize("version", [2**31 - 1, 2**31, 10**30, -(10**30)])
async def test_a_target_of_a_version_that_never_was_is_stale(
    rig: Rig, scoring: FakeScoring, api: httpx.AsyncClient, version: int
) -> None:
    plan = {"year": 2026, "measure": "accounts_saved", "version": version, "plan": "3"}
    async with console_of(rig, scoring, Role.MANAGER) as console:
        answer = await console.post("/goals/targets", data=plan, headers=ORIGIN)
    # Scoring's fake tells of no portfolio: 503 before the version is looked at, were it not one.
    assert answer.status_code in (409, 422, 503)
    answer = await api.put(
        "/api/v1/targets/2026/accounts_saved", json={"version": version, "plan": 3}
    )
    assert answer.status_code in (409, 422)


async def test_years_and_pages_beyond_all_numbers_are_no_wish(
    rig: Rig, scoring: FakeScoring
) -> None:
    await rig.take(account())
    await rig.take(flag())
    endless = "9" * 5_000
    async with console_of(rig, scoring, Role.ADMIN) as console:
        for path in (
            f"/goals?year={endless}",
            f"/people?page={endless}",
            f"/audit?before={endless}",
            f"/deliveries?before={endless}",
            f"/board?show=all&priority=nan&after={'0' * 32}",
            f"/board?show=all&priority=-inf&after={'0' * 32}",
            f"/feedback?days={endless}",
            f"/portfolio?period={endless}",
            f"/portfolio?period=2026-{endless}",
            f"/insights?month={endless}",
            "/portfolio?period=0000",
            "/portfolio?period=9999-12",
        ):
            answer = await console.get(path)
            assert answer.status_code in (200, 422), (path[:40], answer.status_code)


async def test_half_a_character_in_json_is_refused(rig: Rig, api: httpx.AsyncClient) -> None:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    ending = f"/api/v1/interventions/{row.id}/close"
    for path, body in (
        ("/api/v1/views", f'{{"name": "a", "query": "", "{SURROGATE}": 1}}'),
        ("/api/v1/views", f'{{"name": "{SURROGATE}", "query": ""}}'),
        ("/api/v1/views", f'{{"name": "a", "query": "q={SURROGATE}"}}'),
        ("/api/v1/accounts/acme/notes", f'{{"text": "{SURROGATE}"}}'),
        ("/api/v1/users", f'{{"address": "{SURROGATE}@a.example", "role": "viewer"}}'),
        (ending, f'{{"version": 1, "outcome": "saved", "note": "{SURROGATE}"}}'),
        (ending, '{"version": 1e400, "outcome": "saved"}'),
        (ending, '{"version": NaN, "outcome": "saved"}'),
        (ending, "[" * 50_000),
    ):
        headers = {"Content-Type": "application/json"}
        answer = await api.post(path, content=body, headers=headers)
        assert answer.status_code in (400, 422), (path, body[:60], answer.status_code)
        assert "code" in answer.json()


async def test_made_up_cursors_are_refused_or_lead_nowhere(
    rig: Rig, api: httpx.AsyncClient
) -> None:
    await rig.take(account())
    await rig.take(flag())
    nobody = "00000000-0000-4000-8000-000000000000"
    for sort, value in (
        ("priority", "nan"),
        ("priority", "1e999"),
        ("due", "0001-01-01T00:00:00+14:00"),
        ("due", "9999-12-31T23:59:59-14:00"),
        ("opened", "0001-01-01T00:00:00+00:00"),
        ("opened", "nonsense"),
    ):
        made = base64.urlsafe_b64encode(json.dumps([sort, value, nobody]).encode()).decode()
        answer = await api.get("/api/v1/interventions", params={"sort": sort, "cursor": made})
        assert answer.status_code in (200, 422), (sort, value, answer.status_code)
    for cursor in ("é", "=", "bnVsbA", "WzFd", "W10"):
        answer = await api.get("/api/v1/interventions", params={"cursor": cursor})
        assert answer.status_code == 422, cursor
