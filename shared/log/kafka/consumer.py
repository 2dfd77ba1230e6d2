"""Consuming: a group's member, or a follower of a whole topic, that outlives its brokers.

Every rule here prevents a loss or a standstill that was seen (`log.md`, section 4):

* the generation is read with the records, without an await between, and counted up first thing
  when partitions are revoked;
* the lock of `processing` is never held across a fetch: the rebalance would wait for the lock,
  and the fetch for the rebalance;
* nothing happens when partitions are assigned: their records may arrive before that call;
* `getmany` is never cancelled: the library would from then on believe that it is being polled;
* commits are hints, sent from a task of their own: with the brokers gone they never end.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from shared import logging as logs
from shared.log import Batch, Consumer, Lag, LogUnavailable, StoredRecord, TopicPartition
from shared.log.background import Background
from shared.log.kafka.cluster import (
    Cluster,
    background_tasks,
    milliseconds,
    stopped,
    until,
)
from shared.log.kafka.topics import partitions_of

_START_SECONDS = 10.0
_ANSWER_WITHIN = timedelta(seconds=10)
_RETRY_AFTER_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 1.0
_HINT_EVERY_SECONDS = 1.0
_HINT_WITHIN_SECONDS = 3.0
_LAST_HINT_WITHIN_SECONDS = 1.0
_LAG_WITHIN_SECONDS = 2.0
# A rebalance answers late, and getmany does not look at its own limit then.
_FETCH_GRACE_SECONDS = 0.1
_FETCH_MAX_BYTES = 8 * 1024 * 1024
# The client hands out one partition's records before it comes to the next: a worker that has room
# for several batches at once looks several times.
_LOOKS = 4
_NONE = KafkaPartition("", -1)

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    session_timeout: timedelta
    """After so long without a heartbeat a member's partitions go to others."""
    rebalance_timeout: timedelta
    """So long the others wait for a member that still has a batch in hand."""


_Fetched = Sequence[tuple[Mapping[KafkaPartition, Sequence[ConsumerRecord]], int]]
"""What each look at the client's buffers has found, and the generation right after it."""


