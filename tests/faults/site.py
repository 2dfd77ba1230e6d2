"""Ingest alone on Kafka, without a database, and whoever watches it from outside."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec

from services.process import announce_key
from shared.credentials import Scope, new_key
from shared.log import LogUnavailable
from shared.log.kafka import KafkaLog, open_kafka_log, topics
from shared.log.kafka.cluster import Cluster
from shared.log.patience import enter_when_reachable
from shared.log.topics import TOPICS
from shared.messages import USAGE_EVENTS
from tests.brokers import KafkaBroker, kafka_cluster
from tests.faults.load import Connection, Ledger, attempt, new_events
from tests.faults.proxy import Proxy, running_proxy
from tests.kafka_fixtures import require_kafka
from tests.processes import PerennialProcess, free_port

MAX_GROWTH_MIB = 150

_WATCH_EVERY_SECONDS = 0.2
_READ_SECONDS = 60.0
_PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}


class _Stored(msgspec.Struct):
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`bootstrap` may name several brokers; the topics are of this site alone."""

    bootstrap: str
    prefix: str
    folder: Path

    def process(self, name: str = "ingest", **environment: str) -> PerennialProcess:
        """A `perennial up --service ingest` here; not started yet."""
        return PerennialProcess(
            self.folder / name,
            "--service",
            "ingest",
            **{
                "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
                "PERENNIAL_TOPIC_PREFIX": self.prefix,
                "PERENNIAL_DRAIN_SECONDS": "0",
                "PERENNIAL_DATA_DIR": str(self.folder / "data"),
                "INGEST_RATE_PER_SECOND": "0",
                **environment,
            },
        )

    @asynccontextmanager
    async def log(self) -> AsyncIterator[KafkaLog]:
        async with open_kafka_log(self.bootstrap, topic_prefix=self.prefix) as opened:
            yield opened

    async def new_key(self) -> str:
        made = new_key(source="app", scopes=[Scope.EVENTS_WRITE], now=datetime.now(UTC))
        async with self.log() as log:
            await log.create_topics(TOPICS)
            await announce_key(log, made.record)
        return made.secret

    async def complaints(self, *, replicas: int) -> Sequence[str]:
        cluster = Cluster(bootstrap_servers=self.bootstrap, topic_prefix=self.prefix)
        return await topics.complaints(cluster, TOPICS, replicas=replicas)

    async def stored(self) -> Counter[str]:
        """How often each event's id stands in the log, read from its beginning to its end."""
        found: Counter[str] = Counter()
        decoder = msgspec.json.Decoder(_Stored)
        async with asyncio.timeout(_READ_SECONDS), self.log() as log, AsyncExitStack() as stack:
            # After a fault the brokers take a moment; the log itself is sure by then.
            consumer = await enter_when_reachable(
                stack, lambda: log.follow(USAGE_EVENTS), asyncio.Event()
            )
            assert consumer is not None
            while True:
                for batch in await consumer.fetch(max_records=5_000, wait=timedelta(seconds=1)):
                    found.update(decoder.decode(one.value or b"").id for one in batch.records)
                with suppress(LogUnavailable):
                    lags = await consumer.lag()
                    if len(lags) == _PARTITIONS[USAGE_EVENTS] and not any(
                        lag.records for lag in lags.values()
                    ):
                        return found


def new_site(bootstrap: str, folder: Path) -> Site:
    return Site(bootstrap=bootstrap, prefix=f"site-{random.randrange(1 << 30):x}.", folder=folder)


