"""A server with the roles of production."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import DatabaseServer
from tests.integration.deploy.production import Production, prepare
from tests.integration.deploy.production import production as opened_production


@pytest.fixture(scope="package")
def production_server(database_server: DatabaseServer) -> DatabaseServer:
    with asyncio.Runner() as runner:
        runner.run(prepare(database_server))
    return database_server


@pytest.fixture
async def production(
    production_server: DatabaseServer, tmp_path: Path
) -> AsyncIterator[Production]:
    async with opened_production(production_server, tmp_path) as opened:
        yield opened
