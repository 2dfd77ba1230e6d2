"""The monthly review: self-contained, and of the API's own figures."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import msgspec
import pytest
from playwright.async_api import async_playwright
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.console.economics_api import Figures
from services.notifier.console.scoring import ScoringApi
from services.notifier.domain import periods
from services.report import page, readings
from services.report.readings import Readings, ReportUnavailable
from tests.integration.notifier.ended import ended
from tests.integration.notifier.rig import NOW, OWNER, Rig, open_rig
from tests.standins import economics

MAY = periods.month(2026, 5)
_FETCHING = {"href", "src", "srcset", "action", "poster", "data", "background"}


class Fetching(HTMLParser):
    """Whatever would be fetched, and whatever runs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed"):
            self.found.append(tag)
        for name, value in attrs:
            fetched = name in _FETCHING and not (value or "").startswith(("data:", "#"))
            if fetched or name.startswith("on"):
                self.found.append(f"{tag} {name}={value}")


@pytest.fixture
async def rig(engine: AsyncEngine) -> AsyncIterator[Rig]:
    async with open_rig(engine) as opened:
        yield opened


async def read(engine: AsyncEngine) -> Readings:
    transport = httpx.ASGITransport(economics.app())
    async with httpx.AsyncClient(transport=transport) as client:
        scoring = ScoringApi(client=client, url="http://scoring", key="k", limit_seconds=10)
        return await readings.read(scoring, engine, MAY, NOW)


async def test_it_holds_all_that_it_shows_and_runs_nothing(engine: AsyncEngine) -> None:
    html = await asyncio.to_thread(page.render, await read(engine))
    looked = Fetching()
    looked.feed(html)
    assert looked.found == []
    assert "@import" not in html
    assert "url(" not in html
    assert "Acme &lt;Ltd&gt;" in html


async def test_a_browser_opens_it_without_any_request_and_prints_it(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("SKIPPED CHROMIUM: no `chromium` on the PATH")
    file = tmp_path / "review.html"
    html = await asyncio.to_thread(page.render, await read(engine))
    await asyncio.to_thread(file.write_text, html)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        )
        opened = await browser.new_page()
        requests: list[str] = []
        said: list[str] = []
        opened.on("request", lambda one: requests.append(one.url))
        opened.on("console", lambda one: said.append(one.text))
        for width in (1440, 390):
            await opened.set_viewport_size({"width": width, "height": 900})
            await opened.goto(file.as_uri())
            too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await opened.evaluate(too_wide), width
        printed = await opened.pdf(prefer_css_page_size=True)
        await browser.close()
    assert set(requests) == {file.as_uri()}
    assert said == []
    assert printed.startswith(b"%PDF")


async def test_its_figures_are_the_api_s(engine: AsyncEngine) -> None:
    found = await read(engine)
    html = await asyncio.to_thread(page.render, found)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(economics.app())) as client:
        asked = {"from": "2026-05-01", "to": "2026-06-01", "by": "whole"}
        told = (await client.get("http://scoring/v1/portfolio", params=asked)).json()
    assert found.month.whole == msgspec.convert(told["whole"], Figures, strict=False)
    # 31 of 35 = 88.6 %; 8 of 400 = 2.0 %
    assert '<td class="num this">88.6 %</td>' in html
    assert '<td class="num this">2.0 %</td>' in html
    assert [one.month for one in found.trend][-1] == "2026-05"
    assert len(found.trend) == readings.TREND_MONTHS


async def test_interventions_count_in_the_month_in_which_they_were_opened_or_closed(
    engine: AsyncEngine,
    rig: Rig,
) -> None:
    await ended(rig, 1)
    await ended(rig, 2, outcome="churned")
    await ended(rig, 3, outcome="false_alarm")
    await ended(rig, 4, by_system=True, outcome="no_action_needed")
    in_april = NOW - timedelta(days=40)
    await ended(rig, 5, opened_at=in_april, closed_at=in_april, outcome="churned")
    await ended(rig, 6, opened_at=in_april, closed_at=NOW - timedelta(days=1))
    found = (await read(engine)).worked
    # In May: 1, 2, 3, 4 opened; 1, 2, 3, 6 closed by people, two of three saved.
    assert (found.opened, found.whole.endings, found.whole.by_system) == (4, 4, 1)
    assert (found.whole.save_rate.part, found.whole.save_rate.of) == (2, 3)
    assert found.open_at_end == 0
    assert found.owners.keys() == {OWNER}


async def test_a_review_without_a_figure_is_not_made(engine: AsyncEngine) -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    async with httpx.AsyncClient(transport=httpx.MockTransport(away)) as client:
        scoring = ScoringApi(client=client, url="http://scoring", key="k")
        with pytest.raises(ReportUnavailable, match="Scoring does not answer"):
            await readings.read(scoring, engine, MAY, NOW)
