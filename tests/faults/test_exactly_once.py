"""Scoring killed with -9 while it takes events in, on real Kafka: none lost, none counted twice.

60,000 events, 3 % of them sent again later under the same id, 6 partitions, 2 scoring processes.
The mutation checks switch a safeguard off and must see the damage: else this test proves nothing.
How often: `make faults` runs every seed; a test run takes the first ones (FAULT_SEEDS).
"""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from shared.log import Appended, Log, LogUnavailable, Record
from shared.log.kafka import open_kafka_log
from shared.log.topics import TOPICS
from shared.messages import USAGE_EVENTS, UsageEvent, encode
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer
from tests.processes import PerennialProcess
from tests.recount import Stored, read_stored, recounted

EVENTS = int(os.environ.get("FAULT_EVENTS", "60000"))
SEEDS = range(int(os.environ.get("FAULT_SEEDS", "1")))
MUTATIONS = os.environ.get("FAULT_MUTATIONS", "1") == "1"
RETRIED = 0.03
ACCOUNTS = 200
A_QUARTER = timedelta(minutes=15)
PARTITIONS = 6
SESSION_SECONDS = 3
CHUNK = 500
FREEZE = "scoring.before_transaction:freeze:every=30"

_VARIED: Sequence[tuple[str, dict[str, object]]] = (
    ("login", {}),
    ("session_end", {"duration_seconds": 61.5}),
    ("feature_used", {"feature": "export"}),
    ("feature_used", {"feature": "search"}),
    ("payment_failed", {}),
    ("support_ticket", {"ticket_id": "T-1", "severity": "high"}),
    ("feedback", {"scale": "nps", "score": 9}),
    ("group", {}),
    ("identify", {}),
)

AccountDays = Counter[tuple[str, str]]


