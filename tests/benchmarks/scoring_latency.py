"""From an event's arrival to its flag on the log, at a steady load.

Scoring runs in a process of its own, composed as in production, on 10,000 accounts with a year of
use. An open loop appends 5,000 events a second, whatever became of those before; every second some
ask to leave, each for an account that had not. Latency counts from when the event was due to be
sent, so a producer that falls behind makes the figures worse, not better.
"""

import asyncio
import gc
import math
import multiprocessing
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from multiprocessing.connection import Connection
from typing import Final

import asyncpg
import msgspec
import uvloop

from services.scoring import app
from services.scoring.settings import ScoringSettings
from shared.lifecycle import new_frame
from shared.log import Appended, Log, Record
from shared.log.kafka import open_kafka_log
from shared.log.topics import TOPICS
from shared.messages import FLAGS, USAGE_EVENTS, FlagEvent, FlagReason, UsageEvent, encode
from tests.benchmarks import scoring_accounts
from tests.benchmarks.ingest_figures import cpu_seconds
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer

TARGET_SECONDS: Final = 2.0
_SLOT_SECONDS: Final = 0.02
_ASKING_PER_SECOND: Final = 10
_WARM_UP_SECONDS: Final = 5
_SCORED_WITHIN: Final = timedelta(minutes=3)
_FLAGGED_WITHIN: Final = timedelta(seconds=60)
_SCORED: Final = "perennial_event_to_score_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What is measured, and on what."""

    server: DatabaseServer
    broker: KafkaBroker
    accounts: int
    rate: int
    seconds: int


@dataclass(slots=True)
class Asked:
    """Accounts that asked to leave: when, and when the flag was seen."""

    due: dict[str, datetime] = field(default_factory=dict)
    seen: dict[str, datetime] = field(default_factory=dict)
    late_slots: int = 0
    """Slots that the producer began more than their own length late."""

    def latencies(self) -> list[float]:
        return sorted(
            (self.seen[name] - due).total_seconds()
            for name, due in self.due.items()
            if name in self.seen
        )


async def measure_latency(steady: Steady) -> dict[str, object]:
    prefix = f"bench-{random.randrange(1 << 30):x}."
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(steady.server.copy_of_template())
        log = await stack.enter_async_context(
            open_kafka_log(bootstrap_servers=steady.broker.bootstrap_servers, topic_prefix=prefix)
        )
        await log.create_topics(TOPICS)
        connection = await asyncpg.connect(url)
        stack.push_async_callback(connection.close)
        await scoring_accounts.write(connection, steady.accounts, today=datetime.now(UTC).date())
        scoring = await stack.enter_async_context(
            _scoring(url, steady.broker.bootstrap_servers, prefix)
        )
        await _until_scored(connection, steady.accounts)
        names = await _active(connection)
        asked = Asked()
        watching = asyncio.create_task(_watch(log, asked))
        await _send(log, Asked(), [], steady, seconds=_WARM_UP_SECONDS)
        before, spent = await scoring.histogram(), cpu_seconds(scoring.pid)
        await _send(log, asked, names, steady, seconds=steady.seconds)
        spent = cpu_seconds(scoring.pid) - spent
        await _until_seen(asked)
        after = await scoring.histogram()
        watching.cancel()
    latencies = asked.latencies()
    return {
        "accounts": steady.accounts,
        "events_per_second": steady.rate,
        "seconds": steady.seconds,
        "asked": len(asked.due),
        "flagged": len(latencies),
        "event_to_flag_p50_seconds": round(_quantile(latencies, 0.5), 3),
        "event_to_flag_p99_seconds": round(_quantile(latencies, 0.99), 3),
        "event_to_flag_max_seconds": round(latencies[-1], 3),
        "within_target": len(latencies) == len(asked.due)
        and _quantile(latencies, 0.99) <= TARGET_SECONDS,
        "event_to_score_p99_at_most_seconds": _bucket(before, after, 0.99),
        "scoring_cpu_cores": round(spent / steady.seconds, 2),
        "late_slots": asked.late_slots,
    }


async def _send(
    log: Log, asked: Asked, leaving: Sequence[str], steady: Steady, *, seconds: int
) -> None:
    """Append what is due, slot by slot, without waiting for the answers."""
    load = _Events(steady.accounts)
    loop, begin = asyncio.get_running_loop(), datetime.now(UTC)
    started = loop.time()
    per_slot, slots = round(steady.rate * _SLOT_SECONDS), round(seconds / _SLOT_SECONDS)
    every = round(1 / _SLOT_SECONDS / _ASKING_PER_SECOND)
    waiting = iter(leaving)
    async with asyncio.TaskGroup() as appends:
        for slot in range(slots):
            ahead = started + slot * _SLOT_SECONDS - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            asked.late_slots += ahead < -_SLOT_SECONDS
            due = begin + timedelta(seconds=slot * _SLOT_SECONDS)
            records = [load.usage(due) for _ in range(per_slot)]
            if leaving and slot % every == 0:
                name = next(waiting)
                asked.due[name] = due
                records[0] = load.asking(name, due)
            appends.create_task(_append(log, records))


async def _append(log: Log, records: Sequence[Record]) -> None:
    states = await log.append(USAGE_EVENTS, records, deadline=timedelta(seconds=30))
    if set(states) != {Appended.DURABLE}:
        raise RuntimeError("Kafka did not take the events")


