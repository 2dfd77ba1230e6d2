"""Appending: durable, in order, within its limits."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from shared.log import MAX_RECORD_BYTES, Appended, Log, Record, TopicMissing
from shared.log.partitioner import partition_of
from tests.contract.log.backends import LogUnderTest
from tests.contract.log.reading import SOON, append, new_topic, numbered, record, take, values


async def test_what_was_answered_as_durable_survives_a_power_cut(mortal: LogUnderTest) -> None:
    async with mortal.open() as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(500))
        await mortal.break_backend()
    await mortal.mend_backend()
    async with mortal.open() as log, log.follow(topic) as consumer:
        assert values(await take(consumer, 500)) == [str(number) for number in range(500)]


async def test_a_record_comes_back_as_it_went_in(log: Log) -> None:
    topic = await new_topic(log)
    sent = [
        Record(key=b"\x00\xff", value=b"\x00{}", headers=(("a", b"1"), ("a", b"\xff"), ("b", b""))),
        Record(key=b"", value=b""),
        Record(key=b"tombstone", value=None),
    ]
    before = datetime.now(UTC)
    await append(log, topic, sent)
    async with log.follow(topic) as consumer:
        taken = [stored for _partition, stored in await take(consumer, 3)]
    assert [Record(key=r.key, value=r.value, headers=r.headers) for r in taken] == sent
    assert [stored.offset for stored in taken] == [0, 1, 2]
    for stored in taken:
        assert stored.appended_at.tzinfo is UTC or stored.appended_at.utcoffset() == timedelta()
        assert abs(stored.appended_at - before) < timedelta(seconds=5)


async def test_a_key_has_its_partition_and_answers_keep_their_places(log: Log) -> None:
    topic = await new_topic(log, partitions=6)
    records = [record(f"account-{number}", str(number)) for number in range(200)]
    await append(log, topic, records)
    async with log.follow(topic) as consumer:
        taken = await take(consumer, 200)
    assert len({partition for partition, _stored in taken}) == 6
    for partition, stored in taken:
        assert partition.topic == topic
        assert partition.partition == partition_of(stored.key, 6)
    assert sorted(values(taken), key=int) == [str(number) for number in range(200)]


async def test_an_append_larger_than_a_batch_keeps_its_order(log: Log) -> None:
    topic = await new_topic(log)
    # 200 x 10 kB = 2 MB: eight batches of 256 KiB.
    records = [record("k", f"{number:03}" + "x" * 10_000) for number in range(200)]
    await append(log, topic, records)
    async with log.follow(topic) as consumer:
        taken = await take(consumer, 200, max_records=50)
    assert [value[:3] for value in values(taken)] == [f"{number:03}" for number in range(200)]


async def test_concurrent_appends_keep_the_order_of_each_key(log: Log) -> None:
    topic = await new_topic(log, partitions=3)

    async def append_in_turn(key: str) -> None:
        for number in range(0, 100, 5):
            await append(log, topic, numbered(5, key=key, first=number))

    await asyncio.gather(*[append_in_turn(f"account-{number}") for number in range(20)])
    async with log.follow(topic) as consumer:
        taken = await take(consumer, 2000)
    by_key: defaultdict[bytes, list[int]] = defaultdict(list)
    for _partition, stored in taken:
        by_key[stored.key].append(int(stored.value or b""))
    assert len(by_key) == 20
    assert all(numbers == list(range(100)) for numbers in by_key.values())


async def test_appends_that_were_not_waited_for_keep_the_order_of_their_calls(log: Log) -> None:
    topic = await new_topic(log)
    # Also the very first ones, while the topic is being looked up, and those that come just after.
    calls = []
    for number in range(300):
        calls.append(asyncio.create_task(append(log, topic, numbered(1, first=number))))
        if number % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*calls)
    async with log.follow(topic) as consumer:
        taken = await take(consumer, 300)
    assert values(taken) == [str(number) for number in range(300)]


async def test_offsets_grow_within_a_partition(log: Log) -> None:
    topic = await new_topic(log, partitions=3)
    await append(log, topic, [record(f"account-{number}") for number in range(300)])
    offsets: defaultdict[int, list[int]] = defaultdict(list)
    async with log.follow(topic) as consumer:
        for partition, stored in await take(consumer, 300, max_records=7):
            offsets[partition.partition].append(stored.offset)
    assert all(found == list(range(len(found))) for found in offsets.values())


async def test_a_record_over_the_limit_is_refused_and_nothing_of_its_append_is_stored(
    log: Log,
) -> None:
    topic = await new_topic(log)
    fitting = Record(key=b"k", value=b"", headers=(("h", b"x"),))
    largest = log.max_record_bytes - len(b"k") - len("h") - len(b"x")
    over = Record(key=b"k", value=b"v" * (largest + 1), headers=fitting.headers)
    with pytest.raises(ValueError, match=str(log.max_record_bytes)):
        await log.append(topic, [fitting, over], deadline=SOON)
    await append(log, topic, [Record(key=b"k", value=b"v" * largest, headers=fitting.headers)])
    async with log.follow(topic) as consumer:
        [(_partition, stored)] = await take(consumer, 1)
    assert stored.offset == 0
    assert stored.value == b"v" * largest


async def test_the_limit_of_a_record_is_the_same_on_every_log(log: Log) -> None:
    assert log.max_record_bytes == MAX_RECORD_BYTES


async def test_an_append_of_nothing_is_done_at_once(log: Log) -> None:
    topic = await new_topic(log)
    assert list(await log.append(topic, [], deadline=SOON)) == []


async def test_a_missing_topic_fails_within_two_seconds_by_its_name(log: Log) -> None:
    async with asyncio.timeout(2):
        with pytest.raises(TopicMissing, match="no-such-topic"):
            await log.append("no-such-topic", [record("k")], deadline=SOON)


async def test_a_topic_made_after_a_failed_append_is_found(log: Log) -> None:
    with pytest.raises(TopicMissing):
        await log.append("late-topic-0", [record("k")], deadline=SOON)
    topic = await new_topic(log)
    answer = await log.append(topic, [record("k")], deadline=SOON)
    assert list(answer) == [Appended.DURABLE]
