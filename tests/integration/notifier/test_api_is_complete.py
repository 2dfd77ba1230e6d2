"""Everything in the console is also in the API: each page names the paths that tell the same."""

from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.routing import BaseRoute

from services.scoring.api import api as scoring_api
from services.scoring.domain.rules import read_default
from services.scoring.register import Register
from shared.credentials import KeyRing
from tests.console_pages import NO_PAGES, PAGES
from tests.integration.notifier.console_rig import FakeScoring, console_app
from tests.integration.notifier.rig import NOW, Rig

WRITES_BESIDE = frozenset({"/sign-in", "/sign-out", "/welcome/{token}"})
"""What only a browser can do: it is about the browser's own sign-in."""
WRITES = {
    "/board/reassign": "/api/v1/interventions/{intervention_id}/reassign",
    "/goals/targets": "/api/v1/targets/{year}/{measure}",
    "/notes": "/api/v1/accounts/{account}/notes",
    "/people/{address:path}": "/api/v1/people/{address}",
    "/playbooks": "/api/v1/playbooks/dry-run",
    "/rules": "/v1/rules/preview",
    "/sentiments": "/api/v1/accounts/{account}/sentiments",
    "/views": "/api/v1/views",
    "/views/{view_id}/remove": "/api/v1/views/{view_id}",
}
"""Forms whose path in the API is another than the form's own below `/api/v1`."""


def routes_of(app: FastAPI, method: str) -> set[str]:
    return {route.path for route in walked(app.routes) if method in (route.methods or ())}


def walked(routes: list[BaseRoute]) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route


@pytest.fixture
async def console_routes(rig: Rig, scoring: FakeScoring) -> FastAPI:
    async with httpx.AsyncClient() as client:
        app = console_app(rig, scoring, client).app
    assert isinstance(app, FastAPI)
    return app


@pytest.fixture
async def api_paths(engine: AsyncEngine, api: httpx.AsyncClient) -> set[str]:
    scoring = scoring_api(
        engine=engine,
        keys=KeyRing(),
        clock=lambda: NOW,
        rules=read_default(),
        register=Register(engine=engine, clock=lambda: NOW, max_age=timedelta(seconds=10)),
    )
    ours = (await api.get("/api/v1/openapi.json")).json()["paths"]
    return set(ours) | set(scoring.openapi()["paths"])


async def test_the_list_of_pages_is_complete(console_routes: FastAPI) -> None:
    assert routes_of(console_routes, "GET") == {page.route for page in PAGES} | NO_PAGES.keys()


async def test_each_pages_data_is_told_by_an_api(api_paths: set[str]) -> None:
    missing = {page.name: set(page.api) - api_paths for page in PAGES}
    assert not any(missing.values()), missing
    assert all(page.api for page in PAGES)


async def test_each_form_has_a_call(console_routes: FastAPI, api_paths: set[str]) -> None:
    for path in routes_of(console_routes, "POST") - WRITES_BESIDE:
        known = WRITES.get(path) or f"/api/v1{path}"
        if path.startswith("/users/"):
            known = f"/api/v1/users/{{address}}/{path.rpartition('/')[2]}"
        assert known in api_paths, path
