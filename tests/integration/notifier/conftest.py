"""The servers around a notifier under test, and its console."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from shared import grants
from shared.credentials import KeyRing, Scope, new_key
from shared.lifecycle import serve
from tests.databases import as_role
from tests.integration.notifier.console_rig import FakeScoring, api_app, console_app
from tests.integration.notifier.rig import NOW, Rig, open_rig
from tests.standins.mail import FakeMail, fake_mail
from tests.standins.slack import FakeSlack, fake_slack


@pytest.fixture
def database_url(owner_url: str) -> str:
    """As the service itself may: a right that it needs and has not fails a test."""
    return as_role(owner_url, grants.NOTIFIER)


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as server:
        yield server


@pytest.fixture
async def mail() -> AsyncIterator[FakeMail]:
    async with fake_mail() as server:
        yield server


@pytest.fixture
async def rig(engine: AsyncEngine, slack: FakeSlack, mail: FakeMail) -> AsyncIterator[Rig]:
    async with open_rig(engine, slack=slack, mail=mail) as opened:
        yield opened


@pytest.fixture
async def scoring() -> AsyncIterator[FakeScoring]:
    fake = FakeScoring()
    app = FastAPI()
    app.add_api_route("/v1/accounts", fake.answer_list, response_model=None)
    app.add_api_route("/v1/facets", fake.answer_facets, response_model=None)
    app.add_api_route("/v1/accounts/{path:path}", fake.answer, response_model=None)
    async with serve(app, host="127.0.0.1", port=0, name="scoring", grace_seconds=1) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake


@pytest.fixture
async def console(rig: Rig, scoring: FakeScoring) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=1) as client:
        transport = httpx.ASGITransport(console_app(rig, scoring, client))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
            yield opened


@pytest.fixture
async def api(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    """The JSON API, with a key that may do everything."""
    ring, key = KeyRing(), new_key(source="crm", scopes=list(Scope), now=NOW)
    ring.put(key.record)
    transport = httpx.ASGITransport(api_app(rig, ring))
    headers = {"Authorization": f"Bearer {key.secret}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", headers=headers
    ) as opened:
        yield opened
