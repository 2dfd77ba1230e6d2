"""The backend goes away: nothing hangs, nothing pretends, and everything goes on by itself."""

import asyncio
import time
import uuid
from datetime import timedelta

import pytest

from shared.log import Appended, Log, LogUnavailable, Record, TopicPartition
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

_DEADLINE = timedelta(seconds=2)


async def test_log_and_consumer_outlive_a_restart_of_the_backend(mortal: LogUnderTest) -> None:
    async with mortal.open() as log:
        topic, group = await new_topic(log), f"group-{uuid.uuid4().hex[:8]}"
        await append(log, topic, numbered(10))
        async with log.consume([topic], group=group) as consumer, log.follow(topic) as follower:
            assert values(await take(consumer, 10)) == [str(number) for number in range(10)]
            assert len(await take(follower, 10)) == 10
            assert await log.ping()

            await mortal.break_backend()
            await _append_fails_in_time(log, topic)
            assert not await log.ping()
            for one in (consumer, follower):
                started = time.monotonic()
                assert not await one.fetch(max_records=10, wait=WAIT)
                assert time.monotonic() - started < 3
            with pytest.raises(LogUnavailable):
                await consumer.lag()
            consumer.hint(TopicPartition(topic, 0), 10)

            await mortal.mend_backend()
            await eventually(lambda: _appends(log, topic, record("k", "after")))
            await eventually(log.ping)
            for one in (consumer, follower):
                # What was unknown may be there too, and a new membership may begin at the hint.
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    while "after" not in values(await take(one, 1)):
                        pass
            await eventually(lambda: _has_no_lag(consumer.lag))


async def test_a_follower_does_not_begin_anew_after_an_outage(mortal: LogUnderTest) -> None:
    async with mortal.open() as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(10))
        async with log.follow(topic) as follower:
            _partition, last = (await take(follower, 10))[-1]
            await mortal.break_backend()
            await mortal.mend_backend()
            await eventually(lambda: _appends(log, topic, record("k", "after")))
            [(_partition, first), *_rest] = await take(follower, 1)
            assert first.offset == last.offset + 1


async def test_what_was_answered_before_and_after_an_outage_is_there_in_order(
    mortal: LogUnderTest,
) -> None:
    """Under a stream of appends; one in flight at the outage may come twice, or not at all."""
    async with mortal.open() as log:
        topic = await new_topic(log)
        durable: list[int] = []
        stop = asyncio.Event()

        async def stream() -> None:
            number = 0
            while not stop.is_set():
                if await _appends(log, topic, record("k", str(number))):
                    durable.append(number)
                else:
                    await asyncio.sleep(0.05)
                number += 1

        async def more_than(count: int) -> bool:
            return len(durable) > count

        streaming = asyncio.create_task(stream())
        await eventually(lambda: more_than(50))
        await mortal.break_backend()
        await mortal.mend_backend()
        before = len(durable)
        await eventually(lambda: more_than(before + 50))
        stop.set()
        await streaming
        async with log.follow(topic) as consumer:
            taken: list[int] = []
            async with asyncio.timeout(GIVE_UP_SECONDS):
                while durable[-1] not in taken:
                    taken.extend(int(value) for value in values(await take(consumer, 1)))
        # A batch whose answer was lost on its way is sent again: its second copy means nothing.
        first_seen = dict.fromkeys(taken)
        assert [number for number in first_seen if number in set(durable)] == durable


async def test_the_log_opens_while_its_backend_is_away(mortal: LogUnderTest) -> None:
    async with mortal.open() as log:
        topic = await new_topic(log)
    await mortal.break_backend()
    async with asyncio.timeout(GIVE_UP_SECONDS), mortal.open() as log:
        await _append_fails_in_time(log, topic)
        assert not await log.ping()
        started = time.monotonic()
        with pytest.raises(LogUnavailable):
            await log.consume([topic], group="nobody").__aenter__()
        assert time.monotonic() - started < 3
        await mortal.mend_backend()
        await eventually(lambda: _appends(log, topic, record("k")))


async def test_shutting_down_without_the_backend_ends_in_time(mortal: LogUnderTest) -> None:
    async with mortal.open() as log:
        topic = await new_topic(log, partitions=3)
        await append(log, topic, [record(f"account-{number}") for number in range(30)])
        async with (
            log.consume([topic], group=f"group-{uuid.uuid4().hex[:8]}") as consumer,
            log.follow(topic) as follower,
        ):
            for partition, stored in await take(consumer, 30):
                consumer.hint(partition, stored.offset + 1)
            await take(follower, 30)
            await mortal.break_backend()
            appending = asyncio.create_task(_appends(log, topic, record("k")))
            await asyncio.sleep(0.1)
            started = time.monotonic()
    assert time.monotonic() - started < 15
    assert await appending is False


async def _append_fails_in_time(log: Log, topic: str) -> None:
    """One try may find out the hard way; then the log knows, and says so at once."""
    started = time.monotonic()
    assert not await _appends(log, topic, record("k", "unknown"))
    assert time.monotonic() - started < _DEADLINE.total_seconds() + 1


async def _appends(log: Log, topic: str, one: Record) -> bool:
    try:
        [answer] = await log.append(topic, [one], deadline=_DEADLINE)
    except LogUnavailable:
        return False
    return answer is Appended.DURABLE


async def _has_no_lag(lag: object) -> bool:
    assert callable(lag)
    try:
        return {behind.records for behind in (await lag()).values()} == {0}
    except LogUnavailable:
        return False
