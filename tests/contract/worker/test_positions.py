"""Where a worker goes on: at the stored position, whatever the log offers first."""

import asyncio
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.log import Batch, Consumer, Lag, Log, TopicPartition
from shared.log.positions import Claim, Fenced
from tests.contract.log.backends import LogUnderTest
from tests.contract.log.reading import GIVE_UP_SECONDS, append, new_topic, numbered, record
from tests.contract.worker.ledger import Ledger, all_once, working
from tests.factories import batch_of


def _group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("group_stays", [True, False], ids=["with the hint", "without the hint"])
async def test_a_restarted_worker_goes_on_at_the_stored_position(
    log: Log, ledger: Ledger, *, group_stays: bool
) -> None:
    topic, group = await new_topic(log), _group()
    await append(log, topic, numbered(100))
    async with log.consume([topic], group=group) as consumer, working(consumer, ledger) as first:

        async def stop_half_way(_connection: AsyncConnection, batch: Batch) -> None:
            if batch.next >= 30:
                first.stop.set()

        ledger.in_transaction = stop_half_way
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await first.task
    stopped_at = await ledger.count()
    assert 30 <= stopped_at < 100, "it was to be stopped half way"
    await append(log, topic, numbered(50, first=100))
    again = group if group_stays else _group()
    async with log.consume([topic], group=again) as consumer, working(consumer, ledger) as second:
        await second.until_taken(ledger, 150)
    assert await ledger.numbers() == list(range(150))
    assert [claim.epoch for claim in ledger.claims] == [1, 2]
    assert ledger.claims[1].next_offset == stopped_at
    assert second.metric("log_gap_records_total", topic) == 0


async def test_a_batch_that_began_below_the_position_is_cut(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(20))
    await ledger.set_position(TopicPartition(topic, 0), 5)
    async with (
        log.consume([topic], group=_group()) as consumer,
        working(consumer, ledger, max_records=100) as worker,
    ):
        await worker.until_taken(ledger, 15)
    assert await ledger.numbers() == list(range(5, 20))
    assert ledger.tries == [(5, 20)]


async def test_a_hint_beyond_the_position_skips_nothing(log: Log, ledger: Ledger) -> None:
    topic, group = await new_topic(log), _group()
    partition = TopicPartition(topic, 0)
    await append(log, topic, numbered(40))
    async with log.consume([topic], group=group) as consumer:
        while not await consumer.fetch(max_records=5, wait=timedelta(milliseconds=200)):
            pass
        consumer.hint(partition, 30)
    await ledger.set_position(partition, 10)
    async with log.consume([topic], group=group) as consumer, working(consumer, ledger) as worker:
        await worker.until_taken(ledger, 30)
    assert await ledger.numbers() == list(range(10, 40))
    assert worker.metric("log_gap_records_total", topic) == 0


async def test_a_restored_position_is_read_on_from_though_nothing_new_comes(
    log: Log, ledger: Ledger
) -> None:
    topic, group = await new_topic(log, partitions=2), _group()
    sent = [record(f"account-{number}", str(number)) for number in range(40)]
    await append(log, topic, sent)
    async with log.consume([topic], group=group) as consumer, working(consumer, ledger) as worker:
        await worker.until_taken(ledger, 40)
    # A backup that is older than the log's hints; the other partition was not in it at all.
    await ledger.restore_to({TopicPartition(topic, 0): 3})
    async with log.consume([topic], group=group) as consumer, working(consumer, ledger) as worker:
        await worker.until_taken(ledger, 80 - 3)
    assert worker.metric("log_gap_records_total", topic) == 0


async def test_what_the_log_deleted_below_the_position_is_a_gap_and_counted(
    under_test: LogUnderTest, ledger: Ledger
) -> None:
    async with under_test.open() as log:
        topic = await new_topic(log)
        partition = TopicPartition(topic, 0)
        await append(log, topic, numbered(40))
        await ledger.set_position(partition, 5)
        await under_test.cut(partition, 20)
        async with (
            log.consume([topic], group=_group()) as consumer,
            working(consumer, ledger) as worker,
        ):
            await worker.until_taken(ledger, 20)
            assert worker.metric("log_gap_records_total", topic) == 15  # 5 up to 19
    assert await ledger.numbers() == list(range(20, 40))
    assert await ledger.position(partition) == 40


async def test_a_batch_that_the_consumer_lost_is_no_gap(log: Log, ledger: Ledger) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(60))
    async with log.consume([topic], group=_group()) as consumer:
        forgetful = _Forgetful(consumer, forgets=20)
        async with working(forgetful, ledger) as worker:
            await worker.until_taken(ledger, 60)
    assert forgetful.forgot
    assert await ledger.numbers() == list(range(60))
    assert worker.metric("log_gap_records_total", topic) == 0


