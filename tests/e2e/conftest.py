"""The same stories on both ways to run Perennial."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer, temporary_folder
from tests.e2e.deployments import Deployment, embedded, on_kafka

Deploy: TypeAlias = Callable[..., "asyncio.Future[Deployment]"]


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