@dataclass(slots=True)
class Load:
    """What is sent: the plan is made before, and is what the day buckets must say after."""

    seed: int
    events: int = EVENTS
    varied: bool = False
    """Of several types: every bucket has something to lose."""
    made: list[UsageEvent] = field(default_factory=list)
    expected: AccountDays = field(default_factory=Counter)

    def records(self) -> list[Record]:
        """All events in the order of sending, the retries some way behind their first try."""
        choose = random.Random(self.seed)
        now = datetime.now(UTC)
        placed: list[tuple[float, Record]] = []
        for number in range(self.events):
            day = now - timedelta(days=choose.randrange(28))
            # Skewed, as customers are: a few accounts have most of the use.
            account = f"account-{int(ACCOUNTS * choose.random() ** 2):03}"
            kind, properties = choose.choice(_VARIED) if self.varied else ("login", {})
            event = UsageEvent(
                id=f"{self.seed}-{number}",
                source=choose.choice(("app", "web")),
                account=account,
                user=f"u1:{choose.randrange(50):032x}",
                type=kind,
                properties=properties,
                occurred_at=day,
                client_at=day,
                received_at=now,
            )
            self.expected[account, day.date().isoformat()] += 1
            self.made.append(event)
            record = Record(key=account.encode(), value=encode(event))
            placed.append((number, record))
            if choose.random() < RETRIED:
                placed.append((number + choose.uniform(0, 5_000), record))
        return [record for _, record in sorted(placed, key=lambda one: one[0])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Two scoring processes over one Kafka topic and one database."""

    log: Log
    database_url: str
    workers: Sequence[PerennialProcess]

    async def counted(self) -> AccountDays:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows = await connection.fetch("SELECT account_id, day, events FROM scoring.account_day")
        finally:
            await connection.close()
        return Counter({(row[0], row[1].isoformat()): row[2] for row in rows})

    async def stored(self) -> Stored:
        connection = await asyncpg.connect(self.database_url)
        try:
            return await read_stored(connection)
        finally:
            await connection.close()

    async def positions(self) -> int:
        connection = await asyncpg.connect(self.database_url)
        try:
            return int(
                await connection.fetchval(
                    "SELECT coalesce(sum(next_offset), 0) FROM scoring.log_positions"
                    " WHERE topic = $1",
                    USAGE_EVENTS,
                )
            )
        finally:
            await connection.close()


@asynccontextmanager
async def scoring_stack(
    broker: KafkaBroker, database_server: DatabaseServer, folder: Path, **environment: str
) -> AsyncIterator[Stack]:
    prefix = f"{folder.name}-{random.randrange(1 << 30):x}."
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(database_server.copy_of_template())
        log = await stack.enter_async_context(
            open_kafka_log(bootstrap_servers=broker.bootstrap_servers, topic_prefix=prefix)
        )
        topics = [
            topic if topic.name != USAGE_EVENTS else type(topic)(
                name=topic.name, partitions=PARTITIONS, retention=topic.retention
            )
            for topic in TOPICS
        ]  # fmt: skip
        await log.create_topics(topics)
        workers = [
            PerennialProcess(
                folder / f"scoring-{number}",
                "--service",
                "scoring",
                KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
                KAFKA_SESSION_TIMEOUT_MS=str(SESSION_SECONDS * 1000),
                PERENNIAL_TOPIC_PREFIX=prefix,
                DATABASE_URL=database_url,
                PERENNIAL_INTAKE_BATCH="200",
                **environment,
            )
            for number in range(2)
        ]
        for worker in workers:
            stack.callback(worker.stop)
        for worker in workers:
            await asyncio.to_thread(worker.start)
        yield Stack(log=log, database_url=database_url, workers=workers)


async def send(log: Log, records: Sequence[Record], *, seconds: float) -> int:
    """Send everything over about `seconds`; what is not known to be stored is sent again."""
    stored = 0
    pause = seconds / (len(records) / CHUNK)
    for start in range(0, len(records), CHUNK):
        waiting = list(records[start : start + CHUNK])
        while waiting:
            try:
                states = await log.append(USAGE_EVENTS, waiting, deadline=timedelta(seconds=10))
            except LogUnavailable:
                await asyncio.sleep(0.2)
                continue
            stored += sum(state is Appended.DURABLE for state in states)
            waiting = [
                record
                for record, state in zip(waiting, states, strict=True)
                if state is not Appended.DURABLE
            ]
        await asyncio.sleep(pause)
    return stored


async def drained(stack: Stack, stored: int, *, seconds: float = 180) -> None:
    """Wait until every stored record has been passed, however it was counted."""
    async with asyncio.timeout(seconds):
        while await stack.positions() < stored:  # noqa: ASYNC110 - PostgreSQL tells no event
            await asyncio.sleep(0.2)


async def kill_at_random(stack: Stack, choose: random.Random, sending: asyncio.Event) -> int:
    """Kill one of the two again and again until the sending has ended; says how often."""
    kills = 0
    while not sending.is_set():
        await asyncio.sleep(choose.uniform(0.5, 2.5))
        victim = choose.choice(stack.workers)
        await asyncio.to_thread(victim.kill9)
        kills += 1
        await asyncio.to_thread(victim.start)
    return kills


async def thaw_late(stack: Stack, ended: asyncio.Event) -> int:
    """Continue whoever froze with a batch in hand, when the other has taken its partitions over.

    The worker froze itself by a failpoint, between the fetch and the transaction: the moment that
    the fence is for. Longer than its session, so the group has forgotten it. Says how often.
    """
    freezes = 0
    while not ended.is_set():
        await asyncio.sleep(0.05)
        for worker in stack.workers:
            if worker.is_frozen():
                await asyncio.sleep(SESSION_SECONDS * 2)
                worker.thaw()
                freezes += 1
    return freezes


def lost_and_double(expected: AccountDays, counted: AccountDays) -> tuple[int, int]:
    return (expected - counted).total(), (counted - expected).total()


@pytest.mark.parametrize("seed", SEEDS)
async def test_kill_9_at_random_moments_loses_nothing_and_counts_nothing_twice(
    kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path, seed: int
) -> None:
    load, choose = Load(seed, varied=True), random.Random(seed)
    async with scoring_stack(kafka_broker, database_server, tmp_path) as stack:
        ended = asyncio.Event()
        killer = asyncio.create_task(kill_at_random(stack, choose, ended))
        stored = await send(stack.log, load.records(), seconds=20)
        ended.set()
        kills = await killer
        await drained(stack, stored)
        assert kills >= 3
        found, expected = await stack.stored(), recounted(load.made)
        # Users, features, sources and seconds too; then what is no use; then who sent when.
        assert found.days == expected.days
        assert found.signals == expected.signals
        assert found.received == expected.received
        assert found.memberships == expected.memberships
        assert found.group_calls == expected.group_calls
        assert all(timedelta(0) <= late < A_QUARTER for late in found.behind(expected))
        assert sum(worker.metric("perennial_events_total") for worker in stack.workers) > 0
    # For `make faults`: the figures of each seed.
    sys.stderr.write(f"\nseed {seed}: {stored} records, {kills} kills, 0 lost, 0 double\n")


async def test_a_worker_that_comes_back_after_its_session_is_fenced(
    kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path
) -> None:
    load, ended = Load(7, events=10_000), asyncio.Event()
    async with scoring_stack(
        kafka_broker, database_server, tmp_path, PERENNIAL_FAILPOINT=FREEZE
    ) as stack:
        thawing = asyncio.create_task(thaw_late(stack, ended))
        stored = await send(stack.log, load.records(), seconds=4)
        await drained(stack, stored)
        ended.set()
        assert await thawing >= 1
        assert lost_and_double(load.expected, await stack.counted()) == (0, 0)
        async with asyncio.timeout(30):
            while not sum(  # noqa: ASYNC110 - the thawed worker finds out in its own time
                one.metric("perennial_log_fenced_batches_total") for one in stack.workers
            ):
                await asyncio.sleep(0.2)


@pytest.mark.skipif(not MUTATIONS, reason="mutation checks are switched off (FAULT_MUTATIONS=0)")
class TestTheTestCanFail:
    """Without a safeguard the damage shows."""

    async def test_without_dedupe_retries_count_twice(
        self, kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path
    ) -> None:
        load = Load(1, events=5_000)
        async with scoring_stack(
            kafka_broker, database_server, tmp_path, PERENNIAL_SWITCHED_OFF="dedupe"
        ) as stack:
            stored = await send(stack.log, load.records(), seconds=1)
            await drained(stack, stored)
            lost, double = lost_and_double(load.expected, await stack.counted())
        # Every retry counts: 3 % of 5,000, give or take.
        assert lost == 0
        assert double == stored - 5_000 > 50

    async def test_without_dedupe_and_fence_a_frozen_worker_counts_twice(
        self, kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path
    ) -> None:
        load = Load(2, events=10_000)
        async with scoring_stack(
            kafka_broker,
            database_server,
            tmp_path,
            PERENNIAL_SWITCHED_OFF="dedupe,fence",
            PERENNIAL_FAILPOINT=FREEZE,
        ) as stack:

            async def counts_twice(stored: int) -> bool:
                _, double = lost_and_double(load.expected, await stack.counted())
                return double > stored - load.events  # more than was sent twice

            await self._freeze_until(stack, load, counts_twice)

    async def test_without_the_fence_alone_its_counter_tells(
        self, kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path
    ) -> None:
        load = Load(3, events=10_000)
        async with scoring_stack(
            kafka_broker,
            database_server,
            tmp_path,
            PERENNIAL_SWITCHED_OFF="fence",
            PERENNIAL_FAILPOINT=FREEZE,
        ) as stack:

            async def misses(_stored: int) -> bool:
                missed = [w.metric("perennial_fence_missed_total") for w in stack.workers]
                return sum(missed) > 0

            await self._freeze_until(stack, load, misses)
            _, double = lost_and_double(load.expected, await stack.counted())
        assert double == 0, "the ids still keep every event from counting twice"

    async def _freeze_until(
        self, stack: Stack, load: Load, is_seen: Callable[[int], Awaitable[bool]]
    ) -> None:
        """Let workers freeze while they take in, until the damage is seen."""
        ended = asyncio.Event()
        thawing = asyncio.create_task(thaw_late(stack, ended))
        stored = await send(stack.log, load.records(), seconds=4)
        try:
            async with asyncio.timeout(90):
                while not await is_seen(stored):  # noqa: ASYNC110 - PostgreSQL tells no event
                    await asyncio.sleep(0.2)
        finally:
            ended.set()
            await thawing
