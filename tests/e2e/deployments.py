"""Whole deployments as an operator starts them: embedded in one process, on Kafka in three."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer
from tests.processes import PerennialProcess, free_port

FAST = {
    "PERENNIAL_BACKFILL_SETTLE_SECONDS": "1",
    "PERENNIAL_SWEEP_INTERVAL_SECONDS": "0.2",
    "PERENNIAL_REGISTER_SECONDS": "0.2",
    "PERENNIAL_DELIVERY_LEASE_SECONDS": "3",
    "PERENNIAL_DELIVERY_TIMEOUT_SECONDS": "1",
    "PERENNIAL_DELIVERY_RETRY_FIRST_SECONDS": "0.2",
    "PERENNIAL_GROUP_WAIT_SECONDS": "0",
    "PERENNIAL_GROUP_INTERVAL_SECONDS": "0",
    "PERENNIAL_DRAIN_SECONDS": "0",
    "KAFKA_SESSION_TIMEOUT_MS": "3000",
    "INGEST_RATE_PER_SECOND": "0",
}
SERVICES = ("ingest", "scoring", "notifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Running services; `processes` is by service, the same process thrice where it is one."""

    processes: dict[str, PerennialProcess]

    @property
    def ingest(self) -> PerennialProcess:
        return self.processes["ingest"]

    @property
    def scoring(self) -> PerennialProcess:
        return self.processes["scoring"]

    @property
    def notifier(self) -> PerennialProcess:
        return self.processes["notifier"]

    @property
    def distinct(self) -> list[PerennialProcess]:
        return list(dict.fromkeys(self.processes.values()))

    def start(self) -> None:
        # Together: they wait for each other's migrations, not one after the other.
        for process in self.distinct:
            process.start(wait=False)
        for process in self.distinct:
            process.wait_until_ready()

    def terminate(self) -> list[int]:
        return [process.terminate() for process in self.distinct]

    def stop(self) -> None:
        for process in self.distinct:
            process.stop()

    def cli(self, *arguments: str) -> str:
        return self.ingest.run(*arguments)

    def new_key(self, *scopes: str, source: str = "app") -> str:
        options = [option for scope in scopes for option in ("--scope", scope)]
        return self.cli("keys", "create", "--source", source, *options, "--plain").split()[-1]


Deploy: TypeAlias = Callable[..., "asyncio.Future[Deployment]"]
"""Starts a deployment with further environment variables."""


def embedded(folder: Path, **environment: str) -> Deployment:
    """Everything in one process, on PostgreSQL from the wheel."""
    one = PerennialProcess(folder / "up", **{**FAST, **environment})
    return Deployment(processes=dict.fromkeys(SERVICES, one))


@asynccontextmanager
async def on_kafka(
    broker: KafkaBroker, server: DatabaseServer, folder: Path, **environment: str
) -> AsyncIterator[Deployment]:
    """A process per service, on a real broker and a PostgreSQL server; not started yet."""
    ports = {f"{service.upper()}_PORT": str(free_port()) for service in SERVICES}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server.copy_of_template())
        shared = {
            **FAST,
            **ports,
            "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "DATABASE_URL": url,
            "PERENNIAL_TOPIC_PREFIX": f"e2e-{random.randrange(1 << 30):x}.",
            "PERENNIAL_DATA_DIR": str(folder / "data"),
            **environment,
        }
        yield Deployment(
            processes={
                service: PerennialProcess(folder / service, "--service", service, **shared)
                for service in SERVICES
            }
        )


async def eventually(
    look: Callable[[], Any], *, seconds: float = 30, every: float = 0.1, what: str = ""
) -> Any:
    """What `look` returns as soon as it is true; `look` may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or look}")
        await asyncio.sleep(every)


def bearer(key: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **headers}


async def status_of(client: httpx.AsyncClient, deployment: Deployment, key: str) -> dict[str, Any]:
    answer = await client.get(f"{deployment.scoring.url('scoring')}/v1/status", headers=bearer(key))
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
