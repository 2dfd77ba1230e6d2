"""Every page of the console in Chromium: both widths, light and dark, by keyboard, for everybody.

axe-core looks for barriers (WCAG 2.2 AA); it is npm's, by the lock beside, and the page does not
know of it.
"""

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.console_pages import PAGES, ConsolePage
from tests.contract.sdks.installs import require_node
from tests.e2e.console_site import ADMIN, CSM, SCHEMES, SIZES, Site, shoot

AXE = Path(__file__).parent / "axe"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_LOOK = """async tags => {
    const found = await axe.run(document, {runOnly: {type: "tag", values: tags}});
    return found.violations.map(one =>
        [one.id, one.help, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]);
}"""
_MOST_TABS = 40


@pytest.fixture(scope="module")
def axe() -> str:
    require_node(AXE, what="axe-core")
    return (AXE / "node_modules" / "axe-core" / "axe.min.js").read_text()


def path_of(page: ConsolePage) -> str:
    return page.path.replace("{account}", "north%2Fwind").replace("{owner}", CSM)


async def test_every_page_is_for_everybody(browser: Browser, site: Site, axe: str) -> None:
    """No barrier that axe knows, nothing that scrolls sideways, no word in the browser's log."""
    page = await site.sign_in(browser, ADMIN)
    barriers: list[str] = []
    for one in PAGES:
        answer = await page.goto(f"{site.url}{path_of(one)}")
        assert answer is not None
        assert answer.status == 200, one.name
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)
        await shoot(page, one.name)
        # Both layouts and both sets of colours; how they are put together changes nothing for axe.
        for (width, height), scheme in zip(SIZES, SCHEMES, strict=True):
            await page.set_viewport_size({"width": width, "height": height})
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            # Colours that are under way to others would be taken for too faint.
            await page.evaluate("document.getAnimations().forEach(one => one.finish())")
            # By the debugger, beside the policy: the page could not load it itself.
            await page.evaluate(f"{axe}; 0")
            found: list[Any] = await page.evaluate(_LOOK, TAGS)
            barriers += [f"{one.name} {width} {scheme}: {barrier}" for barrier in found]
        await page.set_viewport_size({"width": 1440, "height": 900})
        await page.emulate_media(color_scheme="light")
    assert not barriers, "\n".join(barriers)
    assert site.complaints == []


async def test_every_page_of_the_menu_is_reached_and_read_without_scripts(
    browser: Browser, site: Site
) -> None:
    page = await site.sign_in(browser, ADMIN, javascript=False)
    menu = page.get_by_role("navigation", name="Pages")
    names = await menu.get_by_role("link").all_inner_texts()
    paths = [await link.get_attribute("href") for link in await menu.get_by_role("link").all()]
    assert paths == [one.path for one in PAGES if one.in_nav]
    for name, one in zip(names, [one for one in PAGES if one.in_nav], strict=True):
        await menu.get_by_role("link", name=name.strip(), exact=True).click()
        await expect(page).to_have_url(f"{site.url}{one.path}")
        here = menu.get_by_role("link", name=name.strip(), exact=True)
        await expect(here).to_have_attribute("aria-current", "page")
        assert len(await page.get_by_role("main").inner_text()) > len(name)
    assert site.complaints == []


async def test_a_list_is_worked_by_keyboard(browser: Browser, site: Site) -> None:
    page = await site.sign_in(browser, CSM)
    await page.goto(f"{site.url}/accounts")
    # The first stop leads past the menu, and each stop after it can be seen.
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to content"
    await page.keyboard.press("Enter")
    for _ in range(_MOST_TABS):
        await page.keyboard.press("Tab")
        assert (
            await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        )
        if await focused(page) == "Northwind Traders":
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Northwind Traders")).to_be_visible()

    await page.goto(f"{site.url}/accounts")
    await page.keyboard.press("/")
    await page.keyboard.type("northw")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("1 account", exact=False).first).to_be_visible()
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Northwind Traders")).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("Escape")
    assert site.complaints == []


async def focused(page: Page) -> str:
    text: str = await page.evaluate("document.activeElement.textContent.trim()")
    return text