async def known(port: int, key: str, ledger: Ledger, *, name: str, seconds: float) -> float:
    """Wait until ingest takes the key; how long that took."""
    now, choose = asyncio.get_running_loop().time, random.Random(name)
    started = now()
    connection = Connection(port, key)
    try:
        while not (made := await attempt(ledger, connection, new_events(name, 1, choose))).accepted:
            if made.status == 401:
                ledger.attempts.remove(made)
            assert now() - started < seconds, f"the key is not known after {seconds} s"
            await asyncio.sleep(0.1)
    finally:
        connection.abort()
    return now() - started


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The brokers of one test, and the proxy before the only one where there is one."""

    brokers: Sequence[KafkaBroker]
    proxy: Proxy | None
    site: Site

    @property
    def network(self) -> Proxy:
        assert self.proxy is not None
        return self.proxy

    async def each(self, act: Callable[[KafkaBroker], None], count: int | None = None) -> None:
        chosen = self.brokers[:count]
        await asyncio.gather(*(asyncio.to_thread(act, broker) for broker in chosen))


@asynccontextmanager
async def stage(folder: Path, *, nodes: int = 1, proxied: bool = False) -> AsyncIterator[Stage]:
    require_kafka()
    async with AsyncExitStack() as stack:
        port = free_port()
        if nodes > 1:
            brokers = await asyncio.to_thread(kafka_cluster, folder, nodes=nodes)
        else:
            advertised = f"advertised.listeners=CLIENT://127.0.0.1:{port}"
            settings = [advertised] if proxied else []
            brokers = [KafkaBroker(folder / "kafka", settings=settings)]
            await asyncio.to_thread(brokers[0].start)
        for broker in brokers:
            stack.callback(broker.stop)
        bootstrap, proxy = ",".join(one.bootstrap_servers for one in brokers), None
        if proxied:
            target = int(bootstrap.rpartition(":")[2])
            proxy = await stack.enter_async_context(running_proxy(port, target))
            bootstrap = f"127.0.0.1:{port}"
        yield Stage(brokers=brokers, proxy=proxy, site=new_site(bootstrap, folder))


@asynccontextmanager
async def ingest(
    site: Site, *, name: str = "ingest", **environment: str
) -> AsyncIterator[tuple[PerennialProcess, str]]:
    """Ingest serving at this site, and a key that it knows."""
    key = await site.new_key()
    process = site.process(name, **environment)
    try:
        await asyncio.to_thread(process.start)
        yield process, key
    finally:
        process.stop()


@dataclass(slots=True)
class Watch:
    """What an orchestrator and a monitor saw of one process."""

    looks: int = 0
    unwell: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    log_up: list[tuple[float, float]] = field(default_factory=list)
    """Each change of perennial_dependency_up{dependency="log"}, with its time."""

    def was_down_and_is_up(self, since: float) -> bool:
        values = [value for moment, value in self.log_up if moment >= since]
        return 0.0 in values and self.log_up[-1][1] == 1.0


@asynccontextmanager
async def watching(process: PerennialProcess) -> AsyncIterator[Watch]:
    """Ask the admin port again and again while the context is open."""
    watch, stop = Watch(), asyncio.Event()
    task = asyncio.create_task(_look(process, watch, stop))
    try:
        yield watch
    finally:
        stop.set()
        await task


async def _look(process: PerennialProcess, watch: Watch, stop: asyncio.Event) -> None:
    now = asyncio.get_running_loop().time
    async with httpx.AsyncClient(base_url=process.url("admin"), timeout=5) as client:
        while not stop.is_set():
            for path in ("/livez", "/readyz"):
                started = now()
                try:
                    status = str((await client.get(path)).status_code)
                except httpx.HTTPError as error:
                    status = type(error).__name__
                watch.slowest_seconds = max(watch.slowest_seconds, now() - started)
                if status != "200":
                    watch.unwell[f"{path} {status}"] += 1
            text = (await client.get("/metrics")).text
            up = re.search(
                r'^perennial_dependency_up\{[^}]*="log"[^}]*\} (\S+)$', text, re.MULTILINE
            )
            value = float(up[1]) if up else -1.0
            if not watch.log_up or watch.log_up[-1][1] != value:
                watch.log_up.append((now(), value))
            watch.looks += 1
            await asyncio.sleep(_WATCH_EVERY_SECONDS)


def resident_mib(process: PerennialProcess, *, peak: bool = False) -> float:
    field_name = "VmHWM" if peak else "VmRSS"
    status = Path(f"/proc/{process.pid}/status").read_text()
    kib = re.search(rf"^{field_name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert kib is not None
    return int(kib[1]) / 1024


def missing(accepted: set[str], stored: Counter[str]) -> Sequence[str]:
    """Accepted, and not in the log: what must never be."""
    return sorted(accepted - stored.keys())
