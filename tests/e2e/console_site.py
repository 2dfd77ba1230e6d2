"""The console as people find it: a customer in trouble, a team, and four who may sign in."""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.e2e.deployments import Deployment, eventually, status_of
from tests.e2e.test_main_job import SCOPES, daily_use, put_account, send

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SIZES = ((1440, 900), (390, 844))
SCHEMES = ("light", "dark")
PASSWORD = "a long enough password"
ADMIN, CSM, MANAGER, VIEWER = (
    f"{name}@example.com" for name in ("admin", "csm", "manager", "viewer")
)
TEAM = f"""
fallback: {{owner: {MANAGER}}}
people:
  - {{address: {CSM}, name: Carla Stein, zone: Europe/Berlin, manager: {MANAGER}}}
  - {{address: {MANAGER}, name: Max Lind, zone: Europe/Paris}}
"""
SILENT = {
    "north/wind": "Northwind Traders",
    "fabrikam": "Fabrikam Foods",
    "contoso": "Contoso Labs",
}
"""Customers who stopped using it, by id: each test may change the work on one."""


@dataclass(slots=True, kw_only=True)
class Site:
    deployment: Deployment
    client: httpx.AsyncClient
    opened: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What browsers wrote to their logs: errors of scripts, reports of the policy."""

    @property
    def url(self) -> str:
        return self.deployment.notifier.url("notifier")

    async def fill(self) -> None:
        """Three customers who fell silent and thirty who did not; use, directory, flags, work."""
        key = await asyncio.to_thread(self.deployment.new_key, *SCOPES)
        today = datetime.now(UTC).date()
        for number in range(30):
            name = f"customer-{number}"
            await put_account(
                self.client, self.deployment, key, name, name=f"Customer {number}",
                owner=CSM if number % 3 else MANAGER, plan="team", seats=20,
                segment=("smb", "mid-market", "enterprise")[number % 3], region="DE",
                mrr=str(300 + 10 * number), margin_per_month="200", currency="EUR",
                status="active", contract_start=(today - timedelta(days=500)).isoformat(),
                contract_end=(today + timedelta(days=10 * number + 5)).isoformat(),
            )  # fmt: skip
            await send(self.client, self.deployment, key, daily_use(name, first=200, last=0))
        for number, (account, name) in enumerate(SILENT.items()):
            await put_account(
                self.client, self.deployment, key, account, name=name, owner=CSM,
                plan="team", segment="mid-market", seats=25, mrr=str(1200 + 100 * number),
                margin_per_month="900", currency="EUR", status="active",
                contract_end=(today + timedelta(days=75)).isoformat(),
            )  # fmt: skip
            await send(self.client, self.deployment, key, daily_use(account, first=220, last=40))

        # Some name no account: of a user who is known in one, and of somebody whom nobody knows.
        for number, user in enumerate(["user-0@customer-0.example"] * 7 + ["nobody@example.com"]):
            unplaced = {"id": f"unplaced-{number}", "user_id": user, "type": "login"}
            await send(self.client, self.deployment, key, [unplaced])

        async def flagged() -> bool:
            found = await status_of(self.client, self.deployment, key)
            return bool(found["flags_open"] >= len(SILENT))

        await eventually(flagged, seconds=90, what="the silent customers are flagged")

        async def listed() -> bool:
            board = (await self.client.get(f"{self.url}/board?show=all")).text
            return all(name in board for name in SILENT.values())

        await eventually(listed, what="their interventions are open")

        async def placed() -> bool:
            page = (await self.client.get(f"{self.url}/sources")).text
            return "Events that name no account" in page and "1 waits now" in page

        await eventually(placed, what="events that name no account have found theirs, or wait")

    async def invite(self) -> None:
        """The console is open until the first user is named: the admin, who names the others."""
        admin = self.client
        await self._add(admin, admin, ADMIN, "admin")
        for address, role in ((CSM, "csm"), (MANAGER, "manager"), (VIEWER, "viewer")):
            async with httpx.AsyncClient(timeout=10) as theirs:
                await self._add(admin, theirs, address, role)

    async def _add(
        self, admin: httpx.AsyncClient, theirs: httpx.AsyncClient, address: str, role: str
    ) -> None:
        origin = {"Origin": self.url}
        form = {"address": address, "role": role}
        answer = await admin.post(f"{self.url}/users", data=form, headers=origin)
        link = re.search(r"/welcome/[\w-]+", answer.text)
        assert link is not None, answer.text
        chosen = {"password": PASSWORD, "again": PASSWORD}
        done = await theirs.post(f"{self.url}{link[0]}", data=chosen, headers=origin)
        assert done.status_code == 303, done.text

    async def page(self, browser: Browser, *, javascript: bool = True) -> Page:
        context = await browser.new_context(
            java_script_enabled=javascript, viewport={"width": 1440, "height": 900}
        )
        self.opened.append(context)
        page = await context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    async def sign_in(self, browser: Browser, address: str, *, javascript: bool = True) -> Page:
        """A browser of their own, signed in by the form."""
        page = await self.page(browser, javascript=javascript)
        await page.goto(self.url)
        await page.get_by_label("E-mail address").fill(address)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("navigation", name="Pages")).to_be_attached()
        return page

    async def close(self) -> None:
        for context in self.opened:
            await context.close()


async def shoot(page: Page, name: str) -> None:
    """Desktop and phone, light and dark; nothing scrolls sideways."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        await page.set_viewport_size({"width": width, "height": height})
        overflow = await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"{name} scrolls sideways at {width} px"
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            await page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    await page.set_viewport_size({"width": 1440, "height": 900})
    await page.emulate_media(color_scheme="light")
