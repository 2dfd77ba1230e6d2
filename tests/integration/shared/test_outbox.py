"""The outbox: rows leave in order, by one relay at a time, deleted once the log has them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.tables import outbox
from shared import migrations
from shared.embedded_postgres import embedded_postgres, immediate_stop
from shared.lifecycle import new_frame
from shared.log import Log, Record, StoredRecord
from shared.log.postgres import PostgresLog, open_postgres_log
from shared.log.topics import TOPICS
from shared.messages import ACCOUNTS, FLAGS
from shared.outbox import Relay, put
from shared.watchdog import Loop
from tests.databases import temporary_folder

_SECONDS = 30.0

_RELAY = """
import asyncio, sys
from services.scoring.tables import outbox
from shared.database import open_engine
from shared.lifecycle import new_frame
from shared.log.postgres import open_postgres_log
from shared.outbox import Relay

async def main():
    async with open_engine(sys.argv[1], application="relay") as engine:
        async with open_postgres_log(sys.argv[1]) as log:
            loop = new_frame().loop("scoring", "relay")
            await Relay(engine=engine, log=log, table=outbox, loop=loop).run(asyncio.Event())

asyncio.run(main())
"""


def _record(number: int) -> Record:
    # One key, so one partition: what we read back shows the order.
    return Record(key=b"k", value=str(number).encode())


async def test_rows_leave_in_their_order_and_are_gone_afterwards(
    engine: AsyncEngine, log: PostgresLog
) -> None:
    async with _relay(engine, log) as relay:
        for start in range(0, 1_200, 200):  # more than the relay takes at once
            await _put(engine, [_record(number) for number in range(start, start + 200)])
            relay.wake()
        await _until(lambda: _is_empty(engine))
    assert _values(await _read(log, FLAGS, 1_200)) == list(range(1_200))


async def test_topics_headers_and_tombstones_come_through(
    engine: AsyncEngine, log: PostgresLog
) -> None:
    headers = (("traceparent", b"00-1"), ("raw", b"\x00\xff"), ("raw", b""))
    sent = Record(key=b"\x00acme", value=b"{}", headers=headers)
    gone = Record(key=b"\x00acme", value=None)
    async with _relay(engine, log):
        await _put(engine, [sent])
        await _put(engine, [gone], topic=ACCOUNTS)
        await _until(lambda: _is_empty(engine))
    [flag] = await _read(log, FLAGS, 1)
    [account] = await _read(log, ACCOUNTS, 1)
    assert (flag.key, flag.value, flag.headers) == (sent.key, sent.value, headers)
    assert (account.key, account.value, account.headers) == (gone.key, None, ())


async def test_what_was_rolled_back_never_leaves(engine: AsyncEngine, log: PostgresLog) -> None:
    async with engine.connect() as connection:
        await put(connection, outbox, FLAGS, [_record(1)])
        await connection.rollback()
    async with _relay(engine, log):
        await _put(engine, [_record(2)])
        await _until(lambda: _is_empty(engine))
    assert _values(await _read(log, FLAGS, 1)) == [2]


async def test_rows_stay_while_the_log_is_away_and_leave_when_it_is_back(
    engine: AsyncEngine,
) -> None:
    """The log on a server of its own, which loses its power."""
    with temporary_folder() as folder:
        async with embedded_postgres(folder) as url:
            await migrations.upgrade(url)
            async with open_postgres_log(url) as log:
                await log.create_topics(TOPICS)
                loop = _CountingLoop()
                async with _relay(engine, log, loop) as relay:
                    await _put(engine, [_record(0)])
                    await _until(lambda: _is_empty(engine))
                    await asyncio.to_thread(immediate_stop, folder)
                    await _put(engine, [_record(number) for number in range(1, 5)])
                    relay.wake()
                    before = loop.rounds
                    await _until(lambda: _true(loop.rounds >= before + 2))  # it tried, twice
                    assert await _rows(engine) == 4
                    async with embedded_postgres(folder):
                        await _until(lambda: _is_empty(engine))
                # What was unknown may be there twice, but never out of its order.
                found = _values(await _read(log, FLAGS, 5))
                assert list(dict.fromkeys(found)) == list(range(5))


async def test_waiting_for_the_log_is_progress(engine: AsyncEngine, log: PostgresLog) -> None:
    """Else the watchdog would end the process for an outage that it cannot mend."""
    frame = new_frame()
    loop = frame.loop("scoring", "relay", limit_seconds=60)
    async with _relay(engine, log, loop):
        await _until(lambda: _true(loop.overdue() is None))
        await log._pool.close()  # no answer from this log any more
        await _put(engine, [_record(1)])
        loop.last_progress = -1_000.0
        await _until(lambda: _true(loop.overdue() is None))
        assert await _rows(engine) == 1


async def test_two_relays_publish_as_one_and_the_second_takes_over(
    engine: AsyncEngine, log: PostgresLog
) -> None:
    async with _relay(engine, log) as second:
        async with _relay(engine, log) as first:
            for start in range(0, 1_000, 50):
                await _put(engine, [_record(number) for number in range(start, start + 50)])
                first.wake()
                second.wake()
            await _until(lambda: _is_empty(engine))
        await _put(engine, [_record(1_000)])
        await _until(lambda: _is_empty(engine))
    assert _values(await _read(log, FLAGS, 1_001)) == list(range(1_001))


async def test_a_relay_without_the_lock_that_is_woken_does_not_spin(
    engine: AsyncEngine, log: PostgresLog
) -> None:
    async with engine.connect() as holder:
        key = func.hashtext(f"outbox:{outbox}")
        await holder.execute(select(func.pg_advisory_lock(key)))
        await holder.commit()
        loop = _CountingLoop()
        async with _relay(engine, log, loop) as waiting:
            await _until(lambda: _true(loop.rounds >= 1))
            waiting.wake()
            before = loop.rounds
            await asyncio.sleep(1.2)  # the window that is measured, not a wait
            assert loop.rounds - before <= 4  # one for the wake, one per half second


async def test_a_relay_whose_connection_is_cut_goes_on(
    engine: AsyncEngine, log: PostgresLog, database_url: str
) -> None:
    async with _relay(engine, log):
        await _put(engine, [_record(0)])
        await _until(lambda: _is_empty(engine))
        admin = await asyncpg.connect(database_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'"
        )
        await admin.close()
        await _put(engine, [_record(1)])
        await _until(lambda: _is_empty(engine))
    assert _values(await _read(log, FLAGS, 2)) == [0, 1]


async def test_a_relay_that_died_before_the_delete_publishes_the_same_again(
    engine: AsyncEngine, log: PostgresLog, database_url: str
) -> None:
    await _put(engine, [_record(number) for number in range(3)])
    failpoint = {"PERENNIAL_TESTING": "1", "PERENNIAL_FAILPOINT": "relay.after_ack:kill9:nth=1"}
    died = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _RELAY, database_url],
        check=False,
        timeout=_SECONDS,
        env={**os.environ, **failpoint},
        cwd=Path(__file__).parents[3],
    )
    assert died.returncode == -signal.SIGKILL
    assert await _rows(engine) == 3
    async with _relay(engine, log):
        await _until(lambda: _is_empty(engine))
    assert _values(await _read(log, FLAGS, 6)) == [0, 1, 2, 0, 1, 2]


class _CountingLoop(Loop):
    def __init__(self) -> None:
        super().__init__(service="scoring", name="relay", metrics=new_frame().metrics)
        self.rounds = 0

    def progressed(self) -> None:
        self.rounds += 1


@asynccontextmanager
async def _relay(engine: AsyncEngine, log: Log, loop: Loop | None = None) -> AsyncIterator[Relay]:
    relay = Relay(
        engine=engine,
        log=log,
        table=outbox,
        loop=loop or new_frame().loop("scoring", "relay"),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        relay.wake()
        async with asyncio.timeout(_SECONDS):
            await task


async def _put(engine: AsyncEngine, records: Sequence[Record], *, topic: str = FLAGS) -> None:
    async with engine.begin() as connection:
        await put(connection, outbox, topic, records)


async def _rows(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(outbox)) or 0


async def _is_empty(engine: AsyncEngine) -> bool:
    return await _rows(engine) == 0


async def _true(holds: bool) -> bool:  # noqa: FBT001
    return holds


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not await holds():  # noqa: ASYNC110 - tables send no events
            await asyncio.sleep(0.02)


async def _read(log: Log, topic: str, count: int) -> list[StoredRecord]:
    """Everything on the topic; at least `count` records."""
    found: list[StoredRecord] = []
    wait = timedelta(milliseconds=200)
    async with log.follow(topic) as consumer, asyncio.timeout(_SECONDS):
        while batches := await consumer.fetch(max_records=10_000, wait=wait):
            found.extend(record for batch in batches for record in batch.records)
    assert len(found) >= count
    return found


def _values(records: Sequence[StoredRecord]) -> list[int]:
    return [int(record.value or b"") for record in records]
