"""Scoring killed with -9 at each step of placing, on real Kafka: no event lost, none counted twice,
none under an account that is not its own.

Consultants of three customers each (`consultants.py`), reordered and repeated; two scoring
processes, each of which dies at one step after the other, so that partitions change hands all the
time.
"""

import asyncio
import random
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final

import asyncpg
import pytest

from shared.log import Appended, Log, LogUnavailable, Record
from shared.log.kafka import open_kafka_log
from shared.log.topics import TOPICS
from shared.messages import REJECTED, UNPLACED_EVENTS, USAGE_EVENTS
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer
from tests.e2e.deployments import eventually
from tests.faults.consultants import AccountDay, Bucket, Consultants, Sent, misplaced
from tests.faults.load import IN_FULL
from tests.processes import PerennialProcess

STEPS: Final = (
    "placing.before_append",
    "placing.before_commit",
    "placing.after_commit",
    "waiting.before_append",
    "waiting.before_delete",
    "waiting.after_delete",
    "scoring.after_fetch",
    "scoring.before_transaction",
    "scoring.in_transaction",
    "scoring.after_commit",
)
PARTITIONS: Final = 4
SESSION_SECONDS: Final = 3
SETTLE_SECONDS: Final = 6.0
ROUND_SECONDS: Final = 0.4
LONGEST_SECONDS: Final = 150.0
"""Of the killing."""
_REACHED_SECONDS = 20.0
_TO_STORE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Two scoring processes over one Kafka and one database."""

    log: Log
    database_url: str
    workers: Sequence[PerennialProcess]

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def counted(self) -> dict[AccountDay, Bucket]:
        rows = await self.rows(
            "SELECT account_id, day::text, events, milliseconds, users FROM scoring.account_day"
        )
        return {(row[0], row[1]): Bucket(row[2], row[3], frozenset(row[4])) for row in rows}

    async def is_quiet(self) -> bool:
        """Whether all that the log has is read, and nothing waits."""
        topics = (UNPLACED_EVENTS, USAGE_EVENTS)
        ends = await self.log.ends(topics)
        rows = await self.rows("SELECT topic, partition, next_offset FROM scoring.log_positions")
        stored = {(topic, partition): offset for topic, partition, offset in rows}
        if any(stored.get((*at,), 0) < end for at, end in ends.items()):
            return False
        return not await self.rows("SELECT 1 FROM scoring.waiting_events LIMIT 1")


@asynccontextmanager
async def scoring_stack(
    broker: KafkaBroker, database_server: DatabaseServer, folder: Path, **environment: str
) -> AsyncIterator[Stack]:
    """Not started yet."""
    prefix = f"{folder.name}-{random.randrange(1 << 30):x}."
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(database_server.copy_of_template())
        log = await stack.enter_async_context(
            open_kafka_log(bootstrap_servers=broker.bootstrap_servers, topic_prefix=prefix)
        )
        few = {UNPLACED_EVENTS, USAGE_EVENTS}
        await log.create_topics(
            [
                type(topic)(name=topic.name, partitions=PARTITIONS, retention=topic.retention)
                if topic.name in few
                else topic
                for topic in TOPICS
            ]
        )
        workers = [
            PerennialProcess(
                folder / f"scoring-{number}",
                "--service",
                "scoring",
                **{
                    "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
                    "KAFKA_SESSION_TIMEOUT_MS": str(SESSION_SECONDS * 1000),
                    "PERENNIAL_TOPIC_PREFIX": prefix,
                    "DATABASE_URL": database_url,
                    "PERENNIAL_INTAKE_BATCH": "200",
                    "PERENNIAL_PLACING_SETTLE_SECONDS": str(SETTLE_SECONDS),
                    **environment,
                },
            )
            for number in range(2)
        ]
        for worker in workers:
            stack.callback(worker.stop)
        yield Stack(log=log, database_url=database_url, workers=workers)


async def append(log: Log, sent: Sent) -> None:
    """Everything; what is not known to be stored is sent again."""

    async def to(topic: str, records: Sequence[Record]) -> None:
        while records:
            try:
                states = await log.append(topic, records, deadline=_TO_STORE)
            except LogUnavailable:
                await asyncio.sleep(0.1)
                continue
            records = [
                record
                for record, state in zip(records, states, strict=True)
                if state is not Appended.DURABLE
            ]

    await asyncio.gather(*(to(topic, records) for topic, records in sent.items()))


async def send(log: Log, consultants: Consultants, ended: asyncio.Event) -> float:
    """Round after round until `ended`, then the rest; the longest that a call came after a track
    which it decides about.
    """
    began, longest = [monotonic()], 0.0
    while not ended.is_set() or consultants.has_more:
        sent = consultants.next_round() if not ended.is_set() else consultants.next_round(new=0)
        await append(log, sent)
        longest = max(longest, monotonic() - began[-1 - consultants.early_rounds :][0])
        began.append(monotonic())
        await asyncio.sleep(ROUND_SECONDS)
    return longest


async def die_at_each(worker: PerennialProcess, steps: deque[str], died: list[str]) -> None:
    """Run until killed at the next step, again and again; at the end it runs as ever.

    A step that is not passed by a process that has no work of that kind is another time's turn.
    """
    deadline = monotonic() + LONGEST_SECONDS
    while steps and monotonic() < deadline:
        step = steps.popleft()
        failpoint = f"{step}:kill9:nth=2"
        await asyncio.to_thread(worker.start, wait=False, PERENNIAL_FAILPOINT=failpoint)
        until = monotonic() + _REACHED_SECONDS
        while worker.is_running() and monotonic() < until:  # noqa: ASYNC110 - as its parent waits
            await asyncio.sleep(0.05)
        if worker.is_running():
            steps.append(step)
        else:
            assert worker.is_well(), worker.output()[-3000:]
            died.append(step)
        await asyncio.to_thread(worker.stop)
    await asyncio.to_thread(worker.start)


@pytest.mark.parametrize("seed", range(5 if IN_FULL else 1))
async def test_an_event_without_account_counts_once_for_its_own_whatever_dies_when(
    kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path, seed: int
) -> None:
    consultants, ended, died = Consultants(seed), asyncio.Event(), list[str]()
    steps = deque(random.Random(seed).sample(STEPS, len(STEPS)))
    async with scoring_stack(kafka_broker, database_server, tmp_path) as stack:
        sending = asyncio.create_task(send(stack.log, consultants, ended))
        await asyncio.gather(*(die_at_each(worker, steps, died) for worker in stack.workers))
        ended.set()
        longest = await sending
        assert longest < SETTLE_SECONDS - 1, "this machine sends later than events settle"
        await eventually(stack.is_quiet, seconds=90, every=0.5, what="all is placed and counted")
        lost, wrong, differing = misplaced(consultants.expected, await stack.counted())
        known = await stack.rows("SELECT user_key, account_id FROM scoring.memberships")
        ends = await stack.log.ends([REJECTED])
        for worker in stack.workers:
            assert worker.is_running(), worker.output()[-3000:]
    assert (lost, wrong, differing) == (0, 0, [])
    assert set(known) == consultants.memberships
    assert sum(ends.values()) == 0, "nothing was given up"
    assert sorted(died) == sorted(STEPS), "each step was died at"
    # For `make faults`: the figures of each seed.
    sys.stderr.write(
        f"\nseed {seed}: {consultants.unplaced} events of {consultants.users} consultants,"
        f" {len(died)} kills, calls up to {longest:.1f} s late,"
        " 0 lost, 0 double, 0 under a wrong account\n"
    )


@pytest.mark.long
async def test_without_the_wait_events_go_where_they_do_not_belong(
    kafka_broker: KafkaBroker, database_server: DatabaseServer, tmp_path: Path
) -> None:
    """The test above can fail: who does not wait for what settles places by what is known yet."""
    consultants = Consultants(7, early_rounds=10)
    async with scoring_stack(
        kafka_broker, database_server, tmp_path, PERENNIAL_PLACING_SETTLE_SECONDS="0"
    ) as stack:
        await asyncio.to_thread(stack.workers[0].start)
        sending = asyncio.create_task(send(stack.log, consultants, asyncio.Event()))

        async def is_wrong() -> bool:
            lost, wrong, _ = misplaced(consultants.expected, await stack.counted())
            return wrong > 0 and lost >= wrong

        await eventually(is_wrong, every=0.5, what="an event counts where it does not belong")
        sending.cancel()
