"""What a worker does when something goes wrong: poison, conflicts, no database, a bug."""

import asyncio
import uuid
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database import open_engine
from shared.embedded_postgres import embedded_postgres, immediate_stop
from shared.log import Batch, Log, LogBusy, LogUnavailable, TopicPartition
from shared.log.postgres import open_postgres_log
from shared.log.worker import TooManyRejected
from tests.contract.log.reading import GIVE_UP_SECONDS, append, new_topic, numbered, record
from tests.contract.worker.ledger import Ledger, all_once, once, working
from tests.databases import DatabaseServer, running_server, temporary_folder

_LIMIT = 100


def _group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


async def test_a_poison_record_is_set_aside_and_the_good_ones_keep_their_order(
    log: Log, ledger: Ledger
) -> None:
    topic = await new_topic(log)
    sent = [str(number) for number in range(40)]
    sent[7], sent[23], sent[24] = "seven", "-1", "four"
    await append(log, topic, [record("k", value) for value in sent])
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=40) as worker,
    ):
        await worker.until_taken(ledger, 37)
    assert await ledger.numbers() == [n for n in range(40) if n not in {7, 23, 24}]
    # What PostgreSQL refuses is poison too.
    assert await ledger.aside() == [(7, "not_a_number"), (23, "not_storable"), (24, "not_a_number")]
    assert await ledger.position(TopicPartition(topic, 0)) == 40
    assert worker.metric("quarantined_total", topic, reason="not_a_number") == 2
    assert worker.metric("quarantined_total", topic, reason="not_storable") == 1


async def test_a_record_is_set_aside_once_though_the_database_goes_away_meanwhile(
    log: Log, ledger: Ledger, server: DatabaseServer
) -> None:
    topic = await new_topic(log)
    await append(log, topic, [*numbered(5), record("k", "poison"), *numbered(5, first=5)])

    async def end_backends(_connection: AsyncConnection, _batch: Batch) -> None:
        await _end_backends(server, ledger.application)

    ledger.setting_aside = once(end_backends)
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=40) as worker,
    ):
        await worker.until_taken(ledger, 10)
    assert await ledger.numbers() == list(range(10))
    assert await ledger.aside() == [(5, "not_a_number")]
    assert len(ledger.claims) > 1, "the database was to go away"


async def test_too_many_rejected_in_a_row_stop_the_worker(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log)
    await append(log, topic, [*numbered(1), *[record("k", "poison")] * 150])
    with pytest.raises(TooManyRejected, match="not_a_number"):
        async with (
            log.consume([topic], group=_group()) as consumer,
            working(consumer, ledger, max_records=200) as worker,
        ):
            await worker.until_taken(ledger, 2)
    assert len(await ledger.aside()) == _LIMIT
    assert await ledger.position(TopicPartition(topic, 0)) == 1 + _LIMIT
    assert await ledger.numbers() == [0]


async def test_many_rejected_between_good_ones_do_not_stop_it(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log)
    poison = [record("k", "poison")] * (_LIMIT - 1)
    await append(log, topic, [*poison, *numbered(1), *poison, *numbered(1, first=1)])
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=500) as worker,
    ):
        await worker.until_taken(ledger, 2)
    assert len(await ledger.aside()) == 2 * len(poison)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("40001", id="serialization failure"),
        pytest.param("40P01", id="deadlock"),
        pytest.param("55P03", id="lock timeout"),
        pytest.param("57014", id="statement timeout"),
    ],
)
@pytest.mark.parametrize("place", ["claim", "take_in", "set_aside"])
async def test_a_transaction_that_another_was_in_the_way_of_is_tried_again_at_once(
    database_url: str, ledger: Ledger, code: str, place: str
) -> None:
    async def refuse(connection: AsyncConnection) -> None:
        raising = f"DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END $$"
        await connection.execute(text(raising))

    async def disturb(connection: AsyncConnection, _batch: Batch) -> None:
        await refuse(connection)

    if place == "claim":
        left = [True, True]

        async def twice(connection: AsyncConnection) -> None:
            if left:
                left.pop()
                await refuse(connection)

        ledger.before_claim = twice
    elif place == "take_in":
        ledger.in_transaction = once(disturb)
    else:
        ledger.setting_aside = once(disturb)
    async with open_postgres_log(database_url) as log:
        topic = await new_topic(log)
        await append(log, topic, [*numbered(5), record("k", "poison"), *numbered(3, first=5)])
        async with (
            log.consume([topic], group=_group()) as consumer,
            working(consumer, ledger, max_records=40) as worker,
        ):
            await worker.until_taken(ledger, 8)
    assert await ledger.numbers() == list(range(8))
    assert await ledger.aside() == [(5, "not_a_number")]
    assert len(ledger.claims) == 1, "nobody else owned it and nothing was away"
    if place == "take_in":
        assert ledger.tries[:2] == [(0, 9), (0, 9)] or ledger.tries.count((0, 4)) == 2


