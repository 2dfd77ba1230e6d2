"""The contract's fixtures: every test runs once per adapter."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shared.log import Log
from tests.brokers import KafkaBroker
from tests.contract.log.backends import (
    BREAKABLE,
    STEADY,
    KafkaUnderTest,
    LogUnderTest,
    PostgresUnderTest,
)
from tests.databases import DatabaseServer, running_server, temporary_folder
from tests.kafka_fixtures import require_kafka

_Backend = KafkaBroker | tuple[Path, DatabaseServer]


@pytest.fixture(params=["kafka", "postgres"])
def backend(request: pytest.FixtureRequest) -> _Backend:
    # Not in the async fixture below: those of a session may not start inside a running loop.
    name = {"kafka": "kafka_broker", "postgres": "mortal_database"}[request.param]
    found: _Backend = request.getfixturevalue(name)
    return found


@pytest.fixture(params=["kafka", "postgres"])
def mortal_backend(request: pytest.FixtureRequest) -> _Backend:
    name = {"kafka": "mortal_broker", "postgres": "mortal_database"}[request.param]
    found: _Backend = request.getfixturevalue(name)
    return found


@pytest.fixture
async def under_test(backend: _Backend) -> AsyncIterator[LogUnderTest]:
    """A log that stays up."""
    async with _opened(backend, request_timeout=STEADY) as found:
        yield found


@pytest.fixture
async def mortal(mortal_backend: _Backend) -> AsyncIterator[LogUnderTest]:
    """A log whose backend the test may break; it is mended afterwards."""
    async with _opened(mortal_backend, request_timeout=BREAKABLE) as found:
        try:
            yield found
        finally:
            await found.mend_backend()


@pytest.fixture
async def log(under_test: LogUnderTest) -> AsyncIterator[Log]:
    async with under_test.open() as opened:
        yield opened


@pytest.fixture(scope="session")
def mortal_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for the tests that kill it: the run's shared one serves other levels too."""
    require_kafka()
    broker = KafkaBroker(tmp_path_factory.mktemp("mortal-kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def mortal_database() -> Iterator[tuple[Path, DatabaseServer]]:
    with temporary_folder() as folder, asyncio.Runner() as runner:
        context = running_server(folder)
        server = runner.run(context.__aenter__())
        try:
            runner.run(server.prepare_template())
            yield folder, server
        finally:
            runner.run(context.__aexit__(None, None, None))


@asynccontextmanager
async def _opened(backend: _Backend, *, request_timeout: timedelta) -> AsyncIterator[LogUnderTest]:
    if isinstance(backend, KafkaBroker):
        yield KafkaUnderTest(backend, request_timeout=request_timeout)
        return
    folder, server = backend
    async with server.copy_of_template() as url:
        yield PostgresUnderTest(url, folder)
