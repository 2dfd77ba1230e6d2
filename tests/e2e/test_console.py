"""A CSM's day in a real browser: Debian's Chromium, driven by Playwright, with and without scripts.

Screenshots go to build/screenshots, to be looked at.
"""

import re

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.console_site import CSM, MANAGER, VIEWER, Site

STEPS = ("Acknowledge", "Close…", "Snooze…", "Reassign…")
SAME_SITE = "Not from this console"


async def open_account(page: Page, site: Site, name: str) -> Locator:
    """The page of a customer who fell silent, and the first intervention on it."""
    await page.goto(f"{site.url}/board?show=all")
    await page.get_by_role("main").get_by_role("link", name=name).first.click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    return await first_card(page)


async def first_card(page: Page) -> Locator:
    """The first intervention, wherever it stands after the next step."""
    one = await page.locator("section.card").first.get_attribute("id")
    return page.locator(f"[id='{one}']")


@pytest.mark.parametrize(
    ("name", "javascript"),
    [("Northwind Traders", True), ("Fabrikam Foods", False)],
    ids=["javascript", "no javascript"],
)
async def test_a_csms_day(browser: Browser, site: Site, name: str, *, javascript: bool) -> None:
    page = await site.page(browser, javascript=javascript)
    await page.goto(site.url)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page = await site.sign_in(browser, CSM, javascript=javascript)

    # The top account, its reasons, and the work on it.
    await expect(page.get_by_role("heading", name="Today")).to_be_visible()
    await page.get_by_role("main").get_by_role("link", name=name).first.click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    silent = re.compile("No use for (39|40|41) days")
    await expect(page.get_by_text(silent).first).to_be_visible()
    await expect(page.locator("svg[role=img], figure svg").first).to_be_visible()
    work = await first_card(page)

    # By keyboard alone: the button is reached and pressed without a mouse.
    await work.get_by_role("button", name="Acknowledge").focus()
    await page.keyboard.press("Enter")
    await expect(work.get_by_text("Acknowledged", exact=True).first).to_be_visible()
    await work.get_by_role("button", name="Done: ").first.click()
    await expect(page.get_by_text("Task done: ").first).to_be_visible()

    await work.get_by_text("Snooze…").click()
    await work.get_by_label("Why can it wait?").fill("On holiday")
    await work.get_by_role("button", name="Snooze", exact=True).click()
    await expect(work.get_by_text(f"by {CSM}: On holiday")).to_be_visible()
    await work.get_by_role("button", name="End the snooze").click()
    await expect(page.get_by_text("The snooze was ended by hand")).to_be_visible()

    await work.get_by_text("Close…").click()
    await work.get_by_label("How did it end?").select_option("saved")
    await work.get_by_role("button", name="Close intervention").click()
    timeline = page.get_by_role("region", name="Timeline")
    await expect(timeline.get_by_text("Closed: saved").first).to_be_visible()
    await expect(timeline.get_by_text(CSM).first).to_be_visible()
    assert site.complaints == []


async def test_a_role_says_who_may_do_what(browser: Browser, site: Site) -> None:
    name = "Contoso Labs"
    theirs = await site.sign_in(browser, CSM)
    await open_account(theirs, site, name)

    # Somebody who may only read sees no step, and is refused when they send one all the same.
    reader = await site.sign_in(browser, VIEWER)
    work = await open_account(reader, site, name)
    for step in STEPS:
        await expect(work.get_by_text(step, exact=True)).to_have_count(0)
    one = (await work.get_attribute("id") or "").removeprefix("i-")
    path = f"{site.url}/interventions/{one}/acknowledge"
    origin = {"Origin": site.url}
    refused = await reader.request.post(path, form={"version": "1"}, headers=origin)
    assert (refused.status, "role" in await refused.text()) == (403, True)
    assert (await reader.request.get(f"{site.url}/users")).status == 403

    # The CSM's own step from another site is no step.
    evil = {"Origin": "https://evil.example"}
    for headers in (evil, {"Sec-Fetch-Site": "cross-site"}, {}):
        forged = await theirs.request.post(path, form={"version": "1"}, headers=headers)
        assert (forged.status, SAME_SITE in await forged.text()) == (403, True)

    # A manager takes it over; what the CSM's page still offers comes too late.
    manager = await site.sign_in(browser, MANAGER)
    work = await open_account(manager, site, name)
    await work.get_by_text("Reassign…").click()
    await work.get_by_label("New owner").fill(MANAGER)
    await work.get_by_role("button", name="Reassign").click()
    await expect(manager.get_by_text(f"Owner changed from {CSM} to {MANAGER}")).to_be_visible()
    site.complaints.clear()
    await theirs.get_by_role("button", name="Acknowledge").first.click()
    await expect(theirs.get_by_role("heading", level=1)).to_have_text("Somebody was faster")
    await theirs.get_by_role("link", name="See it as it is now").click()
    await expect(theirs.get_by_text("Acknowledged by")).to_have_count(0)
