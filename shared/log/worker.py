"""The one consume loop: takes batches from the log and hands them to a service's handler.

The handler owns the transaction, and with it the position. The loop owns everything around it:
claiming a partition, fencing, gaps, waiting for a dependency, finding the one record that cannot be
taken in, stopping. Each rule here prevents a loss or a double count that was seen without it.

Order of effects, per batch: 1 claim (first batch of an assignment), 2 the handler's transaction,
3 the hint.
"""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, TypeVar

from shared import database, failpoints, traceparent, tracing
from shared import logging as logs
from shared.errors import InvalidMessage, PerennialError
from shared.lifecycle import Frame, stopped_within
from shared.log import Batch, Consumer, LogUnavailable, TopicPartition
from shared.log.backlog import Backlog
from shared.log.positions import Claim, Fenced
from shared.telemetry import Operation
from shared.traceparent import GoingOn
from shared.transactions import measured
from shared.watchdog import Loop

_POLL = timedelta(milliseconds=500)
_FENCE_PAUSE_SECONDS = 0.2
_AWAY_FIRST_SECONDS = 0.1
_AWAY_LAST_SECONDS = 5.0
_TRANSIENT_TRIES = 5

log = logs.get(__name__)

T = TypeVar("T")


class TooManyRejected(PerennialError):
    """So many records in a row cannot be taken in that the code is wrong, not the data."""


class Handler(Protocol):
    """What a service does with the records of a topic; each call is one transaction."""

    async def positions(self) -> Mapping[TopicPartition, int]:
        """Where each partition goes on, of those that were ever claimed."""
        ...

    async def claim(self, partition: TopicPartition) -> Claim:
        """Become the owner of the partition and say where it goes on."""
        ...

    async def take_in(self, batch: Batch, held: Claim) -> None:
        """Move the position and apply the effects, or raise and leave nothing.

        Raises Fenced where the position is not `held`; InvalidMessage only where the batch is one
        record that can never be taken in; LogUnavailable where what it appends may not be durable.
        """
        ...

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        """Move the position over the one record of `batch` and let it go to quarantine."""
        ...


@dataclass(slots=True, kw_only=True)
class _Held:
    """A partition in one assignment: whose, and whether we asked the log to go there."""

    generation: int
    claim: Claim
    sought: bool = False


