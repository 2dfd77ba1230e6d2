"""A handler that writes down what it takes in; no key keeps a double out, so one would show."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import is_away
from shared.errors import InvalidMessage
from shared.lifecycle import new_frame
from shared.log import Batch, Consumer, TopicPartition, positions
from shared.log.positions import Claim, positions_table
from shared.log.worker import Worker
from shared.watchdog import Loop
from tests.contract.log.reading import GIVE_UP_SECONDS

_metadata = MetaData()
log_positions = positions_table(_metadata)
taken = Table(
    "taken",
    _metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    CheckConstraint("number >= 0", name="not_negative"),
)
set_aside = Table(
    "set_aside",
    _metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
)

Disturbance = Callable[[AsyncConnection, Batch], Awaitable[None]]


async def _nothing(_connection: AsyncConnection, _batch: Batch) -> None:
    pass


class Ledger:
    """Implements `shared.log.worker.Handler`: a record's value must be a number, not negative."""

    def __init__(self, engine: AsyncEngine, application: str) -> None:
        self.engine = engine
        self.application = application
        self.claims: list[Claim] = []
        self.tries: list[tuple[int, int]] = []
        """First and next offset of each batch that the worker offered."""
        self.before_claim: Callable[[AsyncConnection], Awaitable[None]] | None = None
        self.in_transaction: Disturbance = _nothing
        """Runs as the last of a `take_in`, before its commit."""
        self.after_commit: Disturbance = _nothing
        self.setting_aside: Disturbance = _nothing

    async def create_tables(self) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(_metadata.create_all)

    async def positions(self) -> Mapping[TopicPartition, int]:
        async with self.engine.connect() as connection:
            return await positions.read(connection, log_positions)

    async def claim(self, partition: TopicPartition) -> Claim:
        async with self.engine.begin() as connection:
            if self.before_claim is not None:
                await self.before_claim(connection)
            claim = await positions.claim(connection, log_positions, partition)
        self.claims.append(claim)
        return claim

    async def take_in(self, batch: Batch, held: Claim) -> None:
        self.tries.append((batch.first, batch.next))
        async with self.engine.begin() as connection:
            await positions.advance(connection, log_positions, batch, held)
            rows = [
                {
                    "partition": batch.partition.partition,
                    "offset": record.offset,
                    "number": _number(record.value),
                }
                for record in batch.records
            ]
            await connection.execute(taken.insert(), rows)
            await self.in_transaction(connection, batch)
        await self.after_commit(connection, batch)

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        [record] = batch.records
        async with self.engine.begin() as connection:
            await positions.advance(connection, log_positions, batch, held)
            row = {
                "partition": batch.partition.partition,
                "offset": record.offset,
                "code": error.code,
            }
            await connection.execute(set_aside.insert(), row)
            await self.setting_aside(connection, batch)

    async def numbers(self) -> list[int]:
        """What was taken in, in the order in which it was."""
        async with self.engine.connect() as connection:
            return list(await connection.scalars(select(taken.c.number).order_by(taken.c.id)))

    async def count(self) -> int:
        async with self.engine.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(taken)) or 0

    async def aside(self) -> list[tuple[int, str]]:
        """Offset and code of what was set aside, in order."""
        async with self.engine.connect() as connection:
            query = select(set_aside.c.offset, set_aside.c.code).order_by(set_aside.c.id)
            return [(row.offset, row.code) for row in await connection.execute(query)]

    async def position(self, partition: TopicPartition) -> int:
        async with self.engine.connect() as connection:
            return (await positions.read(connection, log_positions))[partition]

    async def set_position(self, partition: TopicPartition, next_offset: int) -> None:
        """As an earlier owner has left it."""
        row = {**partition._asdict(), "next_offset": next_offset, "epoch": 7}
        async with self.engine.begin() as connection:
            await connection.execute(log_positions.insert(), row)

    async def restore_to(self, stored: Mapping[TopicPartition, int]) -> None:
        """As a backup has the positions; what was taken in stays, so that a second time shows."""
        async with self.engine.begin() as connection:
            await connection.execute(log_positions.delete())
        for partition, next_offset in stored.items():
            await self.set_position(partition, next_offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """A worker under way."""

    task: asyncio.Task[None]
    stop: asyncio.Event
    loop: Loop
    registry: CollectorRegistry

    def metric(self, name: str, topic: str, **labels: str) -> float:
        wanted = {"service": "test", "topic": topic, **labels}
        return self.registry.get_sample_value(f"perennial_{name}", wanted) or 0.0

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for what the worker brings about; raises the worker's error where it has ended."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while not await _holds(holds):
                if self.task.done():
                    await self.task
                    raise AssertionError("the worker ended")
                await asyncio.sleep(0.02)

    async def until_taken(self, ledger: Ledger, count: int) -> None:
        async def enough() -> bool:
            return await ledger.count() >= count

        await self.until(enough)


@asynccontextmanager
async def working(
    consumer: Consumer, ledger: Ledger, *, max_records: int = 10, concurrency: int = 1
) -> AsyncIterator[Working]:
    """Run a worker; leaving stops it, as a service does, and waits for the batch in hand."""
    frame, stop = new_frame(), asyncio.Event()
    loop = frame.loop("test", "worker")
    worker = Worker(
        service="test",
        consumer=consumer,
        handler=ledger,
        frame=frame,
        loop=loop,
        max_records=max_records,
        concurrency=concurrency,
        jitter=lambda: 0.1,
    )
    task = asyncio.create_task(worker.run(stop))
    try:
        yield Working(task=task, stop=stop, loop=loop, registry=frame.registry)
    finally:
        stop.set()
        done, _ = await asyncio.wait({task}, timeout=GIVE_UP_SECONDS)
        task.cancel()
        assert done, "the worker did not stop"
    if not task.cancelled() and task.exception() is not None:
        await task


def once(disturb: Disturbance) -> Disturbance:
    """Disturb the first time only."""
    left = [disturb]

    async def first_only(connection: AsyncConnection, batch: Batch) -> None:
        if left:
            await left.pop()(connection, batch)

    return first_only


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await condition()
    except Exception as error:
        if not is_away(error):
            raise
        return False  # the test has just sent the database away, also from under our question


def _number(value: bytes | None) -> int:
    try:
        return int(value or b"")
    except ValueError as error:
        raise InvalidMessage("not_a_number", "value") from error


def all_once(numbers: Sequence[int], count: int) -> bool:
    return sorted(numbers) == list(range(count))
