"""How fast ingest is: `make bench-ingest` (or `python -m tests.benchmarks.ingest -h`).

A real broker, the service as it runs in production, and wrk, all on this machine. The machine is
shared and noisy, so what counts is events per CPU-second of the service; the limit of the same run
is Kafka's own ProducerPerformance with the same records. In the end the log is read: it must hold
every acknowledged event exactly. That is the one verdict (exit code 1); figures have none.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from shared import logging as logs
from shared.log import Topic
from shared.log.kafka import open_kafka_log
from shared.log.topics import TOPICS
from shared.messages import USAGE_EVENTS
from tests.benchmarks.ingest_events import (
    ACCOUNTS,
    EVENT_BYTES,
    Stream,
    make_tails,
    now_rounded,
)
from tests.benchmarks.ingest_figures import cpu_seconds, peak_mib, rss_mib
from tests.benchmarks.ingest_hotspots import profile, profiler_missing
from tests.benchmarks.ingest_ledger import Audit, Ledger, Rules, first_values
from tests.benchmarks.ingest_limit import Limit, kafka_version, measure_limit
from tests.benchmarks.ingest_steady import THREAD, run_steady
from tests.benchmarks.ingest_wrk import Saturation, Sent, WrkFailed, check_wrk, saturate
from tests.brokers import KafkaBroker, kafka_missing
from tests.processes import PerennialProcess

PREFIX = "perennial."
LIMIT_TOPIC = "limit"
SOURCE = "benchmark"
USER_KEY = "benchmark-benchmark-benchmark-benchmark"
PARTITIONS = 12
CONNECTIONS = {1: 64, 10: 32, 100: 16, 500: 8}
LIBRARIES = ("uvicorn", "uvloop", "httptools", "msgspec", "aiokafka", "starlette", "fastapi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    batches: tuple[int, ...]
    seconds: float
    warmup: float
    connections: int | None
    rate: float
    runs: int
    workers: int
    limit_records: int
    profiles: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One load, or the medians of its runs; latencies in milliseconds."""

    load: str
    workers: int
    connections: int
    events_per_second: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    late_p99_ms: float = 0.0
    events_per_cpu_second: float
    requests_per_cpu_second: float
    cpu_share: float
    """CPU-seconds of the service by second."""
    not_accepted: float
    """Answers that do not accept everything, and requests without one."""


