from collections.abc import AsyncIterator

import pytest

from shared.log.postgres import PostgresLog
from tests.unit.ingest.api import Api, open_api


@pytest.fixture
async def api(log: PostgresLog) -> AsyncIterator[Api]:
    """The application over the embedded log of this test's database."""
    async with open_api(log) as opened:
        yield opened
