"""How far partitions reach: what was durable before the question lies below the answer."""

import asyncio
import time
from datetime import timedelta

import pytest

from shared.log import Log, LogUnavailable, TopicMissing, TopicPartition
from tests.contract.log.backends import LogUnderTest
from tests.contract.log.reading import append, eventually, new_topic, numbered, record, take


async def test_ends_grow_with_what_is_durable(log: Log) -> None:
    one, other = await new_topic(log, partitions=3), await new_topic(log)
    numbers = range(3)
    empty = {TopicPartition(one, number): 0 for number in numbers} | {TopicPartition(other, 0): 0}
    assert await log.ends([one, other]) == empty
    await append(log, other, numbered(7))
    assert await log.ends([one, other]) == empty | {TopicPartition(other, 0): 7}
    for count in range(1, 6):
        await append(log, one, [record(f"account-{number}") for number in range(10)])
        ends = await log.ends([one])
        assert ends.keys() == {TopicPartition(one, number) for number in numbers}
        assert sum(ends.values()) == 10 * count
    async with log.follow(one) as follower:
        taken = await take(follower, 50)
    for partition, end in ends.items():
        assert end == 1 + max(stored.offset for at, stored in taken if at == partition)


async def test_another_client_sees_at_once_what_was_appended(under_test: LogUnderTest) -> None:
    async with under_test.open() as writes, under_test.open() as asks:
        topic = await new_topic(writes)
        for number in range(1, 20):
            await append(writes, topic, numbered(1))
            assert await asks.ends([topic]) == {TopicPartition(topic, 0): number}


async def test_a_partition_begins_at_the_oldest_record_that_is_left(
    under_test: LogUnderTest,
) -> None:
    async with under_test.open() as log:
        topic = await new_topic(log)
        at = TopicPartition(topic, 0)
        assert await log.begins([topic]) == {at: 0}
        await append(log, topic, numbered(10))
        assert await log.begins([topic]) == {at: 0}
        await under_test.cut(at, before=4)
        assert await log.begins([topic]) == {at: 4}
        await under_test.cut(at, before=10)
        assert await log.begins([topic]) == await log.ends([topic]) == {at: 10}


async def test_a_missing_topic_is_named_in_time(log: Log) -> None:
    there, started = await new_topic(log), time.monotonic()
    with pytest.raises(TopicMissing, match="never-made"):
        await log.ends([there, "never-made"])
    assert time.monotonic() - started < 5
    with pytest.raises(TopicMissing, match="never-made"):
        await log.begins(["never-made"])


async def test_many_may_ask_at_once(log: Log) -> None:
    topics = [await new_topic(log) for _ in range(3)]
    for count, topic in enumerate(topics):
        await append(log, topic, numbered(count + 1))
    answers = await asyncio.gather(*(log.ends([topic]) for topic in topics * 5))
    expected = [{TopicPartition(topic, 0): count + 1} for count, topic in enumerate(topics)]
    assert answers == expected * 5


async def test_a_log_that_is_away_says_so_in_time_and_answers_again(mortal: LogUnderTest) -> None:
    async with mortal.open() as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(3))
        assert await log.ends([topic]) == {TopicPartition(topic, 0): 3}
        await mortal.break_backend()
        for ask in (log.ends, log.begins):
            started = time.monotonic()
            with pytest.raises(LogUnavailable):
                await ask([topic])
            assert time.monotonic() - started < 6
        await mortal.mend_backend()

        async def answers() -> bool:
            try:
                return await log.ends([topic]) == {TopicPartition(topic, 0): 3}
            except LogUnavailable:
                return False

        await eventually(answers)
        await append(log, topic, numbered(1))
        assert await log.ends([topic]) == {TopicPartition(topic, 0): 4}


async def test_asking_reads_no_records_and_joins_no_group(log: Log) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(100))
    started = time.monotonic()
    for _ in range(20):
        await log.ends([topic])
    assert time.monotonic() - started < timedelta(seconds=5).total_seconds()
    extents = await log.survey([topic], group="nobody", positions={})
    assert [extent.owner for extent in extents.values()] == [None]