async def test_a_worker_whose_partition_was_claimed_by_another_claims_it_again(
    log: Log, ledger: Ledger
) -> None:
    topic = await new_topic(log)
    partition = TopicPartition(topic, 0)
    await append(log, topic, numbered(20))
    async with log.consume([topic], group=_group()) as consumer, working(consumer, ledger) as it:
        await it.until_taken(ledger, 20)
        await ledger.claim(partition)
        # One batch, the last one: nothing comes later that would lead back to it.
        await append(log, topic, numbered(5, first=20))
        await it.until_taken(ledger, 25)
        assert it.metric("log_fenced_batches_total", topic) == 1
    assert await ledger.numbers() == list(range(25))
    assert [claim.epoch for claim in ledger.claims] == [1, 2, 3]


async def test_what_another_owner_has_taken_in_is_not_taken_in_again(
    log: Log, ledger: Ledger
) -> None:
    topic = await new_topic(log)
    partition = TopicPartition(topic, 0)
    async with log.consume([topic], group=_group()) as consumer, working(consumer, ledger) as it:
        await append(log, topic, numbered(10))
        await it.until_taken(ledger, 10)
        other = await ledger.claim(partition)
        theirs = batch_of([str(n).encode() for n in range(10, 15)], first=10, partition=partition)
        await ledger.take_in(theirs, other)
        await append(log, topic, numbered(20, first=10))
        await it.until_taken(ledger, 30)
    assert await ledger.numbers() == list(range(30))


async def test_an_owner_that_was_overtaken_writes_nothing(ledger: Ledger) -> None:
    partition = TopicPartition("events", 3)
    slow = await ledger.claim(partition)
    fast = await ledger.claim(partition)
    batch = batch_of([b"0", b"1"], partition=partition)
    with pytest.raises(Fenced):
        await ledger.take_in(batch, slow)
    await ledger.take_in(batch, fast)
    assert await ledger.numbers() == [0, 1]


async def test_a_position_moves_only_from_where_its_owner_left_it(ledger: Ledger) -> None:
    partition = TopicPartition("events", 3)
    held = await ledger.claim(partition)
    await ledger.take_in(batch_of([b"0", b"1"], partition=partition), held)
    for known in (0, 1, 3):
        with pytest.raises(Fenced):
            await ledger.take_in(
                batch_of([b"7"], first=known, partition=partition),
                Claim(next_offset=known, epoch=held.epoch),
            )
    assert await ledger.numbers() == [0, 1]
    assert await ledger.position(partition) == 2


async def test_a_second_worker_joins_and_leaves_and_everything_is_taken_in_once(
    log: Log, ledger: Ledger
) -> None:
    topic, group = await new_topic(log, partitions=4), _group()
    sent = [record(f"account-{number}", str(number)) for number in range(1_200)]

    async def all_claimed() -> bool:
        return len(ledger.claims) >= 4

    async with log.consume([topic], group=group) as stays, working(stays, ledger) as first:
        await append(log, topic, sent[:400])
        await first.until(all_claimed)
        async with log.consume([topic], group=group) as comes, working(comes, ledger) as second:
            for start in range(400, 800, 40):
                await append(log, topic, sent[start : start + 40])
                await asyncio.sleep(0.1)  # a stream, so that the rebalance comes in the middle
            await second.until_taken(ledger, 800)
            await append(log, topic, sent[800:1_000])
            await second.until_taken(ledger, 1_000)

            async def shared_out() -> bool:
                # 4 claims of the first, at least 2 of the second; two partitions each.
                shares = [len(stays.assignment()), len(comes.assignment())]
                return len(ledger.claims) >= 6 and shares == [2, 2]

            await second.until(shared_out)
        await append(log, topic, sent[1_000:])
        await first.until_taken(ledger, 1_200)
    assert all_once(await ledger.numbers(), 1_200)


class _Forgetful:
    """A consumer that hands out everything but one batch: what a fault of the client would do."""

    def __init__(self, consumer: Consumer, *, forgets: int) -> None:
        self._consumer = consumer
        self._forgets = forgets
        self.forgot = False

    async def fetch(
        self, *, max_records: int, wait: timedelta, but: Collection[TopicPartition] = ()
    ) -> Sequence[Batch]:
        batches = await self._consumer.fetch(max_records=max_records, wait=wait, but=but)
        if not self.forgot and any(batch.first == self._forgets for batch in batches):
            self.forgot = True
            return ()
        return batches

    def is_current(self, batch: Batch) -> bool:
        return self._consumer.is_current(batch)

    def processing(self) -> AbstractAsyncContextManager[None]:
        return self._consumer.processing()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(partition, offset)

    def hint(self, partition: TopicPartition, next_offset: int) -> None:
        self._consumer.hint(partition, next_offset)

    def assignment(self) -> frozenset[TopicPartition]:
        return self._consumer.assignment()

    def partitions(self) -> Mapping[str, int]:
        return self._consumer.partitions()

    @property
    def rebalances(self) -> int:
        return self._consumer.rebalances

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        return await self._consumer.lag()
