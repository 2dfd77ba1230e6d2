"""A console that people sign in to, their browsers, and users with passwords."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from services.notifier import passwords, users
from services.notifier.console.entry import Provider
from services.notifier.domain.access import Role, SignIn
from tests.integration.notifier.console_rig import FakeScoring, console_app
from tests.integration.notifier.rig import Rig, boss

URL = "http://localhost"
ORIGIN = {"Origin": URL}
PASSWORD = "tall trees in november"
_CHEAP = passwords._Cost(log2_n=10, r=8, p=1)


@asynccontextmanager
async def open_console(
    rig: Rig, *, provider: Provider | None = None, **settings: Any
) -> AsyncIterator[httpx.ASGITransport]:
    given = {"perennial_console_sign_in": SignIn.LOCAL, **settings}
    async with httpx.AsyncClient(timeout=1) as to_scoring:
        app = console_app(rig, FakeScoring(), to_scoring, provider=provider, **given)
        yield httpx.ASGITransport(app, client=("192.0.2.7", 1))


def browser(
    transport: httpx.ASGITransport, url: str = URL, cookies: httpx.Cookies | None = None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport, base_url=url, headers={"Origin": url}, cookies=cookies
    )


async def add_user(rig: Rig, address: str, role: Role, password: str = PASSWORD) -> None:
    """With a password that is quick to check; it is made anew at the first sign-in."""
    salt = b"s" * 16
    stored = passwords._text(_CHEAP, salt, _CHEAP.derive(password, salt))
    async with rig.engine.begin() as connection:
        token = await users.add(connection, address, role, by=boss("ada"), now=rig.hands.now)
        assert token is not None
        await users.choose_password(connection, token, stored, now=rig.hands.now)


async def sign_in(
    client: httpx.AsyncClient, address: str, password: str = PASSWORD, *, to: str = "/"
) -> httpx.Response:
    sent = {"address": address, "password": password, "next": to}
    return await client.post("/sign-in", data=sent)