class Worker:
    """Runs one consumer. Batches of up to `concurrency` partitions are taken in beside each other.

    With more than one, a process works while the database does. The handler's transactions must
    then lock what they share in one order.
    """

    def __init__(
        self,
        *,
        service: str,
        consumer: Consumer,
        handler: Handler,
        frame: Frame,
        loop: Loop,
        max_records: int = 2_000,
        concurrency: int = 1,
        max_rejected_in_a_row: int = 100,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._handler = handler
        self._metrics = frame.metrics
        self._max_records = max_records
        self._concurrency = concurrency
        self._max_rejected = max_rejected_in_a_row
        self._jitter = jitter
        self._backlog = Backlog(
            service=service, consumer=consumer, loop=loop, metrics=frame.metrics
        )
        self._held: dict[TopicPartition, _Held] = {}
        self._placed_at = -1
        """The rebalance after which reading began at the stored positions."""
        self._rejected_in_a_row: Counter[TopicPartition] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; ends after what is in hand. Raises what only a restart can mend."""
        looking = asyncio.create_task(self._backlog.watch(stop), name=f"{self._service}.backlog")
        try:
            with self._backlog.told():
                await self._work(stop, looking)
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _work(self, stop: asyncio.Event, looking: asyncio.Task[None]) -> None:
        delay = _AWAY_FIRST_SECONDS
        while not stop.is_set():
            if looking.done() and not stop.is_set():
                looking.result()
            await self._begin_at_stored()
            batches = await self._consumer.fetch(max_records=self._max_records, wait=_POLL)
            failpoints.reach(f"{self._service}.after_fetch")
            if await self._process_all(batches, stop):
                delay = _AWAY_FIRST_SECONDS
            else:
                # Fetching goes on between the tries: a member that stops polling is expelled.
                await stopped_within(stop, delay * (0.5 + self._jitter() / 2))
                delay = min(delay * 2, _AWAY_LAST_SECONDS)

    async def _begin_at_stored(self) -> None:
        """Read what is newly assigned from the stored position on, not from the log's hint.

        A batch that does not fit is sought anyway; but after a restore the position is far behind
        the hint, and nothing would be read of a partition that gets no new record.
        """
        if self._consumer.rebalances == self._placed_at:
            return
        try:
            stored = await self._handler.positions()
        except Exception as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            return  # what comes meanwhile is judged by its claim; the next round tries again
        self._placed_at = self._consumer.rebalances
        for partition in self._consumer.assignment():
            self._consumer.seek(partition, stored.get(partition, 0))

    async def _process_all(self, batches: Sequence[Batch], stop: asyncio.Event) -> bool:
        """False where a dependency is away: what was not taken in will be fetched again."""
        waiting, undone = deque(batches), list[Batch]()

        async def work_off() -> None:
            while waiting and not undone and not stop.is_set():
                batch = waiting.popleft()
                if not await self._process(batch):
                    undone.append(batch)

        # Whoever takes partitions from us waits for this; what is not in hand by then is stale.
        async with self._consumer.processing():
            self._backlog.take_up(batches)
            try:
                await _beside_each_other(work_off, min(self._concurrency, len(batches)))
            finally:
                for batch in batches:
                    self._backlog.put_down(batch)
            if not undone:
                return True
            for rest in (*undone, *waiting):
                self._held.pop(rest.partition, None)
                if self._consumer.is_current(rest):
                    self._consumer.seek(rest.partition, rest.first)
        return False

    async def _process(self, batch: Batch) -> bool:
        """False where a dependency is away."""
        if not self._consumer.is_current(batch):
            return True
        try:
            with logs.bound(**_where(batch)):
                await self._claim_and_take_in(batch)
        except Fenced:
            await self._give_up(batch)
        except Exception as error:
            if not _is_away(error):
                raise
            log.warning("worker.away", cause=type(error).__name__, **_where(batch))
            return False
        return True

    async def _claim_and_take_in(self, batch: Batch) -> None:
        held = self._held.get(batch.partition)
        if held is None or held.generation != batch.generation:
            claim = await self._retried(
                Operation.CLAIM, lambda: self._handler.claim(batch.partition)
            )
            held = _Held(generation=batch.generation, claim=claim)
            self._held[batch.partition] = held
        if batch.next <= held.claim.next_offset or batch.first > held.claim.next_offset:
            if not self._accept_gap(batch, held):
                self._seek(batch, held)
                return
        elif batch.first < held.claim.next_offset:
            skip = held.claim.next_offset
            batch = replace(batch, records=[r for r in batch.records if r.offset >= skip])
        held.sought = False
        started = time.monotonic()
        with tracing.many(
            f"{self._service} takes in {batch.partition.topic}",
            lambda: traceparent.of_records(batch.records, most=tracing.MOST_LINKS),
            kind=tracing.Kind.CONSUMER,
            topic=batch.partition.topic,
            partition=batch.partition.partition,
            offset=batch.first,
            records=len(batch.records),
        ):
            await self._take_in(batch, held)
        self._metrics.batch_seconds.labels(self._service, batch.partition.topic).observe(
            time.monotonic() - started
        )
        self._metrics.batch_records.labels(self._service, batch.partition.topic).observe(
            len(batch.records)
        )
        self._consumer.hint(batch.partition, batch.next)

    def _accept_gap(self, batch: Batch, held: _Held) -> bool:
        """Where we sought to the position and the log begins later, what lay between is gone.

        Any other jump forward would be a batch that we lost ourselves: seek, and look again.
        """
        if not held.sought or batch.first <= held.claim.next_offset:
            return False
        missing = batch.first - held.claim.next_offset
        # Compacted topics have gaps by design; the alert on this counter names the topic.
        self._metrics.gaps.labels(self._service, batch.partition.topic).inc(missing)
        log.warning("worker.gap", missing=missing, **_where(batch))
        return True

    def _seek(self, batch: Batch, held: _Held) -> None:
        if self._consumer.is_current(batch):
            self._consumer.seek(batch.partition, held.claim.next_offset)
            held.sought = True

    async def _give_up(self, batch: Batch) -> None:
        """Another owner moved the position: forget ours, and claim again with the next batch."""
        topic = batch.partition.topic
        self._metrics.fenced.labels(self._service, topic).inc()
        log.warning("worker.fenced", **_where(batch))
        self._held.pop(batch.partition, None)
        await asyncio.sleep(self._jitter() * _FENCE_PAUSE_SECONDS)
        # Where the new owner stands is read by the claim that the next batch makes; going back to
        # this batch's start guarantees that there is a next batch.
        if self._consumer.is_current(batch):
            self._consumer.seek(batch.partition, batch.first)

    async def _take_in(self, batch: Batch, held: _Held) -> None:
        """Take the batch in; halve it where that fails, down to the one record at fault."""
        try:
            await self._retried(Operation.TAKE_IN, lambda: self._handler.take_in(batch, held.claim))
        except Exception as error:
            if isinstance(error, Fenced) or _is_away(error):
                raise
            if len(batch.records) > 1:
                log.warning("worker.halving", cause=type(error).__name__, **_where(batch))
                middle = len(batch.records) // 2
                for half in (batch.records[:middle], batch.records[middle:]):
                    await self._take_in(replace(batch, records=half), held)
                return
            if not database.is_data_error(error) and not isinstance(error, InvalidMessage):
                raise
            await self._set_aside(batch, held, error)
        else:
            self._rejected_in_a_row.pop(batch.partition, None)
        held.claim = held.claim.after(batch)
        self._backlog.done(batch)

    async def _retried(self, operation: Operation, transaction: Callable[[], Awaitable[T]]) -> T:
        """Try again at once what another transaction was in the way of."""
        for attempt in range(_TRANSIENT_TRIES - 1):
            try:
                with measured(self._metrics, self._service, operation):
                    return await transaction()
            except Exception as error:
                if not database.is_transient(error):
                    raise
                await asyncio.sleep(self._jitter() * 0.1 * 2**attempt)
        with measured(self._metrics, self._service, operation):
            return await transaction()

    async def _set_aside(self, batch: Batch, held: _Held, cause: Exception) -> None:
        error = (
            cause
            if isinstance(cause, InvalidMessage)
            else InvalidMessage("not_storable", type(cause).__name__)
        )
        self._rejected_in_a_row[batch.partition] += 1
        in_a_row = self._rejected_in_a_row[batch.partition]
        if in_a_row > self._max_rejected:
            raise TooManyRejected(
                f"{in_a_row} records in a row of {batch.partition.topic} were"
                f" rejected, the last one for {error.code}"
            )
        with GoingOn(traceparent.of_headers(batch.records[0].headers)):
            await self._retried(
                Operation.SET_ASIDE, lambda: self._handler.set_aside(batch, held.claim, error)
            )
        self._metrics.quarantined.labels(self._service, batch.partition.topic, error.code).inc()


async def _beside_each_other(work: Callable[[], Coroutine[None, None, None]], count: int) -> None:
    """Run it `count` times at once; where one fails, the others are rolled back."""
    if count <= 1:
        await work()
        return
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _is_away(error: Exception) -> bool:
    """Whether the same batch may pass later, and no part of it does now."""
    return isinstance(error, LogUnavailable) or database.is_away(error)


def _where(batch: Batch) -> dict[str, object]:
    return {
        "topic": batch.partition.topic,
        "partition": batch.partition.partition,
        "offset": batch.first,
        "records": len(batch.records),
    }
