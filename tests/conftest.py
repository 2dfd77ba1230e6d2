"""Fixtures that all levels of tests share."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import open_engine
from shared.lifecycle import Frame, new_frame
from shared.log.postgres import PostgresLog, open_postgres_log
from tests.databases import DatabaseServer, running_server, temporary_folder
from tests.faults.load import IN_FULL

pytest_plugins = ["tests.kafka_fixtures", "tests.parallel"]

# A machine under load is slow, not wrong: what takes how long is for the benchmarks.
settings.register_profile("perennial", deadline=None)
settings.load_profile("perennial")

_MAY_BLOCK = [
    # Read once, at the start of a service; tests of a part come to it later.
    ("services/notifier/templates.py", "load"),
    ("services/notifier/console/pages.py", "load_assets"),
    ("services/ingest/traits.py", "known_zones"),
    ("services/scoring/domain/rules.py", "read_default"),
    ("services/scoring/models.py", "read_prior"),
    # The job that migrates: Alembic reads its scripts, before any service serves.
    ("shared/migrations.py", "newest"),
    ("shared/migrations.py", "known"),
    ("shared/migrations.py", "_upgrade"),
    # The driver looks for libpq's files (.pgpass, certificates) at each new connection.
    ("asyncpg/connect_utils.py", "_parse_connect_arguments"),
]


@pytest.fixture(autouse=True)
def handlers_as_they_were() -> Iterator[None]:
    """A command that a test runs configures logging, for a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Callable[[], str]:
    """All that was logged, also where an earlier test has configured logging, or made it quiet."""
    caplog.set_level(logging.INFO)
    return lambda: capsys.readouterr().out + caplog.text


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones to `make faults`."""
    if IN_FULL:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Collect what is left of greenlets now, and nothing later.

    Plug-ins import modules as the session ends. Where a greenlet is collected while Python 3.11
    builds a syntax tree, its count of levels is off, and the import fails (SystemError).
    """
    gc.collect()
    gc.disable()


@pytest.fixture(autouse=True)
def no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """Our code fails where it blocks the event loop: files, sockets, sleeps, child processes.

    The tests themselves may: only what our packages call, at any depth, is looked at. At the other
    levels processes are killed and clients replaced; there it would be in the way.
    """
    level = request.path.relative_to(Path(__file__).parent).parts[0]
    if level not in {"unit", "integration"}:
        yield
        return
    with blockbuster_ctx(["shared", "services"]) as found:
        for function in found.functions.values():
            for path, name in _MAY_BLOCK:
                function.can_block_in(path, name)
        yield


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """One PostgreSQL for the whole run, with a migrated template."""
    with temporary_folder() as folder, asyncio.Runner() as runner:
        context = running_server(folder)
        server = runner.run(context.__aenter__())
        try:
            runner.run(server.prepare_template())
            yield server
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest.fixture
async def owner_url(database_server: DatabaseServer) -> AsyncIterator[str]:
    """A fresh migrated database of this test alone, as who may do everything."""
    async with database_server.copy_of_template() as url:
        yield url


@pytest.fixture
def database_url(owner_url: str) -> str:
    """The same; a service's tests reach it as the service's role does."""
    return owner_url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with open_engine(database_url, application="test") as opened:
        yield opened


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[AsyncEngine]:
    """For what a test does that no service may."""
    async with open_engine(owner_url, application="test-owner") as opened:
        yield opened


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[PostgresLog]:
    """The embedded log with all topics, in this test's database."""
    async with open_postgres_log(database_url) as opened:
        yield opened


@pytest.fixture
def frame() -> Frame:
    return new_frame()
