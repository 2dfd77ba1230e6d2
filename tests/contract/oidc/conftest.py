"""A console that people come to by a real provider, and a browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.domain.access import SignIn
from services.notifier.oidc import Provider, open_provider
from services.notifier.settings import NotifierSettings
from shared.lifecycle import serve
from tests.contract.oidc.provider import SECRET, NodeProvider, go_through, new_provider
from tests.integration.notifier.console_rig import FakeScoring, console_app
from tests.integration.notifier.rig import Rig, open_rig
from tests.processes import free_port
from tests.standins.mail import fake_mail
from tests.standins.slack import fake_slack


@dataclass(slots=True, kw_only=True)
class Entry:
    """The way into a console."""

    url: str
    rig: Rig
    node: NodeProvider
    provider: Provider
    browser: httpx.AsyncClient

    @property
    def back_to(self) -> str:
        return self.node.redirect_uri

    async def come_in(self, person: str, *, to: str = "/") -> httpx.Response:
        """What the console answers to who comes back from the provider."""
        start = f"{self.url}/sign-in/oidc?{httpx.QueryParams(next=to)}"
        back = await go_through(self.browser, start, person, until=self.back_to)
        return await self.browser.get(back)


@pytest.fixture
async def node(console_port: int) -> AsyncIterator[NodeProvider]:
    started = new_provider(f"http://127.0.0.1:{console_port}/sign-in/oidc/return")
    try:
        await started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def console_port() -> int:
    return free_port()


@pytest.fixture
async def rig(engine: AsyncEngine) -> AsyncIterator[Rig]:
    async with (
        fake_slack() as slack,
        fake_mail() as mail,
        open_rig(engine, slack=slack, mail=mail) as opened,
    ):
        # The provider has no other clock than the machine's.
        opened.hands.now = datetime.now(UTC)
        yield opened


@pytest.fixture
async def entry(rig: Rig, node: NodeProvider, console_port: int) -> AsyncIterator[Entry]:
    async with open_entry(rig, node, console_port) as opened:
        yield opened


@asynccontextmanager
async def open_entry(
    rig: Rig, node: NodeProvider, port: int, *, secret: str | None = SECRET, **changes: Any
) -> AsyncIterator[Entry]:
    given: dict[str, Any] = {
        "perennial_console_sign_in": SignIn.OIDC,
        "notifier_port": port,
        "perennial_oidc_issuer": node.issuer,
        "perennial_oidc_client_id": "perennial",
        "perennial_oidc_scope": "openid email groups",
        "perennial_oidc_role_claim": "groups",
        "perennial_oidc_roles": '{"everybody": "csm", "cs-leads": "manager"}',
        **changes,
    }
    registration = NotifierSettings(**given).oidc
    assert registration is not None
    async with (
        open_provider(
            registration,
            secret=None if secret is None else SecretStr(secret),
            clock=rig.hands,
        ) as provider,
        httpx.AsyncClient(timeout=1) as to_scoring,
        serve(
            console_app(rig, FakeScoring(), to_scoring, provider=provider, **given),
            host="127.0.0.1",
            port=port,
            name="console",
            grace_seconds=1,
        ),
        httpx.AsyncClient(timeout=10) as browser,
    ):
        yield Entry(
            url=f"http://127.0.0.1:{port}",
            rig=rig,
            node=node,
            provider=provider,
            browser=browser,
        )