class KafkaConsumer:
    """`shared.log.Consumer` on Kafka; see `open_member` and `open_follower`."""

    def __init__(
        self, cluster: Cluster, topics: Iterable[str], *, group: str | None, timing: Timing
    ) -> None:
        self._cluster = cluster
        self._names = [cluster.name_of(topic) for topic in topics]
        self._group = group
        self._timing = timing
        self._current: AIOKafkaConsumer | None = None
        self._connected = asyncio.Event()
        self._failed = asyncio.Event()
        self._generation = 0
        self.rebalances = 0
        self._in_hand = asyncio.Lock()
        self._fetching: asyncio.Task[_Fetched] | None = None
        self._taken: set[KafkaPartition] = set()
        """Partitions whose records the fetch in `_fetching` has taken."""
        self._outdated: set[KafkaPartition] = set()
        """Those of them that were sought since."""
        self._hints: dict[KafkaPartition, int] = {}
        self._next: dict[KafkaPartition, int] = {}
        """A follower's positions, kept for a new connection."""
        self._seen: dict[KafkaPartition, datetime] = {}
        """When we last knew to be at the end, or the age of what was handed out."""

    async def fetch(
        self, *, max_records: int, wait: timedelta, but: Collection[TopicPartition] = ()
    ) -> Sequence[Batch]:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait.total_seconds()
        if self._fetching is None:
            await until(self._connected, ends_at)
            if self._current is None:
                return ()
            left = max(timedelta(), timedelta(seconds=ends_at - loop.time()))
            self._outdated.clear()
            self._taken.clear()
            without = frozenset(map(self._own, but))
            self._fetching = asyncio.create_task(
                self._get(self._current, max_records, left, without)
            )
        fetching = self._fetching
        await asyncio.wait({fetching}, timeout=ends_at - loop.time() + _FETCH_GRACE_SECONDS)
        if not fetching.done():
            return ()  # a rebalance is going on; the next call goes on waiting
        self._fetching = None
        if fetching.cancelled():
            return ()
        if error := fetching.exception():
            # Whatever it is (a broken coordination, an unreadable batch): begin anew.
            log.warning("log.fetch_failed", error=repr(error))
            self._failed.set()
            await asyncio.sleep(max(0.0, min(_RETRY_AFTER_SECONDS, ends_at - loop.time())))
            return ()
        return self._batches(fetching.result())

    def is_current(self, batch: Batch) -> bool:
        return batch.generation == self._generation and batch.partition in self.assignment()

    @asynccontextmanager
    async def processing(self) -> AsyncIterator[None]:
        async with self._in_hand:
            yield

    def seek(self, partition: TopicPartition, offset: int) -> None:
        own = self._own(partition)
        if self._current is None or own not in self._current.assignment():
            raise ValueError(f"{partition} is not assigned")
        self._current.seek(own, offset)
        self._next[own] = offset
        if self._fetching is not None and own in self._taken:
            self._outdated.add(own)

    def hint(self, partition: TopicPartition, next_offset: int) -> None:
        if self._group is not None:
            self._hints[self._own(partition)] = next_offset

    def assignment(self) -> frozenset[TopicPartition]:
        if self._current is None:
            return frozenset()
        return frozenset(
            TopicPartition(self._cluster.topic_of(own.topic), own.partition)
            for own in self._current.assignment()
        )

    def partitions(self) -> Mapping[str, int]:
        if self._current is None:
            return {}
        known = {name: self._current.partitions_for_topic(name) for name in self._names}
        return {
            self._cluster.topic_of(name): len(numbers) for name, numbers in known.items() if numbers
        }

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        consumer = self._current
        if consumer is None:
            raise LogUnavailable("Kafka is away: the consumer is not connected")
        try:
            async with asyncio.timeout(_LAG_WITHIN_SECONDS):
                ends = await consumer.end_offsets(list(consumer.assignment()))
                positions = await _positions(consumer)
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailable(f"Kafka does not tell the lag: {error!r}") from error
        now = datetime.now(UTC)
        lags: dict[TopicPartition, Lag] = {}
        for own, position in positions.items():
            behind = max(0, ends[own] - position) if own in ends else 0
            if not behind:
                self._seen[own] = now
            seconds = (now - self._seen.setdefault(own, now)).total_seconds()
            partition = TopicPartition(self._cluster.topic_of(own.topic), own.partition)
            lags[partition] = Lag(records=behind, seconds=max(0.0, seconds))
        return lags

    async def run(self) -> None:
        """Keep a working consumer, for ever."""
        while True:
            try:
                consumer = await self._started()
            except (KafkaError, OSError, TimeoutError, LogUnavailable) as error:
                log.warning("log.consumer_not_started", error=repr(error))
                await asyncio.sleep(_RETRY_AFTER_SECONDS)
                continue
            try:
                self._current = consumer
                self._failed.clear()
                self._connected.set()
                await self._watch(consumer)
                log.warning("log.consumer_replaced", group=self._group, topics=self._names)
            finally:
                await self._retire(consumer)

    async def publish_hints(self) -> None:
        """Commit what was hinted, once a second, for ever."""
        while True:
            await asyncio.sleep(_HINT_EVERY_SECONDS)
            await self._commit(within=_HINT_WITHIN_SECONDS)

    async def publish_last_hints(self) -> None:
        await self._commit(within=_LAST_HINT_WITHIN_SECONDS)

    async def revoked(self) -> None:
        """Partitions are being taken: nothing in hand is current, wait for it to be put down."""
        self._generation += 1
        limit = self._timing.rebalance_timeout.total_seconds() / 2
        try:
            async with asyncio.timeout(limit), self._in_hand:
                pass
        except TimeoutError:
            # The others get the partitions; the position in the database fences what is in hand.
            log.warning("log.rebalance_did_not_wait", group=self._group, seconds=limit)

    async def _get(
        self,
        consumer: AIOKafkaConsumer,
        max_records: int,
        wait: timedelta,
        without: frozenset[KafkaPartition],
    ) -> _Fetched:
        fetched = []
        others: frozenset[KafkaPartition] = frozenset()  # of all, at first
        if without:
            # Of none, the library would hand out all; and it is to see that it is being polled.
            others = (consumer.assignment() - without) or frozenset({_NONE})
        for look in range(_LOOKS):
            _spare_copies(consumer)
            records = await consumer.getmany(
                *others, timeout_ms=0 if look else milliseconds(wait), max_records=max_records
            )
            # No await before this line: a rebalance in between would put its number on old records.
            fetched.append((records, self._generation))
            self._taken |= records.keys()
            others = consumer.assignment() - self._taken - without
            if not records or not others:
                break
        return fetched

    def _batches(self, fetched: _Fetched) -> list[Batch]:
        batches = []
        for found, generation in fetched:
            if generation != self._generation or self._current is None:
                continue  # revoked since; the new owner reads them again
            for own, records in found.items():
                if own in self._outdated or not records:
                    continue
                partition = TopicPartition(self._cluster.topic_of(own.topic), own.partition)
                stored = _stored(records)
                batches.append(Batch(partition=partition, records=stored, generation=generation))
                self._next[own] = stored[-1].offset + 1
                self._seen[own] = stored[-1].appended_at
        return batches

    async def _started(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(**self._options())
        try:
            async with asyncio.timeout(_START_SECONDS):
                await consumer.start()
                if self._group is None:
                    await self._assign_everything(consumer)
                    self.rebalances += 1
                else:
                    # After start(), which would else wait, perhaps a minute, for the group.
                    consumer.subscribe(self._names, listener=_Listener(self))
        except BaseException:
            await stopped(consumer)  # a start that failed leaves a dead object
            raise
        return consumer

    def _options(self) -> Mapping[str, object]:
        session = self._timing.session_timeout
        # Joining a group may take as long as a dead member's session lasts. A follower joins none,
        # and must leave a connection that has gone silent soon: revoked keys come on it.
        request_timeout = _ANSWER_WITHIN if self._group is None else session + _ANSWER_WITHIN
        return {
            **self._cluster.connection(request_timeout=request_timeout),
            "group_id": self._group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "session_timeout_ms": milliseconds(session),
            "heartbeat_interval_ms": milliseconds(session / 10),
            "rebalance_timeout_ms": milliseconds(self._timing.rebalance_timeout),
            "fetch_max_bytes": _FETCH_MAX_BYTES,
            "fetch_max_wait_ms": 250,
        }

    async def _assign_everything(self, consumer: AIOKafkaConsumer) -> None:
        topics = [self._cluster.topic_of(name) for name in self._names]
        counts = await partitions_of(self._cluster, topics)
        consumer.assign(
            [
                KafkaPartition(self._cluster.name_of(topic), partition)
                for topic, count in counts.items()
                for partition in range(count)
            ]
        )
        for own, offset in self._next.items():
            if own in consumer.assignment():
                consumer.seek(own, offset)

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """Return when the consumer must be replaced."""
        loop = asyncio.get_running_loop()
        tasks = background_tasks(consumer)
        while not self._failed.is_set() and not any(task.done() for task in tasks):
            if self._group is None and self._has_grown(consumer):
                return
            await until(self._failed, loop.time() + _LOOK_EVERY_SECONDS)

    def _has_grown(self, consumer: AIOKafkaConsumer) -> bool:
        assigned = {own.partition for own in consumer.assignment()}
        return bool((consumer.partitions_for_topic(self._names[0]) or set()) - assigned)

    async def _retire(self, consumer: AIOKafkaConsumer) -> None:
        self._connected.clear()
        self._current = None  # with it the assignment: no batch is current any more
        if self._fetching is not None:
            self._fetching.cancel()
            self._fetching = None
        await stopped(consumer)

    async def _commit(self, *, within: float) -> None:
        consumer, hints = self._current, self._hints
        if consumer is None:
            return
        assigned = consumer.assignment()
        offsets = {own: offset for own, offset in hints.items() if own in assigned}
        self._hints = {}
        if not offsets:
            return
        try:
            async with asyncio.timeout(within):
                await consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.info("log.hint_failed", error=repr(error))
            self._hints = offsets | self._hints

    def _own(self, partition: TopicPartition) -> KafkaPartition:
        return KafkaPartition(self._cluster.name_of(partition.topic), partition.partition)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the library is untyped
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, _revoked: object) -> None:
        await self._consumer.revoked()

    async def on_partitions_assigned(self, _assigned: object) -> None:
        """Only counted: records of the new partitions may be in hand already."""
        self._consumer.rebalances += 1