@dataclass(slots=True, kw_only=True)
class Report:
    header: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    limit: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    audit: Audit | None = None
    profiles: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What runs: the broker, the services, and what was sent so far."""

    folder: Path
    broker: KafkaBroker
    key: str
    now: datetime
    tails: tuple[str, ...]
    ledger: Ledger
    loads: Iterator[int]

    def stream(self, batch: int) -> Stream:
        return Stream(next(self.loads), batch, self.tails)

    def saturate(
        self, services: Sequence[PerennialProcess], batch: int, options: Options, *, seconds: float
    ) -> tuple[Saturation, float]:
        """The load and the CPU-seconds that it cost the services."""
        stream = self.stream(batch)
        before = _cpu(services)
        found = saturate(
            self.folder,
            stream,
            ports=[service.ports["INGEST_PORT"] for service in services],
            key=self.key,
            seconds=seconds,
            connections=_connections(batch, options) * len(services),
            threads=len(services),
        )
        cpu = _cpu(services) - before
        self.ledger.enter(stream, found.sent)
        return found, cpu


def measure(options: Options) -> Report:
    report = Report(header=_header(options))
    with TemporaryDirectory(prefix="perennial-bench-") as name, _bench(Path(name)) as bench:
        with _services(bench, 1) as services:
            memory = {"idle_mib": rss_mib(services[0].pid)}
            for batch in options.batches:
                bench.saturate(services, batch, options, seconds=options.warmup)
            payloads = asyncio.run(_payloads(bench))
            rounds = []
            limits: list[Limit] = []
            for _ in range(options.runs):
                rows = [_saturated(bench, services, batch, options) for batch in options.batches]
                if options.rate:
                    rows += [
                        _steady(bench, services[0], batch, options) for batch in options.batches
                    ]
                rounds.append(rows)
                if options.limit_records:
                    limits.append(_limit(bench, payloads, options))
            report.rows += [_median(each) for each in zip(*rounds, strict=True)]
            if limits:
                report.limit = _median_limit(limits)
            if options.profiles:
                for batch in options.batches:
                    report.profiles[f"batches of {batch}"] = _profile(
                        bench, services, batch, options
                    )
            memory["loaded_mib"] = rss_mib(services[0].pid)
            memory["peak_mib"] = peak_mib(services[0].pid)
            report.memory = memory
        if options.workers > 1:
            report.rows += _with_workers(bench, options)
        rules = Rules(source=SOURCE, user_key=USER_KEY.encode(), partitions=PARTITIONS)
        report.audit = asyncio.run(
            bench.ledger.audit(
                PREFIX + USAGE_EVENTS, rules, bootstrap_servers=bench.broker.bootstrap_servers
            )
        )
    return report


def _with_workers(bench: Bench, options: Options) -> list[Row]:
    with _services(bench, options.workers) as services:
        for batch in options.batches:
            bench.saturate(services, batch, options, seconds=options.warmup)
        rounds = [
            [_saturated(bench, services, batch, options) for batch in options.batches]
            for _ in range(options.runs)
        ]
    return [_median(rows) for rows in zip(*rounds, strict=True)]


def _saturated(
    bench: Bench, services: Sequence[PerennialProcess], batch: int, options: Options
) -> Row:
    found, cpu = bench.saturate(services, batch, options, seconds=options.seconds)
    requests = found.acknowledged
    return Row(
        load=f"batches of {batch}",
        workers=len(services),
        connections=_connections(batch, options) * len(services),
        events_per_second=requests * batch / found.seconds,
        requests_per_second=requests / found.seconds,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        events_per_cpu_second=requests * batch / cpu,
        requests_per_cpu_second=requests / cpu,
        cpu_share=cpu / found.seconds,
        not_accepted=float(found.refused + found.errors),
    )


def _steady(bench: Bench, service: PerennialProcess, batch: int, options: Options) -> Row:
    stream = bench.stream(batch)
    before = _cpu([service])
    found = run_steady(
        stream,
        now=bench.now,
        port=service.ports["INGEST_PORT"],
        key=bench.key,
        rate=options.rate,
        seconds=options.seconds,
    )
    cpu = _cpu([service]) - before
    bench.ledger.enter(
        stream, [Sent(thread=THREAD, requests=found.requests, open=frozenset(found.open))]
    )
    requests = found.requests - len(found.open)
    return Row(
        load=f"{options.rate:,.0f} events/s by {batch}",
        workers=1,
        connections=found.connections,
        events_per_second=requests * batch / found.seconds,
        requests_per_second=requests / found.seconds,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        late_p99_ms=found.late_p99_ms,
        events_per_cpu_second=requests * batch / cpu,
        requests_per_cpu_second=requests / cpu,
        cpu_share=cpu / found.seconds,
        not_accepted=float(len(found.open)),
    )


def _limit(bench: Bench, payloads: Sequence[bytes], options: Options) -> Limit:
    return measure_limit(
        bench.folder,
        payloads,
        bootstrap_servers=bench.broker.bootstrap_servers,
        topic=PREFIX + LIMIT_TOPIC,
        records=options.limit_records,
    )


def _profile(
    bench: Bench, services: Sequence[PerennialProcess], batch: int, options: Options
) -> str:
    return profile(
        bench.folder,
        services[0].pid,
        seconds=options.seconds,
        load=lambda: bench.saturate(services, batch, options, seconds=options.seconds + 1),
    )


@contextmanager
def _bench(folder: Path) -> Iterator[Bench]:
    broker = KafkaBroker(folder / "kafka", heap="768m")
    try:
        broker.start()
        asyncio.run(_create_topics(broker))
        now = now_rounded()
        keeper = _service(folder / "keeper", broker)
        yield Bench(
            folder=folder,
            broker=broker,
            key=keeper.run("keys", "create", "--source", SOURCE, "--plain").split()[-1],
            now=now,
            tails=make_tails(now),
            ledger=Ledger(),
            loads=count(1),
        )
    finally:
        broker.stop()


@contextmanager
def _services(bench: Bench, workers: int) -> Iterator[list[PerennialProcess]]:
    services = [
        _service(bench.folder / f"ingest-{workers}-{number}", bench.broker)
        for number in range(workers)
    ]
    try:
        for service in services:
            service.start()
        yield services
    finally:
        for service in services:
            service.stop()


def _service(folder: Path, broker: KafkaBroker) -> PerennialProcess:
    """All that it does in production is on; the rate limit is one that the load stays below."""
    return PerennialProcess(
        folder,
        "--service",
        "ingest",
        KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
        PERENNIAL_TOPIC_PREFIX=PREFIX,
        PERENNIAL_USER_HASH_KEY=USER_KEY,
        PERENNIAL_TESTING="0",
        INGEST_RATE_PER_SECOND="10000000",
        INGEST_RATE_BURST="100000000",
    )


async def _create_topics(broker: KafkaBroker) -> None:
    limit = Topic(name=LIMIT_TOPIC, partitions=PARTITIONS, retention=timedelta(days=7))
    async with open_kafka_log(broker.bootstrap_servers, topic_prefix=PREFIX) as log:
        await log.create_topics([*TOPICS, limit])


async def _payloads(bench: Bench) -> list[bytes]:
    rules = Rules(source=SOURCE, user_key=b"", partitions=PARTITIONS)
    return await first_values(
        PREFIX + USAGE_EVENTS, rules, bootstrap_servers=bench.broker.bootstrap_servers, count=20_000
    )


def _cpu(services: Sequence[PerennialProcess]) -> float:
    return sum(cpu_seconds(service.pid) for service in services)


def _connections(batch: int, options: Options) -> int:
    return options.connections or CONNECTIONS.get(batch, 16)


def _median(rows: Sequence[Row]) -> Row:
    measured = {
        name: statistics.median(getattr(row, name) for row in rows)
        for name, value in asdict(rows[0]).items()
        if isinstance(value, float)
    }
    return replace(rows[0], **measured)


def _median_limit(limits: Sequence[Limit]) -> dict[str, float]:
    values = [asdict(limit) for limit in limits]
    return {name: statistics.median(one[name] for one in values) for name in values[0]}


def _header(options: Options) -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "kafka": kafka_version(),
        **{name: version(name) for name in LIBRARIES},
        "event_bytes": EVENT_BYTES,
        "accounts": ACCOUNTS,
        "seconds": options.seconds,
        "runs": options.runs,
    }


def as_text(report: Report) -> str:
    lines = [" ".join(f"{name}={value}" for name, value in report.header.items()), ""]
    limit = report.limit.get("records_per_cpu_second", 0.0)
    lines.append(
        f"{'load':26} {'proc':>4} {'conn':>4} {'events/s':>9} {'req/s':>7} {'p50 ms':>7}"
        f" {'p99 ms':>7} {'events/CPU-s':>12} {'req/CPU-s':>9} {'of limit':>8} {'cores':>5}"
        f" {'not ok':>6}"
    )
    for row in report.rows:
        share = f"{row.events_per_cpu_second / limit:8.0%}" if limit else " " * 8
        lines.append(
            f"{row.load:26} {row.workers:4} {row.connections:4} {row.events_per_second:9,.0f}"
            f" {row.requests_per_second:7,.0f} {row.p50_ms:7.1f} {row.p99_ms:7.1f}"
            f" {row.events_per_cpu_second:12,.0f} {row.requests_per_cpu_second:9,.0f} {share}"
            f" {row.cpu_share:5.2f} {row.not_accepted:6.0f}"
        )
    if report.limit:
        lines.append(
            f"{'ProducerPerformance':26} {1:4} {'':4} {report.limit['records_per_second']:9,.0f}"
            f" {'':7} {'':7} {'':7} {limit:12,.0f}"
        )
    lines.append("")
    late = max((row.late_p99_ms for row in report.rows), default=0.0)
    lines.append(f"at a fixed rate, the load's own timers were late by (p99): {late:.1f} ms")
    lines.append(
        "memory of one process, MiB: "
        + ", ".join(f"{name[:-4]} {value:.0f}" for name, value in report.memory.items())
    )
    if (audit := report.audit) is not None:
        verdict = "exact" if audit.is_exact else "NOT EXACT"
        lines.append(
            f"log: {verdict}; acknowledged {audit.acknowledged:,}, found {audit.found:,}, missing"
            f" {audit.missing:,}, repeated {audit.repeated:,}, strange {audit.strange:,};"
            f" {audit.compared:,} compared in full"
        )
    for name, table in report.profiles.items():
        lines += ["", f"where the time goes, {name}:", table]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--batches", default="1,10,100,500", help="events a request, comma separated"
    )
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--warmup", type=float, default=3, help="seconds of each load before")
    parser.add_argument("--connections", type=int, help="at saturation; default: by batch")
    parser.add_argument(
        "--rate", type=float, default=5_000, help="events/s of the open loop; 0: none"
    )
    parser.add_argument("--runs", type=int, default=1, help="medians of so many")
    parser.add_argument("--workers", type=int, default=1, help="then again with so many processes")
    parser.add_argument(
        "--limit-records", type=int, default=1_500_000, help="of ProducerPerformance; 0: without"
    )
    parser.add_argument("--profile", action="store_true", help="where the service's time goes")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    chosen = parser.parse_args()
    options = Options(
        batches=tuple(int(batch) for batch in chosen.batches.split(",")),
        seconds=chosen.seconds,
        warmup=chosen.warmup,
        connections=chosen.connections,
        rate=chosen.rate,
        runs=chosen.runs,
        workers=chosen.workers,
        limit_records=chosen.limit_records,
        profiles=chosen.profile,
    )
    try:
        check_wrk()
    except WrkFailed as error:
        parser.exit(2, f"{error}\n")
    if missing := kafka_missing() or (profiler_missing() if options.profiles else None):
        parser.exit(2, f"{missing}\n")
    logs.configure(level="warning", form="console")
    report = measure(options)
    sys.stdout.write((json.dumps(asdict(report)) if chosen.json else as_text(report)) + "\n")
    sys.exit(0 if report.audit is not None and report.audit.is_exact else 1)


if __name__ == "__main__":
    main()
