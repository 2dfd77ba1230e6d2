"""Targets over the JSON API: what is planned and became of it, and how a plan is changed."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.notifier.api.openapi import EXAMPLES
from services.notifier.console.scoring import ScoringApi
from shared.credentials import KeyRing, Scope, new_key
from tests.integration.notifier.console_rig import api_app
from tests.integration.notifier.rig import NOW, Rig
from tests.standins import economics

ANNA, BEN, CHLOE = economics.OWNERS
PATH = "/api/v1/targets/2026/renewal_rate"
EVEN = [{"owner": one, "plan": "90"} for one in economics.OWNERS]


@pytest.fixture
async def api(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    keys = KeyRing()
    key = new_key(source="crm", scopes=[Scope.SETTINGS_READ, Scope.SETTINGS_WRITE], now=NOW)
    keys.put(key.record)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(economics.app())) as client:
        scoring = ScoringApi(client=client, url="http://scoring", key="k")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(api_app(rig, keys, scoring)),
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {key.secret}"},
        ) as opened:
            yield opened


async def test_a_plan_is_told_with_what_became_of_it(api: httpx.AsyncClient) -> None:
    put = await api.put(PATH, json={"version": 0, "plan": "90", "people": EVEN})
    assert put.status_code == 200
    told = put.json()
    assert told.keys() == EXAMPLES["target"].keys()
    # 31 of 35 = 88.6 %, 1.4 points short of 90.
    department = told["department"]
    assert department["plan"] == "90"
    assert department["gap"] == pytest.approx(31 / 35 * 100 - 90)
    assert department["n"] == 35
    assert {one["owner"] for one in told["people"]} == set(economics.OWNERS)
    listed = (await api.get("/api/v1/targets", params={"year": 2026})).json()
    assert listed["targets"][2] == {name: value for name, value in told.items() if name != "year"}


async def test_a_plan_that_does_not_hold_or_was_not_seen_is_refused(
    api: httpx.AsyncClient,
) -> None:
    short = [{"owner": ANNA, "plan": "10"}]
    refused = await api.put(PATH, json={"version": 0, "plan": "90", "people": short})
    assert (refused.status_code, refused.json()["code"]) == (422, "target_parts_differ")
    assert (await api.put(PATH, json={"version": 0, "plan": "90"})).status_code == 200
    stale = await api.put(PATH, json={"version": 0, "plan": "80"})
    assert (stale.status_code, stale.json()["code"]) == (409, "target_stale")
    unknown = await api.put("/api/v1/targets/2026/luck", json={"version": 0, "plan": "1"})
    assert unknown.status_code == 422