@asynccontextmanager
async def open_member(
    cluster: Cluster,
    topics: Sequence[str],
    background: Background,
    *,
    group: str,
    timing: Timing,
) -> AsyncIterator[Consumer]:
    await partitions_of(cluster, topics)
    consumer = KafkaConsumer(cluster, topics, group=group, timing=timing)
    async with _open(consumer, background):
        yield consumer


@asynccontextmanager
async def open_follower(
    cluster: Cluster, topic: str, background: Background, *, timing: Timing
) -> AsyncIterator[Consumer]:
    await partitions_of(cluster, [topic])
    consumer = KafkaConsumer(cluster, [topic], group=None, timing=timing)
    async with _open(consumer, background):
        yield consumer


@asynccontextmanager
async def _open(consumer: KafkaConsumer, background: Background) -> AsyncIterator[None]:
    async with background.running("kafka.consumer", consumer.run()):
        try:
            async with background.running("kafka.hints", consumer.publish_hints()):
                yield
        finally:
            await consumer.publish_last_hints()


async def _positions(consumer: AIOKafkaConsumer) -> Mapping[KafkaPartition, int]:
    """The next offset of each partition; where it is not known yet, the partition's beginning."""
    state = consumer._subscription.subscription.assignment  # noqa: SLF001  # position() may wait long
    if state is None:
        return {}
    known = {
        own: state.state_value(own).position
        for own in state.tps
        if state.state_value(own).has_valid_position
    }
    unknown = list(state.tps - known.keys())
    beginnings = await consumer.beginning_offsets(unknown) if unknown else {}
    return {**known, **beginnings}


