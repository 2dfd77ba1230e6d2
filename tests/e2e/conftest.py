"""The same stories on both ways to run Perennial."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, async_playwright, expect

from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer, temporary_folder
from tests.e2e.console_site import TEAM, Site
from tests.e2e.deployments import Deploy, Deployment, embedded, on_kafka

_SHOWN_WITHIN_MS = 20_000
# The last ones keep Chromium from calling home, again and again, where there is no network.
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


@pytest.fixture(params=["embedded", "kafka"])
async def deploy(
    request: pytest.FixtureRequest, database_server: DatabaseServer, tmp_path: Path
) -> AsyncIterator[Deploy]:
    """Starts a deployment with further environment variables; all of it is ended afterwards."""
    kafka: KafkaBroker | None = (
        request.getfixturevalue("kafka_broker") if request.param == "kafka" else None
    )
    async with AsyncExitStack() as stack:

        async def start(**environment: str) -> Deployment:
            if kafka is None:
                folder = stack.enter_context(temporary_folder())
                deployment = embedded(folder, **environment)
            else:
                deployment = await stack.enter_async_context(
                    on_kafka(kafka, database_server, tmp_path, **environment)
                )
            stack.callback(deployment.stop)
            await asyncio.to_thread(deployment.start)
            return deployment

        yield lambda **environment: asyncio.ensure_future(start(**environment))


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as opened:
        yield opened


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = "no `chromium` on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(f"Chromium cannot run here: {missing}", pytrace=False)
        pytest.skip(f"SKIPPED CHROMIUM: {missing}")
    # Machines are shared: what comes late is late, not wrong.
    expect.set_options(timeout=_SHOWN_WITHIN_MS)
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        try:
            yield opened
        finally:
            await opened.close()


@pytest.fixture(scope="package")
def console() -> Iterator[Deployment]:
    """Everything embedded, filled, and its users invited; for all tests of the console."""
    with temporary_folder() as folder:
        team = folder / "team.yaml"
        team.write_text(TEAM)
        deployment = embedded(folder, PERENNIAL_TEAM_FILE=str(team))

        async def fill() -> None:
            async with httpx.AsyncClient(timeout=10) as client:
                site = Site(deployment=deployment, client=client)
                await site.fill()
                await site.invite()

        try:
            deployment.start()
            # In a thread: each test brings a loop of its own.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, fill()).result()
            yield deployment
        finally:
            deployment.stop()


@pytest.fixture
async def site(console: Deployment, client: httpx.AsyncClient) -> AsyncIterator[Site]:
    opened = Site(deployment=console, client=client)
    try:
        yield opened
    finally:
        await opened.close()
