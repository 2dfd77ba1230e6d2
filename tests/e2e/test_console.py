"""The console in a real browser: a CSM's way from the list to the closed intervention.

Debian's Chromium, driven by Playwright; screenshots go to build/screenshots, to be looked at.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.databases import temporary_folder
from tests.e2e.deployments import Deployment, embedded, eventually, status_of
from tests.e2e.test_main_job import SCOPES, daily_use, put_account, send

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
# The last ones keep Chromium from calling home, again and again, where there is no network.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = "no `chromium` on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(f"Chromium cannot run here: {missing}", pytrace=False)
        pytest.skip(f"SKIPPED CHROMIUM: {missing}")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            yield opened
        finally:
            await opened.close()


@pytest.fixture
async def deployment(client: httpx.AsyncClient) -> AsyncIterator[Deployment]:
    """Everything embedded, with one customer who fell silent and thirty who did not."""
    with temporary_folder() as folder:
        started = embedded(folder)
        try:
            await asyncio.to_thread(started.start)
            await _fill(client, started)
            yield started
        finally:
            started.stop()


async def _fill(client: httpx.AsyncClient, deployment: Deployment) -> None:
    key = await asyncio.to_thread(deployment.new_key, *SCOPES)
    renewal = datetime.now(UTC).date() + timedelta(days=75)
    for number in range(30):
        await send(client, deployment, key, daily_use(f"customer-{number}", first=200, last=0))
    await put_account(
        client, deployment, key, "north/wind", name="Northwind Traders", owner="csm@example.com",
        plan="team", segment="mid-market", seats=25, mrr="1200", margin_per_month="900",
        currency="EUR", contract_end=renewal.isoformat(), status="active",
    )  # fmt: skip
    await send(client, deployment, key, daily_use("north/wind", first=220, last=40))

    async def flagged() -> bool:
        return bool((await status_of(client, deployment, key))["flags_open"])

    await eventually(flagged, seconds=60, what="the silent customer is flagged")
    url = f"{deployment.notifier.url('notifier')}/"

    async def listed() -> bool:
        return "Northwind" in (await client.get(url)).text

    await eventually(listed, what="the intervention is open")


async def shoot(page: Page, name: str) -> None:
    """Desktop and phone, light and dark."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, height in ((1440, 900), (390, 844)):
        await page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            overflow = await page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert overflow <= 0, f"{name} scrolls sideways at {width} px"
            await page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    await page.set_viewport_size({"width": 1440, "height": 900})
    await page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("with_javascript", [True, False], ids=["javascript", "no javascript"])
async def test_a_csm_reads_the_reasons_acts_and_closes(
    browser: Browser, deployment: Deployment, *, with_javascript: bool
) -> None:
    context = await browser.new_context(java_script_enabled=with_javascript)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    await page.goto(deployment.notifier.url("notifier"))
    await expect(page.get_by_role("heading", name="Open interventions")).to_be_visible()
    if with_javascript:
        await shoot(page, "interventions")
    await page.get_by_role("link", name="Northwind Traders").first.click()
    await expect(page.get_by_role("heading", name="Northwind Traders")).to_be_visible()
    await expect(page.locator("svg").first).to_be_visible()
    await expect(page.get_by_text("No use for 40 days").or_(page.get_by_text("No use for 39 days"))
                 .first).to_be_visible()  # fmt: skip
    if with_javascript:
        await shoot(page, "account")

    # By keyboard alone: the button is reached and pressed without a mouse.
    await page.get_by_role("button", name="Acknowledge").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Acknowledged").first).to_be_visible()

    await page.get_by_role("button", name="Done: ").first.click()
    await expect(page.get_by_text("Task done: ")).to_be_visible()
    await page.get_by_text("Snooze…").first.click()
    await page.get_by_label("Why can it wait?").first.fill("On holiday")
    await page.get_by_role("button", name="Snooze", exact=True).first.click()
    await expect(page.get_by_text("by console: On holiday")).to_be_visible()
    await page.get_by_role("button", name="End the snooze").first.click()
    await expect(page.get_by_text("The snooze was ended by hand")).to_be_visible()
    if with_javascript:
        await shoot(page, "account-at-work")

    await page.get_by_text("Close…").first.click()
    await page.get_by_label("How did it end?").first.select_option("saved")
    await page.get_by_role("button", name="Close intervention").first.click()
    await expect(page.get_by_role("listitem").filter(has_text="Saved").first).to_be_visible()
    await page.goto(f"{deployment.notifier.url('notifier')}/deliveries")
    if with_javascript:
        await shoot(page, "deliveries")

    for name in ("Silences", "Feedback", "People", "Playbooks"):
        await page.get_by_role("link", name=name, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        if with_javascript:
            await shoot(page, name.lower())
    await page.goto(f"{deployment.notifier.url('notifier')}/silences")
    await page.get_by_label("Reason").select_option("seats_idle")
    await page.get_by_label("Why does nobody").fill("They share seats")
    await page.get_by_role("button", name="Silence", exact=True).click()
    await page.get_by_role("button", name="End now: They share seats").click()
    await expect(page.get_by_role("heading", name="Over")).to_be_visible()

    await page.goto(f"{deployment.notifier.url('notifier')}/people/csm@example.com")
    await page.get_by_label("Told", exact=True).select_option("daily")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Own choice")).to_be_visible()
    assert complaints == []
    await context.close()