def _spare_copies(consumer: AIOKafkaConsumer) -> None:
    """Have the client hand out the records of its buffers as they were parsed.

    It copies each into a `ConsumerRecord` otherwise, which has the same names and takes more than
    half of all its time (measured). What comes into the buffers later is still copied.
    """
    for fetched in consumer._fetcher._records.values():  # noqa: SLF001  # no setting for it
        if isinstance(fetched, FetchResult) and fetched.has_more():
            fetched._partition_records._consumer_record = _as_parsed  # noqa: SLF001


def _as_parsed(_partition: KafkaPartition, record: ConsumerRecord) -> ConsumerRecord:
    return record


def _stored(records: Sequence[ConsumerRecord]) -> list[StoredRecord]:
    stored = []
    milliseconds_, appended_at = 0, datetime.fromtimestamp(0, UTC)
    for record in records:
        if record.timestamp != milliseconds_:  # many records have the moment of the one before
            milliseconds_ = record.timestamp
            appended_at = datetime.fromtimestamp(milliseconds_ / 1000, UTC)
        headers = record.headers
        stored.append(
            StoredRecord(
                offset=record.offset,
                key=record.key or b"",
                value=record.value,
                # Others may send headers without a value.
                headers=tuple((name, value or b"") for name, value in headers) if headers else (),
                appended_at=appended_at,
            )
        )
    return stored
