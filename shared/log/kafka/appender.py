"""Appending: one lane per partition, group commit, memory bounded by us.

While a lane's batch is on its way, the records that arrive gather; the next batch takes them all.
A batch that failed may be in the log all the same: its records are UNKNOWN, the caller appends them
again under the same id, and consumers drop the duplicate. A lane outlives whatever the library
does: a batch that it fails in an unforeseen way is unknown like any other.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from shared import logging as logs
from shared.limit import Limit
from shared.log import (
    MAX_RECORD_BYTES,
    Appended,
    LogBusy,
    LogUnavailable,
    Record,
    TopicPartition,
    sizes_of,
)
from shared.log.kafka.cluster import Cluster, cancelled, until
from shared.log.kafka.producer import Producer
from shared.log.kafka.topics import partitions_of
from shared.log.partitioner import murmur2
from shared.traceparent import RecordHeaders

_LOOK_UP_SECONDS = 2.0
_GATHER_SECONDS = 0.001
"""A moment for the records right behind the first, as each batch costs more than its records.
Measured with 64 callers of one event each: 4.3 records in a batch instead of 2.9."""

# Accounts come back: their hash, in plain Python, costs ten times the look-up.
_hash = lru_cache(maxsize=65_536)(murmur2)

log = logs.get(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    """One call of `append`; it ends when each of its parcels is settled."""

    outcomes: list[Appended]
    ended: asyncio.Future[None]
    open_parcels: int = 0


@dataclass(slots=True, eq=False)
class _Parcel:
    """The records of one call for one partition, in their order."""

    call: _Call
    records: list[Record] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Where each record stood in the call."""
    size: int = 0
    sent: int = 0
    settled: int = 0

    @property
    def is_sent(self) -> bool:
        """Nothing waits, or what did was taken back."""
        return self.sent == len(self.records)

    @property
    def is_settled(self) -> bool:
        """Nothing is on its way, nothing will be."""
        return self.settled == len(self.records)


@dataclass(slots=True, eq=False)
class _Lane:
    """The parcels that wait for one partition, and the task that sends them."""

    partition: TopicPartition
    waiting: deque[_Parcel] = field(default_factory=deque)
    sending: asyncio.Task[None] | None = None
    woken: asyncio.Future[None] | None = None
    """What the task waits on while there is nothing to send."""


@dataclass(slots=True, eq=False)
class _Finding:
    """A look-up of a topic's partitions, and how many calls wait for it."""

    task: asyncio.Task[int]
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Slice:
    """The part of a parcel that travels in one batch."""

    parcel: _Parcel
    start: int
    end: int


