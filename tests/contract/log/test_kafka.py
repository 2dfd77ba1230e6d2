"""What only the Kafka adapter can get wrong: frozen brokers, dead library tasks, settings."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from shared.log import Appended, Batch, Consumer, Log, LogUnavailable, Record, Topic, TopicPartition
from shared.log.kafka import KafkaLog, open_kafka_log
from shared.log.kafka.cluster import stopped
from shared.log.kafka.consumer import KafkaConsumer, _as_parsed
from tests.brokers import KafkaBroker, kafka_cluster
from tests.contract.log.backends import BREAKABLE, KafkaUnderTest
from tests.contract.log.reading import (
    GIVE_UP_SECONDS,
    SOON,
    WAIT,
    append,
    eventually,
    new_topic,
    numbered,
    record,
    take,
    values,
)
from tests.kafka_fixtures import require_kafka

_SHORT = timedelta(seconds=1)


@pytest.fixture
def kafka(kafka_broker: KafkaBroker) -> KafkaUnderTest:
    return KafkaUnderTest(kafka_broker)


@pytest.fixture
async def log(kafka: KafkaUnderTest) -> AsyncIterator[Log]:
    async with kafka.open() as opened:
        yield opened


@pytest.fixture
async def frozen(mortal_broker: KafkaBroker) -> AsyncIterator[KafkaUnderTest]:
    """A log on a broker that the test may freeze; thawed afterwards."""
    try:
        yield KafkaUnderTest(mortal_broker, request_timeout=BREAKABLE)
    finally:
        mortal_broker.thaw()


async def test_a_frozen_broker_delays_nobody_beyond_the_deadline(frozen: KafkaUnderTest) -> None:
    async with frozen.open() as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(10))
        async with log.follow(topic) as follower:
            await take(follower, 10)
            frozen.broker.freeze()
            started = time.monotonic()
            assert await _outcome(log, topic, _SHORT) is Appended.UNKNOWN
            assert time.monotonic() - started < 1.5
            # A probe a second, two seconds long: then appends are refused at once.
            await eventually(lambda: _is_refused_at_once(log, topic))
            assert time.monotonic() - started < 5
            assert not await follower.fetch(max_records=10, wait=WAIT)
            frozen.broker.thaw()
            await eventually(lambda: _is_durable(log, topic))
            await take(follower, 1)


async def test_records_that_wait_in_the_client_are_not_copied(log: Log) -> None:
    """By names of the library that are its own: another version may have other ones."""
    topic = await new_topic(log)
    await append(log, topic, numbered(500))
    async with log.follow(topic) as follower:
        assert isinstance(follower, KafkaConsumer)
        taken = await take(follower, 1, max_records=10)
        taken += await take(follower, 1, max_records=10)
        assert follower._current is not None
        (waiting,) = follower._current._fetcher._records.values()
        assert waiting._partition_records._consumer_record is _as_parsed
        taken += await take(follower, 500 - len(taken))
    assert values(taken) == [str(number) for number in range(500)]
    assert {stored.headers for _, stored in taken} == {()}


async def test_what_is_on_its_way_is_bounded_and_comes_back(frozen: KafkaUnderTest) -> None:
    async with open_kafka_log(
        frozen.broker.bootstrap_servers,
        topic_prefix=frozen.prefix,
        request_timeout=BREAKABLE,
        max_in_flight_records=10,
        max_in_flight_bytes=10_000,
    ) as log:
        topic = await new_topic(log)
        with pytest.raises(LogUnavailable, match="too much"):
            await log.append(topic, numbered(11), deadline=SOON)
        with pytest.raises(LogUnavailable, match="too much"):
            await log.append(topic, [record("k", "x" * 10_000)], deadline=SOON)
        await append(log, topic, numbered(10))
        frozen.broker.freeze()
        calls = [_outcome(log, topic, _SHORT) for _ in range(30)]
        outcomes = await asyncio.gather(*calls)
        # One went off, nine waited behind it and were taken back, twenty found no room.
        assert outcomes.count(None) >= 20
        frozen.broker.thaw()
        await eventually(lambda: _is_durable(log, topic))
        await append(log, topic, numbered(10))


async def test_what_was_never_sent_is_known_not_to_be_stored(frozen: KafkaUnderTest) -> None:
    async with frozen.open() as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(1))
        frozen.broker.freeze()
        first = asyncio.create_task(_outcome(log, topic, _SHORT))
        await asyncio.sleep(0.05)
        # Behind the batch that hangs: given up before it was sent.
        with pytest.raises(LogUnavailable):
            await log.append(topic, [record("k", "never")], deadline=timedelta(milliseconds=300))
        await first
        frozen.broker.thaw()
        await eventually(lambda: _is_durable(log, topic, "last"))
        async with log.follow(topic) as follower:
            seen: list[str] = []
            async with asyncio.timeout(GIVE_UP_SECONDS):
                while "last" not in seen:
                    seen += values(await take(follower, 1))
        assert "never" not in seen


async def test_a_producer_whose_sender_died_is_replaced(log: KafkaLog) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(1))
    producer = log._producer.current
    assert producer is not None
    producer._sender.sender_task.cancel()
    await eventually(lambda: _differs(producer, lambda: log._producer.current))
    await append(log, topic, numbered(1))


@pytest.mark.parametrize("task", ["_coordinator._coordination_task", "_fetcher._fetch_task"])
async def test_a_consumer_whose_tasks_died_is_replaced(log: Log, task: str) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(5))
    async with log.consume([topic], group=f"group-{uuid.uuid4().hex[:8]}") as consumer:
        assert isinstance(consumer, KafkaConsumer)
        batch = await _one_batch(consumer)
        library = consumer._current
        owner, name = task.split(".")
        getattr(getattr(library, owner), name).cancel()
        await eventually(lambda: _differs(library, lambda: consumer._current))
        assert not consumer.is_current(batch)
        assert values(await take(consumer, 5)) == ["0", "1", "2", "3", "4"]


async def test_a_follower_whose_tasks_died_goes_on_where_it_was(log: Log) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(5))
    async with log.follow(topic) as follower:
        assert isinstance(follower, KafkaConsumer)
        await take(follower, 5)
        library = follower._current
        assert library is not None
        library._fetcher._fetch_task.cancel()
        await eventually(lambda: _differs(library, lambda: follower._current))
        await append(log, topic, numbered(1, first=5))
        assert values(await take(follower, 1)) == ["5"]


async def test_a_client_that_cannot_be_stopped_is_left_in_time() -> None:
    class Hanging:
        async def stop(self) -> None:
            await asyncio.sleep(3600)

    class Cancelling:
        async def stop(self) -> None:
            raise asyncio.CancelledError

    started = time.monotonic()
    await stopped(Hanging())
    await stopped(Cancelling())
    assert time.monotonic() - started < 8


async def test_a_cancelled_fetch_loses_nothing(log: Log) -> None:
    topic = await new_topic(log)
    async with log.follow(topic) as follower:
        fetching = asyncio.create_task(follower.fetch(max_records=10, wait=timedelta(seconds=20)))
        await asyncio.sleep(0.2)
        fetching.cancel()
        await append(log, topic, numbered(5))
        assert values(await take(follower, 5)) == ["0", "1", "2", "3", "4"]


async def test_a_seek_outdates_what_a_cancelled_fetch_has_taken(log: Log) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(3))
    async with log.follow(topic) as follower:
        assert isinstance(follower, KafkaConsumer)
        await take(follower, 3)
        fetching = asyncio.create_task(follower.fetch(max_records=10, wait=timedelta(seconds=20)))
        await asyncio.sleep(0.2)
        fetching.cancel()
        await append(log, topic, numbered(1, first=3))
        left = follower._fetching
        assert left is not None
        await asyncio.wait({left}, timeout=5)
        follower.seek(TopicPartition(topic, 0), 0)
        assert values(await take(follower, 4)) == ["0", "1", "2", "3"]


async def test_a_rebalance_does_not_wait_for_ever(kafka: KafkaUnderTest) -> None:
    async with open_kafka_log(
        kafka.broker.bootstrap_servers,
        topic_prefix=kafka.prefix,
        session_timeout=timedelta(seconds=3),
        rebalance_timeout=timedelta(seconds=4),
    ) as log:
        topic, group = await new_topic(log, partitions=2), f"group-{uuid.uuid4().hex[:8]}"
        await append(log, topic, [record(f"account-{number}") for number in range(20)])
        async with log.consume([topic], group=group) as stuck:
            await eventually(lambda: _owns(stuck, topic, partitions=2))
            async with stuck.processing(), log.consume([topic], group=group) as other:
                started = time.monotonic()
                assert await take(other, 1)
                assert 1.5 < time.monotonic() - started < 10
                # It gave up its half in time: who holds on for ever is expelled and never learns.
                assert len(stuck.assignment()) == 1


async def test_shutting_down_leaves_no_task_of_the_library_behind(frozen: KafkaUnderTest) -> None:
    before = asyncio.all_tasks()
    async with frozen.open() as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(5))
        group = f"group-{uuid.uuid4().hex[:8]}"
        async with log.consume([topic], group=group) as member, log.follow(topic) as follower:
            await take(member, 5)
            await take(follower, 5)
            frozen.broker.freeze()
            call = asyncio.create_task(_outcome(log, topic, _SHORT))
            await asyncio.sleep(0.1)
    await call

    async def all_ended() -> bool:
        return not asyncio.all_tasks() - before

    async with asyncio.timeout(15):
        await eventually(all_ended)


async def test_wrong_settings_of_a_topic_are_named(kafka: KafkaUnderTest, log: Log) -> None:
    name = f"accounts-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.broker.bootstrap_servers)
    await admin.start()
    try:
        configs = {"retention.ms": "3600000", "message.timestamp.type": "LogAppendTime"}
        await admin.create_topics([NewTopic(kafka.prefix + name, 1, 1, topic_configs=configs)])
    finally:
        await admin.close()
    topic = Topic(name=name, partitions=1, retention=None, compacted=True)
    complaints = " / ".join(await log.check_topics([topic]))
    assert "cleanup.policy=delete, needed is compact" in complaints
    assert "retention.ms=3600000, needed is -1" in complaints
    assert "message.timestamp.type" not in complaints
    assert kafka.prefix + name in complaints


async def test_the_ends_of_partitions_that_were_added_are_told_at_once(
    kafka: KafkaUnderTest, log: Log
) -> None:
    topic = await new_topic(log)
    assert await log.ends([topic]) == {TopicPartition(topic, 0): 0}
    await _grow(kafka, topic, partitions=4)
    async with kafka.open() as fresh:

        async def are_known() -> bool:
            try:
                return len(await fresh.ends([topic])) == 4
            except LogUnavailable:
                return False  # they have no leader yet

        await eventually(are_known)
        await append(fresh, topic, [record(f"account-{number}") for number in range(20)])
    ends = await log.ends([topic])
    assert (len(ends), sum(ends.values())) == (4, 20)


async def test_a_follower_takes_up_partitions_that_were_added(
    kafka: KafkaUnderTest, log: Log
) -> None:
    topic = await new_topic(log)
    await append(log, topic, numbered(3))
    async with log.follow(topic) as follower:
        assert isinstance(follower, KafkaConsumer)
        await take(follower, 3)
        await _grow(kafka, topic, partitions=4)
        library = follower._current
        assert library is not None
        # By itself it looks once a minute.
        await library._client.force_metadata_update()
        await eventually(lambda: _owns(follower, topic, partitions=4))
        async with kafka.open() as fresh:
            await append(fresh, topic, [record(f"account-{number}") for number in range(20)])
        taken = await take(follower, 20)
        assert len(taken) == 20
        assert len({partition for partition, _stored in taken}) == 4


async def test_appends_go_on_when_one_broker_of_three_dies(tmp_path: Path) -> None:
    require_kafka()
    brokers = await asyncio.to_thread(kafka_cluster, tmp_path)
    try:
        servers = ",".join(broker.bootstrap_servers for broker in brokers)
        async with open_kafka_log(servers, request_timeout=timedelta(seconds=5)) as log:
            topic = await new_topic(log, partitions=6)
            await eventually(lambda: _is_durable(log, topic))
            async with log.follow(topic) as follower:
                await asyncio.to_thread(brokers[1].kill9)
                for number in range(30):
                    await _append_at_last(log, topic, record(f"a-{number}", f"after-{number}"))
                seen: set[str] = set()
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    while not seen >= {f"after-{number}" for number in range(30)}:
                        seen |= set(values(await take(follower, 1)))
    finally:
        for broker in brokers:
            await asyncio.to_thread(broker.stop)


async def _one_batch(consumer: Consumer) -> Batch:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while not (batches := await consumer.fetch(max_records=5, wait=WAIT)):
            pass
    return batches[0]


async def _outcome(log: Log, topic: str, deadline: timedelta) -> Appended | None:
    """None where the log refused: nothing was stored."""
    try:
        [answer] = await log.append(topic, [record("k")], deadline=deadline)
    except LogUnavailable:
        return None
    return answer


async def _is_refused_at_once(log: Log, topic: str) -> bool:
    started = time.monotonic()
    return await _outcome(log, topic, _SHORT) is None and time.monotonic() - started < 0.1


async def _is_durable(log: Log, topic: str, value: str = "x") -> bool:
    return await _is_durable_record(log, topic, record("k", value))


async def _is_durable_record(log: Log, topic: str, one: Record) -> bool:
    try:
        [answer] = await log.append(topic, [one], deadline=SOON)
    except LogUnavailable:
        return False
    return answer is Appended.DURABLE


async def _append_at_last(log: Log, topic: str, one: Record) -> None:
    await eventually(lambda: _is_durable_record(log, topic, one))


async def _differs(old: object, current: Callable[[], object]) -> bool:
    return current() not in {None, old}


async def _owns(consumer: Consumer, topic: str, *, partitions: int = 1) -> bool:
    wanted = {TopicPartition(topic, number) for number in range(partitions)}
    return consumer.assignment() == wanted


async def _grow(kafka: KafkaUnderTest, topic: str, *, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_partitions({kafka.prefix + topic: NewPartitions(total_count=partitions)})
    finally:
        await admin.close()
