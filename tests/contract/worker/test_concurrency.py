"""A worker that takes in the batches of several partitions beside each other."""

import asyncio
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.log import Batch, Log
from shared.log.worker import TooManyRejected
from tests.contract.log.reading import append, new_topic, record
from tests.contract.worker.ledger import Ledger, all_once, once, working
from tests.databases import DatabaseServer

PARTITIONS = 4


def _group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


async def _filled(log: Log, count: int) -> str:
    topic = await new_topic(log, partitions=PARTITIONS)
    await append(log, topic, [record(f"key-{number}", str(number)) for number in range(count)])
    return topic


async def test_partitions_are_taken_in_beside_each_other_each_in_its_order(
    log: Log, ledger: Ledger
) -> None:
    topic = await _filled(log, 400)
    in_hand: set[int] = set()
    together: list[set[int]] = []
    two = asyncio.Event()

    async def wait_for_another(_connection: AsyncConnection, batch: Batch) -> None:
        in_hand.add(batch.partition.partition)
        together.append(set(in_hand))
        if len(in_hand) > 1:
            two.set()
        await two.wait()  # for ever, where they come one after the other
        in_hand.discard(batch.partition.partition)

    ledger.in_transaction = wait_for_another
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=30, concurrency=3) as worker,
    ):
        await worker.until_taken(ledger, 400)
    assert max(map(len, together)) in {2, 3}
    assert all_once(await ledger.numbers(), 400)
    by_partition = [await _offsets(ledger, number) for number in range(PARTITIONS)]
    assert all(offsets == sorted(offsets) for offsets in by_partition)


async def test_a_fenced_worker_claims_again_and_takes_in_everything_once(
    log: Log, ledger: Ledger
) -> None:
    topic = await _filled(log, 400)

    async def steal(_connection: AsyncConnection, _batch: Batch) -> None:
        # Another member claims them all, in the middle of ours.
        async with ledger.engine.begin() as connection:
            await connection.execute(text("UPDATE log_positions SET epoch = epoch + 1"))

    ledger.after_commit = once(steal)
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=30, concurrency=3) as worker,
    ):
        await worker.until_taken(ledger, 400)
    assert all_once(await ledger.numbers(), 400)
    assert len(ledger.claims) > PARTITIONS, "it was to be fenced"


async def test_nothing_is_lost_or_doubled_when_the_database_goes_away(
    log: Log, ledger: Ledger, server: DatabaseServer
) -> None:
    topic = await _filled(log, 600)

    async def end_backends(_connection: AsyncConnection, _batch: Batch) -> None:
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE application_name = '{ledger.application}'"
        )

    ledger.in_transaction = once(end_backends)
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=50, concurrency=3) as worker,
    ):
        await worker.until_taken(ledger, 600)
    assert all_once(await ledger.numbers(), 600)
    assert len(ledger.claims) > PARTITIONS, "the database was to go away"


async def test_poison_in_one_partition_stops_the_worker_though_others_go_on_well(
    log: Log, ledger: Ledger
) -> None:
    topic = await _filled(log, 200)
    await append(log, topic, [record("key-1", "poison")] * 150)
    await append(log, topic, [record(f"key-{number}", str(number)) for number in range(200, 400)])
    with pytest.raises(TooManyRejected, match="not_a_number"):
        async with (
            log.consume([topic], group=_group()) as consumer,
            working(consumer, ledger, max_records=20, concurrency=3) as worker,
        ):
            await worker.until_taken(ledger, 10_000)


async def test_stopping_waits_for_what_is_in_hand(log: Log, ledger: Ledger) -> None:
    topic = await _filled(log, 200)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_connection: AsyncConnection, _batch: Batch) -> None:
        held.set()
        await go_on.wait()

    ledger.in_transaction = hold
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=30, concurrency=3) as worker,
    ):
        await held.wait()
        worker.stop.set()
        go_on.set()
    taken = await ledger.numbers()
    async with ledger.engine.connect() as connection:
        passed = await connection.scalar(text("SELECT sum(next_offset) FROM log_positions"))
    assert 0 < len(taken) < 200
    assert passed == len(taken)


async def _offsets(ledger: Ledger, partition: int) -> list[int]:
    async with ledger.engine.connect() as connection:
        rows = await connection.execute(
            text('SELECT "offset" FROM taken WHERE partition = :number ORDER BY id'),
            {"number": partition},
        )
        return [row[0] for row in rows]
