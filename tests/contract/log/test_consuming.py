"""Consuming: seek, positions, lag, followers."""

import asyncio
import time
import uuid
from datetime import timedelta

import pytest

from shared.log import Consumer, Lag, Log, TopicMissing, TopicPartition
from tests.contract.log.backends import LogUnderTest
from tests.contract.log.reading import (
    GIVE_UP_SECONDS,
    WAIT,
    append,
    eventually,
    new_topic,
    numbered,
    record,
    take,
    values,
)


def _group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


async def test_a_fetch_holds_one_batch_per_partition_each_within_the_limit(log: Log) -> None:
    topic = await new_topic(log, partitions=3)
    await append(log, topic, [record(f"account-{number}") for number in range(100)])
    seen = 0
    async with log.consume([topic], group=_group()) as consumer, asyncio.timeout(GIVE_UP_SECONDS):
        while seen < 100:
            batches = await consumer.fetch(max_records=10, wait=WAIT)
            partitions = [batch.partition for batch in batches]
            assert len(set(partitions)) == len(partitions)
            assert all(len(batch.records) <= 10 for batch in batches)
            assert all(batch.next == batch.first + len(batch.records) for batch in batches)
            assert all(consumer.is_current(batch) for batch in batches)
            seen += sum(len(batch.records) for batch in batches)


async def test_a_fetch_without_records_ends_after_its_wait(log: Log) -> None:
    topic = await new_topic(log)
    async with log.consume([topic], group=_group()) as consumer:
        await _assigned(consumer, 1)
        started = time.monotonic()
        assert not await consumer.fetch(max_records=10, wait=timedelta(milliseconds=300))
        assert 0.2 < time.monotonic() - started < 2


async def test_a_record_is_fetched_soon_after_its_append(log: Log) -> None:
    topic = await new_topic(log)
    async with log.consume([topic], group=_group()) as consumer:
        await append(log, topic, numbered(1))
        await take(consumer, 1)
        fetching = asyncio.create_task(consumer.fetch(max_records=10, wait=timedelta(seconds=10)))
        await append(log, topic, numbered(1))
        started = time.monotonic()
        assert await fetching
        assert time.monotonic() - started < 1


async def test_partitions_that_are_left_alone_stay_ours_and_lose_nothing(log: Log) -> None:
    topic = await new_topic(log, partitions=4)
    alone = {TopicPartition(topic, 1), TopicPartition(topic, 2)}
    sent = [record(f"account-{number}", str(number)) for number in range(200)]
    async with log.consume([topic], group=_group()) as consumer:
        await _assigned(consumer, 4)
        await append(log, topic, sent)
        others: list[str] = []
        for _ in range(10):
            # In small batches: what the client has read ahead stays behind too.
            for batch in await consumer.fetch(max_records=5, wait=WAIT, but=alone):
                assert batch.partition not in alone
                others += [(stored.value or b"").decode() for stored in batch.records]
        assert 0 < len(others) < 200
        everything = consumer.assignment()
        assert len(everything) == 4
        started = time.monotonic()
        assert not await consumer.fetch(max_records=5, wait=WAIT, but=everything)
        assert time.monotonic() - started > WAIT.total_seconds() / 2, "it is to wait, not to spin"
        rest = values(await take(consumer, 200 - len(others), max_records=5))
    assert sorted(others + rest) == sorted(str(number) for number in range(200))


async def test_after_a_seek_the_next_batch_begins_there(log: Log) -> None:
    topic = await new_topic(log)
    partition = TopicPartition(topic, 0)
    await append(log, topic, numbered(1000))
    async with log.consume([topic], group=_group()) as consumer:
        # Small batches: what the client has read ahead must not come after the seek.
        await take(consumer, 1, max_records=10)
        for offset in (500, 3, 999, 0, 250):
            consumer.seek(partition, offset)
            [(_partition, first), *_rest] = await take(consumer, 1, max_records=10)
            assert first.offset == offset
        consumer.seek(partition, 990)
        assert values(await take(consumer, 10)) == [str(number) for number in range(990, 1000)]


async def test_a_seek_below_the_logs_beginning_begins_later(under_test: LogUnderTest) -> None:
    async with under_test.open() as log:
        topic = await new_topic(log)
        partition = TopicPartition(topic, 0)
        await append(log, topic, numbered(20))
        await under_test.cut(partition, 5)
        async with log.consume([topic], group=_group()) as consumer:
            assert values(await take(consumer, 15))[0] == "5"
            consumer.seek(partition, 2)
            taken = await take(consumer, 15)
        assert taken[0][1].offset == 5
        assert values(taken) == [str(number) for number in range(5, 20)]


