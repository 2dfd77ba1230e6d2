"""A consumer that hands out what is settled: nothing early, nothing lost, the order kept."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from shared.log import Consumer, Log, StoredRecord, TopicPartition
from shared.log.partitioner import partition_of
from shared.log.settled import Settled
from tests.contract.log.reading import (
    GIVE_UP_SECONDS,
    WAIT,
    Taken,
    append,
    eventually,
    new_topic,
    numbered,
    record,
    take,
    values,
)

_FAR = datetime(2100, 1, 1, tzinfo=UTC)


class _Until:
    """The moment that a test moves on, and how often the consumer waited for it."""

    def __init__(self, moment: datetime | None = None) -> None:
        self.moment = moment
        self.waits = 0

    def __call__(self) -> datetime | None:
        return self.moment

    def waited(self) -> None:
        self.waits += 1


@asynccontextmanager
async def _settled(
    log: Log, topic: str, until: _Until, *, group: str | None = None
) -> AsyncIterator[Settled]:
    group = group or f"group-{uuid.uuid4().hex[:8]}"
    async with log.consume([topic], group=group) as consumer:
        yield Settled(consumer, until, waited=until.waited)


async def test_what_is_too_young_is_held_until_its_moment_has_come(log: Log) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(5))
    [*_, last] = await _stored(log, topic, 5)
    await asyncio.sleep(0.01)  # another millisecond
    await append(log, topic, numbered(5, first=5))
    [*_, latest] = await _stored(log, topic, 10)
    until = _Until()
    async with _settled(log, topic, until) as consumer:
        await _until_held(consumer, 10)
        assert not await consumer.fetch(max_records=100, wait=WAIT)
        until.moment = last.appended_at - timedelta(microseconds=1)
        assert not await consumer.fetch(max_records=100, wait=WAIT)
        until.moment = last.appended_at
        [batch] = await consumer.fetch(max_records=100, wait=WAIT)
        assert consumer.is_current(batch)
        assert [stored.value for stored in batch.records] == [b"0", b"1", b"2", b"3", b"4"]
        assert not await consumer.fetch(max_records=100, wait=WAIT)
        until.moment = latest.appended_at
        [batch] = await consumer.fetch(max_records=3, wait=WAIT)
        assert [stored.value for stored in batch.records] == [b"5", b"6", b"7"]
        [batch] = await consumer.fetch(max_records=3, wait=WAIT)
        assert [stored.value for stored in batch.records] == [b"8", b"9"]
        assert batch.next == 10


async def test_a_clock_of_the_log_that_is_ahead_of_ours_stops_nothing(log: Log) -> None:
    topic, ours = await new_topic(log), datetime.now(UTC) - timedelta(hours=1)
    until = _Until(ours - timedelta(seconds=1))
    async with log.consume([topic], group=f"group-{uuid.uuid4().hex[:8]}") as consumer:
        settled = Settled(consumer, until, waited=until.waited, clock=lambda: ours)
        await append(log, topic, numbered(3))
        await _until_held(settled, 3)
        assert not await settled.fetch(max_records=10, wait=WAIT)
        # All that was said by the moment when they came is known.
        until.moment = ours
        [batch] = await settled.fetch(max_records=10, wait=WAIT)
        assert [stored.value for stored in batch.records] == [b"0", b"1", b"2"]


async def test_what_is_held_of_all_partitions_is_bounded(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.log.settled._MOST_BYTES", 10)
    topic, until = await new_topic(log, partitions=2), _Until()
    keys = {partition_of(key.encode(), 2): key for key in "abcdefgh"}
    await append(log, topic, numbered(20, key=keys[0]))
    async with log.consume([topic], group=f"group-{uuid.uuid4().hex[:8]}") as consumer:
        settled = Settled(consumer, until, waited=until.waited)
        await _until_held(settled, 20)
        await append(log, topic, numbered(20, key=keys[1], first=20))
        for _ in range(3):
            assert not await settled.fetch(max_records=100, wait=WAIT)
        assert len(settled._young) == 1
        until.moment = _FAR
        taken = await take(settled, 40, max_records=100)
    assert sorted(map(int, values(taken))) == list(range(40))


async def test_a_young_partition_holds_up_no_other(log: Log) -> None:
    topic = await new_topic(log, partitions=2)
    keys = {partition_of(key.encode(), 2): key for key in "abcdefgh"}
    await append(log, topic, numbered(20, key=keys[0]))
    old = await _stored(log, topic, 20)
    await asyncio.sleep(0.01)  # another millisecond
    await append(log, topic, numbered(20, key=keys[1], first=20))
    until = _Until()
    async with _settled(log, topic, until) as consumer:
        await _until_held(consumer, 40)
        until.moment = max(stored.appended_at for stored in old)
        taken = await take(consumer, 20, max_records=3)
        await append(log, topic, numbered(20, key=keys[0], first=40))
        assert not await consumer.fetch(max_records=100, wait=WAIT)
        assert values(taken) == [str(number) for number in range(20)]
        until.moment = _FAR
        taken = await take(consumer, 40, max_records=3)
    assert sorted(values(taken)) == [str(number) for number in range(20, 60)]
    for number, key in keys.items():
        own = [int(stored.value or b"") for at, stored in taken if at.partition == number]
        assert own == sorted(own), key


async def test_holding_back_is_waiting_and_having_nothing_is_not(log: Log) -> None:
    topic, until = await new_topic(log), _Until()
    async with _settled(log, topic, until) as consumer:
        await eventually(lambda: _has(consumer, 1))
        for _ in range(3):
            assert not await consumer.fetch(max_records=10, wait=WAIT)
        assert until.waits == 0
        await append(log, topic, numbered(1))
        await _until_held(consumer, 1)
        waits = until.waits
        started = time.monotonic()
        assert not await consumer.fetch(max_records=10, wait=WAIT)
        assert time.monotonic() - started > WAIT.total_seconds() / 2, "it is to wait, not to spin"
        assert until.waits == waits + 1
        until.moment = _FAR
        await take(consumer, 1)
        waits = until.waits
        assert not await consumer.fetch(max_records=10, wait=WAIT)
        assert until.waits == waits


async def test_what_is_held_counts_as_lag(log: Log) -> None:
    topic, until = await new_topic(log), _Until()
    at = TopicPartition(topic, 0)
    await append(log, topic, numbered(30))
    async with _settled(log, topic, until) as consumer:
        for _ in range(5):
            assert not await consumer.fetch(max_records=10, wait=WAIT)
            lags = await consumer.lag()
            assert all(lag.records == 30 for lag in lags.values())
        until.moment = _FAR
        await take(consumer, 30, max_records=10)

        async def none_left() -> bool:
            return (await consumer.lag())[at].records == 0

        await eventually(none_left)


async def test_a_seek_goes_back_behind_what_is_held(log: Log) -> None:
    topic, until = await new_topic(log), _Until(_FAR)
    at = TopicPartition(topic, 0)
    await append(log, topic, numbered(20))
    async with _settled(log, topic, until) as consumer:
        assert values(await take(consumer, 5, max_records=5)) == list("01234")
        until.moment = None
        await _until_held(consumer, 15)
        consumer.seek(at, 3)
        until.moment = _FAR
        assert values(await take(consumer, 17)) == [str(number) for number in range(3, 20)]


async def test_what_is_held_goes_with_its_partition_to_another_member(log: Log) -> None:
    topic, until = await new_topic(log, partitions=2), _Until()
    group = f"group-{uuid.uuid4().hex[:8]}"
    sent = [record(f"account-{number}", str(number)) for number in range(60)]
    await append(log, topic, sent)
    async with _settled(log, topic, until, group=group) as stays:
        await _until_held(stays, 60)
        async with _settled(log, topic, until, group=group) as comes:

            async def shared() -> bool:
                for consumer in (stays, comes):
                    assert not await consumer.fetch(max_records=100, wait=WAIT)
                return len(stays.assignment()) == len(comes.assignment()) == 1

            await eventually(shared)
            until.moment = _FAR
            taken: Taken = []
            async with asyncio.timeout(GIVE_UP_SECONDS):
                while len(taken) < 60:
                    for consumer in (stays, comes):
                        for batch in await consumer.fetch(max_records=100, wait=WAIT):
                            assert consumer.is_current(batch)
                            assert batch.partition in consumer.assignment()
                            taken += [(batch.partition, one) for one in batch.records]
    assert sorted(values(taken)) == sorted(str(number) for number in range(60))
    for partition in {at for at, _ in taken}:
        offsets = [one.offset for at, one in taken if at == partition]
        assert offsets == sorted(offsets)


async def _stored(log: Log, topic: str, count: int) -> list[StoredRecord]:
    return [one for _, one in await _all_stored(log, topic, count)]


async def _all_stored(
    log: Log, topic: str, count: int
) -> list[tuple[TopicPartition, StoredRecord]]:
    async with log.follow(topic) as follower:
        return await take(follower, count)


async def _until_held(consumer: Settled, count: int) -> None:
    """Fetch until the consumer has got so many, of which it hands out none."""

    async def held() -> bool:
        assert not await consumer.fetch(max_records=100, wait=WAIT)
        return sum(len(batch.records) for batch in consumer._young.values()) == count

    await eventually(held)


async def _has(consumer: Consumer, partitions: int) -> bool:
    return len(consumer.assignment()) == partitions
