"""Intake on real Kafka and real PostgreSQL, in this process: dedupe and every bucket on.

Beside it, of the same records in the same run: draining the topic without a handler, and decoding.
"""

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.activity import user_key
from services.scoring.intake import Intake
from services.scoring.metrics import ScoringMetrics
from services.scoring.partitions import Partitions
from shared.clock import system_clock
from shared.database import open_engine
from shared.errors import InvalidMessage
from shared.lifecycle import new_frame
from shared.log import Appended, Batch, Log, TopicPartition
from shared.log.kafka import open_kafka_log
from shared.log.positions import Claim
from shared.log.topics import TOPICS
from shared.log.worker import Worker
from shared.messages import USAGE_EVENTS, UsageEvent, decode
from tests.benchmarks.ingest_figures import cpu_seconds, family_seconds
from tests.benchmarks.scoring_load import Load
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer

_GIVE_UP_SECONDS = 900
_SAMPLE = 5_000


class Wrong(Exception):
    """The tables do not say what plain Python says."""


@dataclass(slots=True)
class Spent:
    """Wall and CPU seconds of this process and of the others, while a part of the run took."""

    wall: float = 0.0
    client: float = 0.0
    postgres: float = 0.0
    kafka: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is measured, and on what."""

    server: DatabaseServer
    broker: KafkaBroker
    postmaster: int
    load: Load
    batch: int
    concurrency: int


async def measure_intake(run: Run) -> dict[str, object]:
    load = run.load
    prefix = f"bench-{random.randrange(1 << 30):x}."
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(run.server.copy_of_template())
        log = await stack.enter_async_context(
            open_kafka_log(bootstrap_servers=run.broker.bootstrap_servers, topic_prefix=prefix)
        )
        await log.create_topics(TOPICS)
        for chunk in load.chunks():
            states = await log.append(USAGE_EVENTS, chunk, deadline=timedelta(minutes=1))
            if set(states) != {Appended.DURABLE}:
                raise Wrong("Kafka did not take the events")
        engine = await stack.enter_async_context(open_engine(url, application="benchmark"))
        # As `services/process.py` does once a process is ready.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        drained, values = await _drain(log, run)
        taken, batches = await _take_in(log, engine, run)
        await verify(url, load)
    per, decoding = 1e6 / load.sent, decoding_us(values)
    return {
        "events": load.sent,
        "records_per_batch": round(load.sent / batches),
        "concurrency": run.concurrency,
        "correct": True,
        "events_per_second": round(load.sent / taken.wall),
        "client_cpu_us": round(taken.client * per, 2),
        "postgres_cpu_us": round(taken.postgres * per, 2),
        "kafka_cpu_us": round(taken.kafka * per, 2),
        "drain_events_per_second": round(load.sent / drained.wall),
        "drain_client_cpu_us": round(drained.client * per, 2),
        "decode_cpu_us": round(decoding, 2),
        "client_ratio_to_drain_and_decode": round(
            taken.client * per / (drained.client * per + decoding), 2
        ),
    }


async def _drain(log: Log, run: Run) -> tuple[Spent, list[bytes]]:
    """What it takes to read the topic and do nothing; some of the values."""
    spent, left = Spent(), run.load.sent
    values: list[bytes] = []
    async with log.consume([USAGE_EVENTS], group="drain") as consumer:
        while not values:
            for batch in await consumer.fetch(max_records=_SAMPLE, wait=timedelta(seconds=1)):
                values += [record.value or b"" for record in batch.records]
        left -= len(values)
        with _measured(spent, run):
            while left:
                batches = await consumer.fetch(max_records=run.batch, wait=timedelta(seconds=1))
                left -= sum(len(batch.records) for batch in batches)
    return spent, values


class _Counted:
    """The handler, and when it has taken in everything."""

    def __init__(self, intake: Intake, records: int) -> None:
        self._intake = intake
        self._left = records
        self.batches = 0
        self.done = asyncio.Event()

    async def positions(self) -> Mapping[TopicPartition, int]:
        return await self._intake.positions()

    async def claim(self, partition: TopicPartition) -> Claim:
        return await self._intake.claim(partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        await self._intake.take_in(batch, held)
        self.batches += 1
        self._left -= len(batch.records)
        if not self._left:
            self.done.set()

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        raise Wrong(f"{batch.first} of {held} was rejected") from error


async def _take_in(log: Log, engine: AsyncEngine, run: Run) -> tuple[Spent, int]:
    """What it took, and the number of batches."""
    frame, spent, stop = new_frame(), Spent(), asyncio.Event()
    intake = Intake(
        engine=engine,
        partitions=Partitions(engine, kept=timedelta(days=60)),
        metrics=ScoringMetrics(frame.registry, frame.metrics),
        clock=system_clock,
    )
    handler = _Counted(intake, run.load.sent)
    async with log.consume([USAGE_EVENTS], group="benchmark") as consumer:
        worker = Worker(
            service="scoring",
            consumer=consumer,
            handler=handler,
            frame=frame,
            loop=frame.loop("scoring", "intake"),
            max_records=run.batch,
            concurrency=run.concurrency,
        )
        async with asyncio.timeout(10):
            while not consumer.assignment():  # noqa: ASYNC110 - the group tells no event
                await asyncio.sleep(0.01)
        with _measured(spent, run):
            working = asyncio.create_task(worker.run(stop))
            done = asyncio.create_task(handler.done.wait())
            await asyncio.wait(
                {working, done},
                timeout=_GIVE_UP_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        stop.set()
        done.cancel()
        await working
    return spent, handler.batches


@contextmanager
def _measured(spent: Spent, run: Run) -> Iterator[None]:
    wall, client = time.perf_counter(), time.process_time()
    postgres, kafka = family_seconds(run.postmaster), cpu_seconds(run.broker.pid)
    yield
    spent.wall = time.perf_counter() - wall
    spent.client = time.process_time() - client
    spent.postgres = family_seconds(run.postmaster) - postgres
    spent.kafka = cpu_seconds(run.broker.pid) - kafka


def postmaster_of(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])


async def verify(url: str, load: Load) -> None:
    """Raises Wrong where a table says anything but what plain Python counted."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT account_id, day::text, events, milliseconds, userless, users, features,"
            " sources, first_received_at FROM scoring.account_day"
        )
        signals = await connection.fetch(
            "SELECT account_id, occurred_at, kind, user_key, subject, value, received_at"
            " FROM scoring.signals"
        )
        hours = await connection.fetch(
            "SELECT source, hour, sum(events)::bigint FROM scoring.source_hours GROUP BY 1, 2"
        )
    finally:
        await connection.close()
    stored = {
        (row[0], row[1]): (*row[2:5], set(row[5]), set(row[6]), set(row[7]), row[8]) for row in rows
    }
    expected = {
        key: (
            bucket.events,
            bucket.milliseconds,
            bucket.userless,
            {user_key(user) for user in bucket.users},
            bucket.features,
            bucket.sources,
            bucket.first_received_at,
        )
        for key, bucket in load.days.items()
    }
    if stored != expected:
        wrong = sum(stored.get(key) != one for key, one in expected.items())
        raise Wrong(f"{wrong} of {len(expected)} account-days differ, {len(stored)} are stored")
    differing = Counter(map(tuple, signals))
    differing.subtract(load.signals)
    if any(differing.values()):
        raise Wrong(f"{sum(map(abs, differing.values()))} of {len(load.signals)} signals differ")
    if {(row[0], row[1]): row[2] for row in hours} != load.hours:
        raise Wrong("the sources' hours differ")


def decoding_us(values: list[bytes]) -> float:
    """CPU of decoding a record's value, and nothing else."""
    started = time.process_time()
    for value in values:
        decode(UsageEvent, value)
    return (time.process_time() - started) / len(values) * 1e6
