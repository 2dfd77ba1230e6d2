"""The broker dies under ingest: true answers, within the deadline, and nothing accepted is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest

from shared.log.kafka import open_kafka_log
from shared.messages import USAGE_EVENTS
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer
from tests.e2e.deployments import Deployment, bearer, eventually, on_kafka

DEADLINE_SECONDS = 5.0


@pytest.fixture
async def outage(
    new_kafka_broker: Callable[[], KafkaBroker], database_server: DatabaseServer, tmp_path: Path
) -> AsyncIterator[tuple[KafkaBroker, Deployment]]:
    """Ingest alone, on a broker of its own."""
    broker = await asyncio.to_thread(new_kafka_broker)
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(on_kafka(broker, database_server, tmp_path))
        stack.callback(deployment.ingest.stop)
        await asyncio.to_thread(deployment.ingest.start)
        yield broker, deployment


async def read_ids(broker: KafkaBroker, deployment: Deployment) -> set[str]:
    """The ids of all events in the log."""
    prefix = deployment.ingest.environment["PERENNIAL_TOPIC_PREFIX"]
    found: set[str] = set()
    async with (
        open_kafka_log(bootstrap_servers=broker.bootstrap_servers, topic_prefix=prefix) as log,
        log.follow(USAGE_EVENTS) as consumer,
    ):
        async with asyncio.timeout(30):
            while True:
                for batch in await consumer.fetch(max_records=10_000, wait=timedelta(seconds=1)):
                    found |= {
                        msgspec.json.decode(record.value or b"{}")["id"] for record in batch.records
                    }
                if not any(lag.records for lag in (await consumer.lag()).values()):
                    return found


async def test_a_dead_broker_is_503_in_time_and_nothing_accepted_is_missing(
    outage: tuple[KafkaBroker, Deployment], client: httpx.AsyncClient
) -> None:
    broker, deployment = outage
    key = await asyncio.to_thread(deployment.new_key, "events:write")
    accepted: set[str] = set()
    slowest = 0.0
    number = 0

    async def send() -> httpx.Response:
        nonlocal number, slowest
        events = [
            {"id": f"e-{number + n}", "account_id": f"a-{n}", "type": "login"} for n in range(20)
        ]
        number += 20
        started = time.monotonic()
        answer = await client.post(
            f"{deployment.ingest.url('ingest')}/v1/events", headers=bearer(key), json=events
        )
        slowest = max(slowest, time.monotonic() - started)
        if answer.status_code == 200:
            results = answer.json()["results"]
            accepted.update(row["id"] for row in results if row["status"] == "accepted")
        return answer

    async def is_accepted() -> bool:
        return (await send()).status_code == 200

    await eventually(is_accepted, seconds=5, what="the key is known")
    for _ in range(20):
        assert (await send()).status_code == 200

    await asyncio.to_thread(broker.kill9)
    answers = [await send() for _ in range(4)]
    assert {answer.status_code for answer in answers} == {503}
    for answer in answers:
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
        assert answer.json()["code"] in {"log_unavailable", "not_durable"}
    assert slowest < DEADLINE_SECONDS + 1
    live = await client.get(f"{deployment.ingest.url('admin')}/livez")
    assert live.status_code == 200

    await asyncio.to_thread(broker.start)
    await eventually(is_accepted, seconds=30, what="it recovers by itself")
    assert (await send()).status_code == 200
    assert len(accepted) >= 23 * 20
    assert accepted - await read_ids(broker, deployment) == set()
