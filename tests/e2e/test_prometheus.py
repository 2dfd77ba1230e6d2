"""The real Prometheus watches a real deployment: quiet while all is well, right when it is not.

A test run plays it with all durations of the rules a twentieth as long. With PROMETHEUS_TEST=real
they are as they are in production: twenty minutes.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer
from tests.e2e.deployments import SERVICES, Deployment, eventually, on_kafka
from tests.e2e.prometheus_server import Pace, Prometheus, running_prometheus
from tests.faults.load import Ledger, Load, calling
from tests.processes import PerennialProcess
from tests.prometheus_tools import run_tool

REAL: Final = os.environ.get("PROMETHEUS_TEST") == "real"
SHORT: Final = Pace(times=20, longest_seconds=60, scrape_seconds=1)
EXCUSED: Final = ('perennial_event_id_days_ahead use base unit "seconds" instead of "days"',)
BURNS: Final = {
    f"{name}Burn {severity}"
    for name in ("Availability", "Speed", "Freshness")
    for severity in ("page", "ticket")
}
"""They look hours back, and rightly go on for as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    quiet: float
    """How long nothing may fire, under load."""
    fires_within: float
    resolves_within: float


TIMES: Final = (
    Times(quiet=330, fires_within=600, resolves_within=900)
    if REAL
    else Times(quiet=50, fires_within=60, resolves_within=120)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    broker: KafkaBroker
    deployment: Deployment
    prometheus: Prometheus

    async def fires(self, *alerts: str) -> float:
        """Wait until all of them fire; how long that took."""
        started = time.monotonic()

        async def look() -> bool:
            return set(alerts) <= await self.prometheus.firing()

        await eventually(look, seconds=TIMES.fires_within, every=0.5, what=f"firing: {alerts}")
        return time.monotonic() - started

    async def all_resolve(self, *, but: frozenset[str] = frozenset()) -> float:
        started, still = time.monotonic(), set[str]()

        async def look() -> bool:
            still.clear()
            still.update(await self.prometheus.firing())
            return not still - but

        try:
            await eventually(look, seconds=TIMES.resolves_within, every=0.5)
        except AssertionError:
            pytest.fail(f"still fires: {still - but}")
        return time.monotonic() - started


@pytest.fixture
async def watched(
    new_kafka_broker: Callable[[], KafkaBroker], database_server: DatabaseServer, tmp_path: Path
) -> AsyncIterator[Watched]:
    """Three processes on a broker of their own, under steady load, scraped."""
    broker = await asyncio.to_thread(new_kafka_broker)
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(on_kafka(broker, database_server, tmp_path))
        stack.callback(deployment.stop)
        await asyncio.to_thread(deployment.start)
        key = await asyncio.to_thread(deployment.new_key, "events:write")
        port = deployment.ingest.ports["INGEST_PORT"]
        load = Load(callers=3, sizes=(1, 20), pause_seconds=0.2)
        await stack.enter_async_context(calling(load, port=port, key=key, ledger=Ledger()))
        targets = {
            f"perennial-{service}": f"127.0.0.1:{deployment.processes[service].ports['ADMIN_PORT']}"
            for service in SERVICES
        }
        prometheus = await stack.enter_async_context(
            running_prometheus(tmp_path / "prometheus", targets, pace=Pace() if REAL else SHORT)
        )
        yield Watched(broker=broker, deployment=deployment, prometheus=prometheus)


def lint(process: PerennialProcess) -> list[str]:
    """What promtool finds wrong with a scrape."""
    page = httpx.get(f"{process.url('admin')}/metrics", timeout=10).text
    done = run_tool("promtool", "check", "metrics", given=page)
    return [line for line in (done.stdout + done.stderr).splitlines() if line not in EXCUSED]


@asynccontextmanager
async def locked(database_url: str) -> AsyncIterator[None]:
    """A session that keeps all others from the ids of events while the context is open."""
    url = make_url(database_url).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE scoring.seen_events IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_nothing_fires_under_load_and_each_outage_is_called_by_its_name(
    watched: Watched,
) -> None:
    prometheus = watched.prometheus

    # All is well.
    await asyncio.sleep(TIMES.quiet)
    assert not await prometheus.broken_rules()
    assert await prometheus.ever_fired() == {"Heartbeat"}
    (accepted,) = await prometheus.ask(
        'sum(perennial_ingest_items_total{status="accepted", format="native"})'
    )
    assert float(accepted["value"][1]) > 100
    assert len(await prometheus.ask("up == 1")) == len(SERVICES)

    for service in SERVICES:
        assert not await asyncio.to_thread(lint, watched.deployment.processes[service])

    # Scoring stops.
    code = await asyncio.to_thread(watched.deployment.scoring.terminate)
    assert code == 0
    stuck_after = await watched.fires("ConsumerStuck page", "ServiceDown page")
    assert not {"DependencyDown page", "AvailabilityBurn page"} & await prometheus.firing()
    await asyncio.to_thread(watched.deployment.scoring.start)
    after_scoring = await watched.all_resolve(but=frozenset(BURNS) if REAL else frozenset())

    # Scoring runs, and cannot work: somebody holds a lock. Not at the real pace: after minutes of
    # this the process gives up, and nothing here starts it again.
    if not REAL:
        async with locked(watched.deployment.scoring.environment["DATABASE_URL"]):
            behind_after = await watched.fires("ConsumerStuck page")
            causes = await prometheus.ask(
                'ALERTS{alertname="ConsumerStuck", alertstate="firing", cause="behind"}'
            )
            assert {row["metric"]["topic"] for row in causes} == {"usage-events"}
            assert "ServiceDown page" not in await prometheus.firing()
        await watched.all_resolve()
        print(f"ConsumerStuck by a lock after {behind_after:.0f} s")  # noqa: T201

    # The log dies.
    await asyncio.to_thread(watched.broker.kill9)
    away_after = await watched.fires("DependencyDown page", "AvailabilityBurn page")
    seen_by = {
        row["metric"]["service"]
        for row in await prometheus.ask(
            'ALERTS{alertname="DependencyDown", dependency="log", alertstate="firing"}'
        )
    }
    assert "ingest" in seen_by
    assert "ServiceDown page" not in await prometheus.firing()
    await asyncio.to_thread(watched.broker.start)
    after_log = await watched.all_resolve(but=frozenset(BURNS) if REAL else frozenset())

    # What says that something was lost or miscounted has never fired.
    assert not await prometheus.ever_fired() & {
        "CountMismatch", "LogGap", "DeadDeliveries", "WatchdogSilent", "OrphanPartition",
    }  # fmt: skip
    print(  # noqa: T201 - figures for who runs it
        f"ConsumerStuck after {stuck_after:.0f} s, all resolved after {after_scoring:.0f} s;"
        f" DependencyDown after {away_after:.0f} s, all resolved after {after_log:.0f} s"
    )