@pytest.mark.parametrize("when", ["in_transaction", "after_commit"])
async def test_a_database_that_goes_away_loses_and_doubles_nothing(
    log: Log, ledger: Ledger, server: DatabaseServer, when: str
) -> None:
    topic = await new_topic(log, partitions=3)
    sent = [record(f"account-{number}", str(number)) for number in range(300)]
    rounds = iter(range(1_000))

    async def end_backends(_connection: AsyncConnection, _batch: Batch) -> None:
        if next(rounds) % 7 == 3:
            await _end_backends(server, ledger.application)
            if when == "after_commit":  # its answer did not reach us
                raise ConnectionResetError

    setattr(ledger, when, end_backends)
    await append(log, topic, sent)
    async with log.consume([topic], group=_group()) as consumer, working(consumer, ledger) as it:
        await it.until_taken(ledger, 300)
    assert all_once(await ledger.numbers(), 300)
    assert len(ledger.claims) > 3, "the database was to go away"


async def test_a_database_server_that_stops_and_starts_again_loses_and_doubles_nothing() -> None:
    """Log, positions and effects on one server, as in the embedded mode; its power is cut."""
    with temporary_folder() as folder:
        async with running_server(folder) as server:
            await server.prepare_template()
            async with (
                server.copy_of_template() as url,
                open_engine(url, application="ledger") as engine,
                open_postgres_log(url) as log,
            ):
                ledger = Ledger(engine, "ledger")
                await ledger.create_tables()
                topic = await new_topic(log, partitions=2)
                await append(
                    log, topic, [record(f"account-{number}", str(number)) for number in range(200)]
                )
                in_the_middle, go_on = asyncio.Event(), asyncio.Event()

                async def hold(_connection: AsyncConnection, _batch: Batch) -> None:
                    if len(ledger.tries) > 5:
                        in_the_middle.set()
                        await go_on.wait()

                ledger.in_transaction = hold
                async with (
                    log.consume([topic], group=_group()) as consumer,
                    working(consumer, ledger, max_records=5) as worker,
                ):
                    async with asyncio.timeout(GIVE_UP_SECONDS):
                        await in_the_middle.wait()
                    await _power_cut(folder)
                    go_on.set()
                    async with embedded_postgres(folder):
                        pass  # whoever started it first holds it too
                    await worker.until_taken(ledger, 200)
                assert all_once(await ledger.numbers(), 200)
                assert len(ledger.claims) > 2, "the power was to be cut in the middle"


@pytest.mark.parametrize("away", [LogUnavailable, LogBusy])
async def test_a_log_that_takes_nothing_halves_no_batch_and_sets_nothing_aside(
    log: Log, ledger: Ledger, away: type[LogUnavailable]
) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(40))
    refusals = 3

    async def refuse(_connection: AsyncConnection, _batch: Batch) -> None:
        if len(ledger.tries) <= refusals:
            raise away("nothing was stored")

    ledger.in_transaction = refuse
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=40) as worker,
    ):
        await worker.until_taken(ledger, 40)
    assert await ledger.numbers() == list(range(40))
    assert await ledger.aside() == []
    assert ledger.tries == [(0, 40)] * (refusals + 1)


async def test_a_bug_ends_the_worker_and_a_restart_goes_on_there(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(20))

    async def fail(_connection: AsyncConnection, batch: Batch) -> None:
        if batch.first <= 13 < batch.next:
            raise KeyError("a bug")

    ledger.in_transaction = fail
    with pytest.raises(KeyError):
        async with (
            log.consume([topic], group=_group()) as consumer,
            working(consumer, ledger, max_records=20) as worker,
        ):
            await worker.until_taken(ledger, 20)
    assert await ledger.numbers() == list(range(13))
    assert await ledger.aside() == []

    async def no_bug(_connection: AsyncConnection, _batch: Batch) -> None:
        pass

    ledger.in_transaction = no_bug
    async with log.consume([topic], group=_group()) as consumer, working(consumer, ledger) as again:
        await again.until_taken(ledger, 20)
    assert await ledger.numbers() == list(range(20))


async def test_stop_ends_the_worker_after_the_batch_in_hand(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log, partitions=3)
    in_hand, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_connection: AsyncConnection, _batch: Batch) -> None:
        in_hand.set()
        await go_on.wait()

    ledger.in_transaction = hold
    await append(log, topic, [record(f"account-{number}", str(number)) for number in range(30)])
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=1_000) as worker,
    ):
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await in_hand.wait()
        worker.stop.set()
        await asyncio.sleep(0)
        assert not worker.task.done()
        go_on.set()
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await worker.task
    [(first, after)] = ledger.tries
    assert await ledger.count() == after - first < 30


async def _end_backends(server: DatabaseServer, application: str) -> None:
    """End the connections of one application, as a failover does."""
    admin = await asyncpg.connect(server.url)
    try:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
        await admin.execute(query, application)
    finally:
        await admin.close()


async def _power_cut(folder: Path) -> None:
    immediate_stop(folder)
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while (folder / "data" / "postmaster.pid").exists():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)
