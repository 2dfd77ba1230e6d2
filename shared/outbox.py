"""Messages that leave with a transaction: written as rows, published by a relay, then deleted.

At least once: a relay that dies between the log's acknowledgement and the delete publishes the row
again, with the same event id. One relay at a time holds the advisory lock, so order is kept.

Order of effects: 1 append to the log and wait until durable, 2 delete the rows.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared import database, failpoints, traceparent, tracing
from shared import logging as logs
from shared.clock import Clock, system_clock
from shared.lifecycle import stopped_within
from shared.log import Appended, Log, LogUnavailable, Record
from shared.readings import Reading
from shared.telemetry import CommonMetrics
from shared.watchdog import Loop

_BATCH = 500
_DEADLINE = timedelta(seconds=10)
_IDLE_SECONDS = 0.5
_AWAY_SECONDS = 2.0
_MOST_COUNTED = 100_000

log_ = logs.get(__name__)


def outbox_table(metadata: MetaData) -> Table:
    """The outbox of one service, in its own schema; a queue table, see operations.md."""
    return Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("topic", Text, nullable=False),
        Column("key", LargeBinary, nullable=False),
        Column("value", LargeBinary),
        Column("headers", LargeBinary, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    )


async def put(
    connection: AsyncConnection, table: Table, topic: str, records: Sequence[Record]
) -> None:
    """Let the records leave with the caller's transaction."""
    if records:
        # One statement, however many: thousands may leave at once.
        await connection.execute(
            text(
                f"INSERT INTO {table.fullname} (topic, key, value, headers)"
                " SELECT CAST(:topic AS text), key, value, headers FROM unnest("
                "CAST(:keys AS bytea[]), CAST(:contents AS bytea[]), CAST(:headers AS bytea[]))"
                " WITH ORDINALITY AS n (key, value, headers, number) ORDER BY number"
            ),
            {
                "topic": topic,
                "keys": [record.key for record in records],
                "contents": [record.value for record in records],
                "headers": [msgspec.msgpack.encode(record.headers) for record in records],
            },
        )


@dataclass(slots=True)
class Waiting:
    """What waits for the relay, as last counted; its age is told at each scrape."""

    service: str
    metrics: CommonMetrics
    clock: Clock = system_clock
    rows: int = 0
    oldest: datetime | None = None

    async def count(self, connection: AsyncConnection, table: Table) -> None:
        some = select(table.c.id).limit(_MOST_COUNTED).subquery()
        self.rows = await connection.scalar(select(func.count()).select_from(some)) or 0
        # The first by its number is about the oldest, and found without looking at the others.
        first = select(table.c.created_at).order_by(table.c.id).limit(1)
        self.oldest = await connection.scalar(first)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        def rows() -> Iterator[Reading]:
            yield (self.service,), self.rows

        def oldest() -> Iterator[Reading]:
            age = 0.0 if self.oldest is None else (self.clock() - self.oldest).total_seconds()
            yield (self.service,), max(0.0, age)

        with (
            self.metrics.outbox_rows.told_by(rows),
            self.metrics.outbox_oldest.told_by(oldest),
        ):
            yield


class Relay:
    """Publishes one service's outbox; every replica runs one, the holder of the lock works."""

    def __init__(self, *, engine: AsyncEngine, log: Log, table: Table, loop: Loop) -> None:
        self._engine = engine
        self._log = log
        self._table = table
        self._loop = loop
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Rows have been committed: publish them now instead of at the next round."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._hold_and_publish(stop)
            except Exception as error:
                if not isinstance(error, LogUnavailable) and not database.is_away(error):
                    raise
                log_.warning("relay.away", table=str(self._table), cause=type(error).__name__)
                self._loop.progressed()  # waiting for a dependency is no standstill
                await stopped_within(stop, _AWAY_SECONDS)

    async def _hold_and_publish(self, stop: asyncio.Event) -> None:
        # A session lock in autocommit: publishing takes seconds when the log is slow, and an open
        # transaction that long would be ended by idle_in_transaction_session_timeout.
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            key = func.hashtext(f"outbox:{self._table}")
            if not await connection.scalar(select(func.pg_try_advisory_lock(key))):
                self._loop.progressed()
                await self._pause()
                return
            try:
                while not stop.is_set():
                    published = await self._publish_some(connection)
                    self._loop.progressed()
                    if not published:
                        await self._pause()
                await self._publish_some(connection)
            finally:
                # A connection that broke has lost the lock with its session, and would refuse.
                if not connection.invalidated:
                    await connection.execute(select(func.pg_advisory_unlock(key)))

    async def _publish_some(self, connection: AsyncConnection) -> int:
        rows = (
            await connection.execute(select(self._table).order_by(self._table.c.id).limit(_BATCH))
        ).all()
        # Runs of one topic, not all of a topic: what was written in one order leaves in it.
        for topic, run in groupby(rows, key=lambda row: str(row.topic)):
            await self._publish_run(connection, topic, list(run))
        return len(rows)

    async def _publish_run(
        self, connection: AsyncConnection, topic: str, rows: Sequence[Row[tuple[object, ...]]]
    ) -> None:
        records = [
            Record(
                key=row.key,
                value=row.value,
                headers=msgspec.msgpack.decode(row.headers, type=tuple[tuple[str, bytes], ...]),
            )
            for row in rows
        ]
        with tracing.many(
            f"relay publishes {topic}",
            lambda: traceparent.of_records(records, most=tracing.MOST_LINKS),
            kind=tracing.Kind.PRODUCER,
            topic=topic,
            records=len(records),
        ):
            appended = await self._log.append(topic, records, deadline=_DEADLINE)
        failpoints.reach("relay.after_ack")
        done = [
            row.id for row, state in zip(rows, appended, strict=True) if state is Appended.DURABLE
        ]
        await connection.execute(delete(self._table).where(self._table.c.id.in_(done)))
        if len(done) < len(rows):
            raise LogUnavailable(topic)

    async def _pause(self) -> None:
        """Until somebody wakes us, at most for a round; whoever waits looks again afterwards."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._wake.wait()
        self._wake.clear()
