"""The worker on each log, with its positions and effects in a real PostgreSQL."""

import uuid
from collections.abc import AsyncIterator

import pytest

from shared.database import open_engine
from shared.log import Log
from tests.brokers import KafkaBroker
from tests.contract.log.backends import KafkaUnderTest, LogUnderTest, PostgresUnderTest
from tests.contract.worker.ledger import Ledger
from tests.databases import DatabaseServer, temporary_folder


@pytest.fixture(params=["kafka", "postgres"])
def broker(request: pytest.FixtureRequest) -> KafkaBroker | None:
    # Not in the async fixture below: those of a session may not start inside a running loop.
    if request.param == "postgres":
        return None
    found: KafkaBroker = request.getfixturevalue("kafka_broker")
    return found


@pytest.fixture
async def under_test(broker: KafkaBroker | None, database_url: str) -> LogUnderTest:
    if broker is not None:
        return KafkaUnderTest(broker)
    with temporary_folder() as nowhere:  # its backend is the whole run's: nobody breaks it here
        return PostgresUnderTest(database_url, nowhere)


@pytest.fixture
async def log(under_test: LogUnderTest) -> AsyncIterator[Log]:
    async with under_test.open() as opened:
        yield opened


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    """A handler with tables of its own, in this test's database."""
    application = f"ledger-{uuid.uuid4().hex[:8]}"
    async with open_engine(database_url, application=application, pool_size=4) as engine:
        opened = Ledger(engine, application)
        await opened.create_tables()
        yield opened


@pytest.fixture
def server(database_server: DatabaseServer) -> DatabaseServer:
    return database_server