class _Events:
    """Use of accounts, zipf-like, and requests to leave."""

    def __init__(self, accounts: int) -> None:
        self._choose = random.Random(accounts)
        self._ranks = range(accounts)
        self._weights = list(accumulate(1 / (rank + 10) for rank in self._ranks))
        self._run = f"{time.time_ns():x}"
        self._count = 0

    def usage(self, moment: datetime) -> Record:
        (rank,) = self._choose.choices(self._ranks, cum_weights=self._weights)
        feature = f"feature-{self._choose.randrange(30)}"
        return self._record(_name(rank), "feature_used", moment, {"feature": feature})

    def asking(self, account: str, moment: datetime) -> Record:
        return self._record(account, "cancellation_requested", moment, {"reason": "price"})

    def _record(
        self, account: str, kind: str, moment: datetime, properties: Mapping[str, object]
    ) -> Record:
        self._count += 1
        event = UsageEvent(
            id=f"{self._run}-{self._count}",
            source="web",
            account=account,
            user=f"u1:{self._choose.randrange(20):032x}",
            type=kind,
            occurred_at=moment,
            client_at=moment,
            received_at=moment,
            properties=properties,
        )
        return Record(key=account.encode(), value=encode(event))


def _name(number: int) -> str:
    return f"account-{number:07}"


async def _watch(log: Log, asked: Asked) -> None:
    """Note when each account's flag is first read from the log, for ever."""
    read = msgspec.json.Decoder(FlagEvent).decode
    async with log.follow(FLAGS) as consumer:
        while True:
            for batch in await consumer.fetch(max_records=1_000, wait=timedelta(seconds=1)):
                now = datetime.now(UTC)
                for record in batch.records:
                    flag = read(record.value or b"").data
                    if flag.reason is FlagReason.CANCELLATION_INTENT and flag.change == "raised":
                        asked.seen.setdefault(flag.account, now)


async def _until_seen(asked: Asked) -> None:
    """Or until what is missing will not come any more; the figures then say so."""
    ends = time.monotonic() + _FLAGGED_WITHIN.total_seconds()
    while asked.due.keys() - asked.seen.keys() and time.monotonic() < ends:  # noqa: ASYNC110 - for the end
        await asyncio.sleep(0.1)


async def _until_scored(connection: asyncpg.Connection, accounts: int) -> None:
    """Raises TimeoutError where the accounts' first scores do not come."""
    async with asyncio.timeout(_SCORED_WITHIN.total_seconds()):
        while await connection.fetchval(  # noqa: ASYNC110 - the database tells no event
            "SELECT (SELECT count(*) FROM scoring.scores) < $1"
            " OR EXISTS (SELECT FROM scoring.dirty)",
            accounts,
        ):
            await asyncio.sleep(0.2)


async def _active(connection: asyncpg.Connection) -> list[str]:
    """Accounts with use in the last four weeks, in one random order."""
    rows = await connection.fetch(
        "SELECT DISTINCT account_id FROM scoring.account_day WHERE day > current_date - 28"
        " ORDER BY account_id"
    )
    names = [row[0] for row in rows]
    random.Random(1).shuffle(names)
    return names


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; NaN of none."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan


Histogram = Mapping[float, float]
"""Observations up to each bucket's limit."""


def _bucket(before: Histogram, after: Histogram, share: float) -> float:
    """The limit of the bucket in which the quantile lies."""
    counts = {limit: count - before.get(limit, 0.0) for limit, count in sorted(after.items())}
    wanted = share * counts[math.inf]
    return next(limit for limit, count in counts.items() if count >= wanted)


class _Scoring:
    """The other process, by its pipe."""

    def __init__(self, pid: int, pipe: Connection) -> None:
        self.pid = pid
        self._pipe = pipe

    async def histogram(self) -> Histogram:
        self._pipe.send("histogram")
        found: Histogram = await asyncio.to_thread(self._pipe.recv)
        return found


@asynccontextmanager
async def _scoring(url: str, bootstrap: str, prefix: str) -> AsyncIterator[_Scoring]:
    spawning = multiprocessing.get_context("spawn")
    pipe, theirs = spawning.Pipe()
    process = spawning.Process(target=_run_scoring, args=(url, bootstrap, prefix, theirs))
    process.start()
    try:
        yield _Scoring(process.pid or 0, pipe)
    finally:
        pipe.send("stop")
        await asyncio.to_thread(process.join, 60)
        process.kill()


def _run_scoring(url: str, bootstrap: str, prefix: str, pipe: Connection) -> None:
    uvloop.run(_scoring_until_told(url, bootstrap, prefix, pipe))


async def _scoring_until_told(url: str, bootstrap: str, prefix: str, pipe: Connection) -> None:
    frame, stop = new_frame(), asyncio.Event()
    # The defaults, whatever this machine's environment says.
    settings = ScoringSettings.model_construct(scoring_port=0, perennial_retrain="off")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    async with open_kafka_log(bootstrap_servers=bootstrap, topic_prefix=prefix) as log:
        running = asyncio.create_task(
            app.run(settings, log=log, database_url=url, frame=frame, stop=stop)
        )
        while await asyncio.to_thread(pipe.recv) == "histogram":
            pipe.send(
                {
                    float(sample.labels["le"]): sample.value
                    for metric in frame.registry.collect()
                    if metric.name == _SCORED
                    for sample in metric.samples
                    if sample.name.endswith("_bucket")
                }
            )
        stop.set()
        await running
