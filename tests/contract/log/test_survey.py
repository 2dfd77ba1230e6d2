"""Looking at a topic from outside: its extent, who reads it, and since when records wait."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from shared.log import Extent, Log, Topic, TopicMissing, TopicPartition
from tests.contract.log.backends import LogUnderTest
from tests.contract.log.reading import append, numbered, take

_SECONDS = 30


async def _topic(log: Log, *, partitions: int = 1) -> str:
    name = f"surveyed-{uuid.uuid4().hex[:8]}"
    await log.create_topics([Topic(name=name, partitions=partitions, retention=timedelta(days=7))])
    return name


async def test_what_nobody_reads_has_no_owner_and_waits_since_its_first_record(log: Log) -> None:
    topic = await _topic(log)
    await append(log, topic, numbered(5))
    async with log.follow(topic) as consumer:
        records = [stored for _, stored in await take(consumer, 5)]
    found = await log.survey([topic], group=topic, positions={})
    first = Extent(begin=0, end=5, owner=None, waiting_since=records[0].appended_at)
    assert found == {TopicPartition(topic, 0): first}


async def test_it_waits_since_the_record_at_the_asked_position(log: Log) -> None:
    topic = await _topic(log)
    await append(log, topic, numbered(3))
    await asyncio.sleep(0.01)  # another millisecond
    await append(log, topic, numbered(2))
    async with log.follow(topic) as consumer:
        records = [stored for _, stored in await take(consumer, 5)]
    at = TopicPartition(topic, 0)
    [later] = (await log.survey([topic], group=topic, positions={at: 3})).values()
    assert later.waiting_since == records[3].appended_at > records[0].appended_at
    [none] = (await log.survey([topic], group=topic, positions={at: 5})).values()
    assert none.waiting_since is None


async def test_an_empty_topic_and_a_position_beyond_its_end_are_seen(log: Log) -> None:
    topic = await _topic(log)
    at = TopicPartition(topic, 0)
    found = await log.survey([topic], group=topic, positions={at: 7})
    assert found == {at: Extent(begin=0, end=0, owner=None, waiting_since=None)}


async def test_what_was_cut_off_is_seen_in_the_beginning(under_test: LogUnderTest) -> None:
    async with under_test.open() as log:
        topic = await _topic(log)
        await append(log, topic, numbered(10))
        await under_test.cut(TopicPartition(topic, 0), before=4)
        [extent] = (await log.survey([topic], group=topic, positions={})).values()
    assert (extent.begin, extent.end) == (4, 10)


async def test_each_partition_that_is_read_has_one_owner(under_test: LogUnderTest) -> None:
    group = uuid.uuid4().hex
    async with under_test.open() as log:
        topic = await _topic(log, partitions=4)
        async with (
            asyncio.timeout(_SECONDS),
            log.consume([topic], group=group) as one,
            log.consume([topic], group=group) as other,
        ):
            while len(one.assignment()) != 2 or len(other.assignment()) != 2:
                await one.fetch(max_records=1, wait=timedelta(milliseconds=100))
                await other.fetch(max_records=1, wait=timedelta(milliseconds=100))
            found = await log.survey([topic], group=group, positions={})
    assert all(extent.owner for extent in found.values())


async def test_a_missing_topic_is_named(log: Log) -> None:
    with pytest.raises(TopicMissing, match="never-made"):
        await log.survey(["never-made"], group="any", positions={})