async def test_a_batch_that_failed_is_sought_and_fetched_again(log: Log) -> None:
    topic = await new_topic(log)
    partition = TopicPartition(topic, 0)
    await append(log, topic, numbered(50))
    async with log.consume([topic], group=_group()) as consumer:
        for _ in range(3):
            first = (await take(consumer, 1, max_records=10))[0][1]
            assert first.offset == 0
            consumer.seek(partition, first.offset)
        assert values(await take(consumer, 50)) == [str(number) for number in range(50)]


async def test_the_caller_keeps_the_position(log: Log) -> None:
    topic, group = await new_topic(log), _group()
    partition = TopicPartition(topic, 0)
    await append(log, topic, numbered(100))
    async with log.consume([topic], group=group) as consumer:
        taken = await take(consumer, 30, max_records=10)
    position = taken[-1][1].offset + 1
    async with log.consume([topic], group=group) as consumer:
        # The first batch may begin anywhere; the position of the caller decides.
        await take(consumer, 1)
        consumer.seek(partition, position)
        rest = await take(consumer, 100 - position)
    assert values(taken) + values(rest) == [str(number) for number in range(100)]


async def test_the_next_member_begins_at_the_hint(log: Log) -> None:
    topic, group = await new_topic(log), _group()
    await append(log, topic, numbered(100))
    async with log.consume([topic], group=group) as consumer:
        await take(consumer, 1)
        consumer.hint(TopicPartition(topic, 0), 40)
    async with log.consume([topic], group=group) as consumer:
        assert values(await take(consumer, 60))[0] == "40"


async def test_groups_do_not_share_their_records(log: Log) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(10))
    for _ in range(2):
        async with log.consume([topic], group=_group()) as consumer:
            assert len(await take(consumer, 10)) == 10


async def test_one_member_reads_several_topics(log: Log) -> None:
    first, second = await new_topic(log, partitions=2), await new_topic(log)
    await append(log, first, [record(f"account-{number}") for number in range(20)])
    await append(log, second, numbered(20))
    async with log.consume([first, second], group=_group()) as consumer:
        taken = await take(consumer, 40)
        assert consumer.assignment() == {
            TopicPartition(first, 0),
            TopicPartition(first, 1),
            TopicPartition(second, 0),
        }
    assert sorted(partition.topic for partition, _stored in taken) == sorted(
        [first] * 20 + [second] * 20
    )


async def test_lag_says_how_far_behind_the_consumer_is(log: Log) -> None:
    topic = await new_topic(log)
    partition = TopicPartition(topic, 0)
    async with log.consume([topic], group=_group()) as consumer:
        await _assigned(consumer, 1)
        assert await consumer.lag() == {partition: Lag(records=0, seconds=0.0)}
        await append(log, topic, numbered(100))
        await take(consumer, 30, max_records=30)
        await asyncio.sleep(0.1)
        behind = (await consumer.lag())[partition]
        assert behind.records == 70
        assert 0.1 <= behind.seconds < 5
        await take(consumer, 70)
        assert await consumer.lag() == {partition: Lag(records=0, seconds=0.0)}


@pytest.mark.parametrize("way", ["consume", "follow"])
async def test_entering_without_the_topic_fails_within_two_seconds_by_its_name(
    log: Log, way: str
) -> None:
    missing = "no-such-topic"
    entering = log.follow(missing) if way == "follow" else log.consume([missing], group=_group())
    async with asyncio.timeout(2):
        with pytest.raises(TopicMissing, match=missing):
            await entering.__aenter__()


async def test_followers_read_everything_from_the_beginning(log: Log) -> None:
    topic = await new_topic(log, partitions=3, compacted=True)
    first = [record("a", "1"), record("b", "1"), record("a", "2"), record("b", None)]
    await append(log, topic, first)
    async with log.follow(topic) as one, log.follow(topic) as other:
        for consumer in (one, other):
            taken = await take(consumer, 4)
            assert [s.value for _p, s in taken if s.key == b"a"] == [b"1", b"2"]
            assert [s.value for _p, s in taken if s.key == b"b"] == [b"1", None]
        assert len(one.assignment()) == 3
        await append(log, topic, [record("a", None)])
        for consumer in (one, other):
            [(_partition, stored)] = await take(consumer, 1)
            assert (stored.key, stored.value) == (b"a", None)
        assert {lag.records for lag in (await one.lag()).values()} == {0}


async def _assigned(consumer: Consumer, partitions: int) -> None:
    async def enough() -> bool:
        await consumer.fetch(max_records=1, wait=timedelta())
        return len(consumer.assignment()) == partitions

    await eventually(enough)