class Appender:
    """Appends to any topic; see `open_appender`."""

    def __init__(
        self,
        cluster: Cluster,
        producer: Producer,
        *,
        request_timeout: timedelta,
        max_in_flight_bytes: int,
        max_in_flight_records: int,
    ) -> None:
        self._cluster = cluster
        self._producer = producer
        # The library ends a batch within two request timeouts; after three it has lost it.
        self._lost_after = 3 * request_timeout.total_seconds()
        self._free_bytes = max_in_flight_bytes
        self._free_records = max_in_flight_records
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._findings: dict[str, _Finding] = {}
        self._closed = False

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        """As `shared.log.Log.append`."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline.total_seconds()
        sizes = sizes_of(records)
        if not sizes:
            return ()
        if max(sizes) > MAX_RECORD_BYTES:
            raise ValueError(f"a record has {max(sizes)} bytes, the limit is {MAX_RECORD_BYTES}")
        partitions = await self._partitions(topic, ends_at)
        if len(records) > self._free_records or sum(sizes) > self._free_bytes:
            raise LogBusy("too much is on its way to the log already")
        call = _Call([Appended.UNKNOWN] * len(records), loop.create_future())
        parcels = _parcels(call, topic, records, sizes, partitions)
        for partition, parcel in parcels.items():
            self._enqueue(partition, parcel)
        # By hand: `asyncio.wait` with a limit costs three times as much, for each request.
        giving_up = loop.call_at(ends_at, _end, call)
        try:
            await call.ended
        finally:
            giving_up.cancel()
            for partition, parcel in parcels.items():
                if not parcel.is_sent:
                    self._take_back(self._lanes[partition], parcel)
        if not any(parcel.sent for parcel in parcels.values()):
            raise LogUnavailable(self._producer.why_away or "the log did not take it in time")
        return tuple(call.outcomes)

    async def close(self) -> None:
        """End the lanes; what is still on its way stays unknown."""
        self._closed = True
        for finding in self._findings.values():
            finding.task.cancel()
        await cancelled(*[lane.sending for lane in self._lanes.values() if lane.sending])

    async def _partitions(self, topic: str, ends_at: float) -> int:
        """How many partitions the topic has: from the producer's memory, except at first."""
        finding = self._findings.get(topic)
        if finding is None:
            producer = self._producer.current
            if producer is not None and not self._closed:
                name = self._cluster.name_of(topic)
                if known := producer.client.cluster.partitions_for_topic(name):
                    return len(known)
            finding = self._findings[topic] = self._find(topic, ends_at)
        # One look-up for all who wait, and who comes while any of them waits goes on behind them,
        # though the answer be known by then.
        finding.waiting += 1
        try:
            limit = max(0.0, ends_at - asyncio.get_running_loop().time())
            await asyncio.wait({finding.task}, timeout=limit)
        finally:
            finding.waiting -= 1
            self._forget(topic, finding)
        if finding.task.done() and not finding.task.cancelled() and not self._closed:
            return finding.task.result()
        raise LogUnavailable(f"Kafka does not tell the partitions of {topic} in time")

    def _find(self, topic: str, ends_at: float) -> _Finding:
        looking = self._look_up(topic, ends_at)
        finding = _Finding(asyncio.create_task(looking, name=f"kafka.find {topic}"))
        finding.task.add_done_callback(lambda _: self._forget(topic, finding))
        return finding

    async def _look_up(self, topic: str, ends_at: float) -> int:
        producer = await self._connected(ends_at)
        name = self._cluster.name_of(topic)
        if known := producer.client.cluster.partitions_for_topic(name):
            return len(known)
        # Not by the producer alone: it would wait long, and ask for ever for what is missing.
        await partitions_of(self._cluster, [topic])
        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                return len(await producer.partitions_for(name))
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailable(f"no partitions of topic {name}: {error!r}") from error

    def _forget(self, topic: str, finding: _Finding) -> None:
        """When it has ended and the last who waited has gone on."""
        if finding.waiting or not finding.task.done():
            return
        if self._findings.get(topic) is finding:
            del self._findings[topic]
        if not finding.task.cancelled():
            finding.task.exception()  # retrieved: all who asked may have given up

    async def _connected(self, ends_at: float) -> AIOKafkaProducer:
        if self._closed:
            raise LogUnavailable("the log is closed")
        if self._producer.current is None and self._producer.why_away is None:
            await until(self._producer.reachable, ends_at)  # the first connection is being made
        if producer := self._producer.current:
            return producer
        raise LogUnavailable(f"Kafka is away: {self._producer.why_away or 'not connected yet'}")

    def _enqueue(self, partition: TopicPartition, parcel: _Parcel) -> None:
        self._free_records -= len(parcel.records)
        self._free_bytes -= parcel.size
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(partition)
        lane.waiting.append(parcel)
        if lane.woken is not None:
            lane.woken.set_result(None)
            lane.woken = None
        elif lane.sending is None:
            lane.sending = asyncio.create_task(self._send(lane), name=f"kafka.send {partition}")

    def _take_back(self, lane: _Lane, parcel: _Parcel) -> None:
        """Give up what was not sent yet, and the memory it held: the caller waits no longer."""
        unsent = parcel.records[parcel.sent :]
        size = sum(sizes_of(unsent))
        del parcel.records[parcel.sent :], parcel.places[parcel.sent :]
        parcel.size -= size
        self._free_records += len(unsent)
        self._free_bytes += size
        if parcel.is_settled:
            self._release(parcel)
        # Calls give up about as they came, so hardly an empty parcel stays behind a full one; to
        # remove each from the middle would take the square of their number when all give up.
        while lane.waiting and lane.waiting[0].is_sent:
            lane.waiting.popleft()

    async def _send(self, lane: _Lane) -> None:
        # One task for good: a new one for each burst would cost more than the waiting.
        loop = asyncio.get_running_loop()
        try:
            while True:
                while lane.waiting:
                    await asyncio.sleep(_GATHER_SECONDS)
                    producer = await self._producer.ready()
                    builder, slices = _filled(producer, lane.waiting)
                    durable = False
                    try:
                        if builder is not None and slices:
                            durable = await self._deliver(producer, lane.partition, builder)
                    finally:
                        for piece in slices:
                            self._settle(piece, durable=durable)
                lane.woken = loop.create_future()
                await lane.woken
        finally:
            # Whatever ended it, the next record starts another.
            lane.sending = lane.woken = None

    async def _deliver(
        self, producer: AIOKafkaProducer, partition: TopicPartition, builder: BatchBuilder
    ) -> bool:
        """Whether the batch is known to be durable; raises nothing but our own cancellation."""
        name = self._cluster.name_of(partition.topic)
        try:
            with Limit(self._lost_after):
                sent = await producer.send_batch(builder, name, partition=partition.partition)
                await sent
        except asyncio.CancelledError as error:
            # A future of the library that was cancelled raises it too, and nobody cancelled us.
            if _is_cancelled():
                raise
            failure: BaseException = error
        except Exception as error:  # noqa: BLE001 - the lane must outlive any bug of the library
            failure = error
        else:
            self._producer.delivered()
            return True
        # It did not end, or as a sound producer never ends one: do not wait for the next to show.
        lost_a_batch = not isinstance(failure, KafkaError)
        self._producer.suspect(producer, lost_a_batch=lost_a_batch)
        where = {"topic": name, "partition": partition.partition}
        log.warning("log.append_failed", error=repr(failure), **where)
        return False

    def _settle(self, piece: _Slice, *, durable: bool) -> None:
        parcel = piece.parcel
        parcel.settled += piece.end - piece.start
        if durable:
            for place in parcel.places[piece.start : piece.end]:
                parcel.call.outcomes[place] = Appended.DURABLE
        if parcel.is_settled:
            self._release(parcel)

    def _release(self, parcel: _Parcel) -> None:
        self._free_records += len(parcel.records)
        self._free_bytes += parcel.size
        call = parcel.call
        call.open_parcels -= 1
        if call.open_parcels == 0:
            _end(call)


@asynccontextmanager
async def open_appender(
    cluster: Cluster,
    producer: Producer,
    *,
    request_timeout: timedelta,
    max_in_flight_bytes: int,
    max_in_flight_records: int,
) -> AsyncIterator[Appender]:
    appender = Appender(
        cluster,
        producer,
        request_timeout=request_timeout,
        max_in_flight_bytes=max_in_flight_bytes,
        max_in_flight_records=max_in_flight_records,
    )
    try:
        yield appender
    finally:
        await appender.close()


def _end(call: _Call) -> None:
    if not call.ended.done():
        call.ended.set_result(None)


def _parcels(
    call: _Call, topic: str, records: Sequence[Record], sizes: Sequence[int], partitions: int
) -> dict[TopicPartition, _Parcel]:
    """One parcel per partition, records in the order given; as `partition_of`, with a memory."""
    parcels: dict[int, _Parcel] = {}
    for place, record in enumerate(records):
        number = (_hash(record.key) & 0x7FFFFFFF) % partitions
        parcel = parcels.get(number)
        if parcel is None:
            parcel = parcels[number] = _Parcel(call)
        parcel.records.append(record)
        parcel.places.append(place)
        parcel.size += sizes[place]
    call.open_parcels = len(parcels)
    return {TopicPartition(topic, number): parcel for number, parcel in parcels.items()}


def _is_cancelled() -> bool:
    """Whether somebody wants the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _filled(
    producer: AIOKafkaProducer, waiting: deque[_Parcel]
) -> tuple[BatchBuilder | None, list[_Slice]]:
    """A batch of the next records, as many as it holds; none where all were taken back.

    No batch, but slices, where the library refuses a record: its parcel and what went in before.
    """
    slices: list[_Slice] = []
    if not waiting:
        return None, slices
    try:
        builder = producer.create_batch()
        while waiting:
            parcel = waiting[0]
            start = parcel.sent
            all_in = _add(builder, parcel)
            if parcel.sent > start:
                slices.append(_Slice(parcel, start, parcel.sent))
            if not all_in:
                break
            waiting.popleft()
    except Exception as error:  # noqa: BLE001 - nor may one record stop what waits behind it
        parcel = waiting.popleft()
        slices.append(_Slice(parcel, parcel.sent, len(parcel.records)))
        parcel.sent = len(parcel.records)
        log.error("log.batch_refused", error=repr(error))  # noqa: TRY400 - a trace has the record
        return None, slices
    return builder, slices


def _add(builder: BatchBuilder, parcel: _Parcel) -> bool:
    """Move records into the batch until it is full; whether the whole parcel went in."""
    append, sent = builder.append, parcel.sent
    own: RecordHeaders = ()
    headers: list[tuple[str, bytes]] = []
    for record in parcel.records[sent:] if sent else parcel.records:
        if record.headers is not own:  # The records of one request share them.
            own = record.headers
            headers = list(own)
        if append(timestamp=None, key=record.key, value=record.value, headers=headers) is None:
            break
        sent += 1
    parcel.sent = sent
    return sent == len(parcel.records)
