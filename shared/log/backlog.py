"""What waits for one worker: in the log, and in its own hands.

Looked at beside the worker, so that one that stands still is seen. Ages are of the scrape: now less
the append time of the last record done, or the moment when nothing was known to wait.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

from shared.clock import Clock, system_clock
from shared.lifecycle import stopped_within
from shared.log import Batch, Consumer, LogUnavailable, TopicPartition
from shared.readings import Reading
from shared.telemetry import CommonMetrics
from shared.watchdog import Loop

_LOOK_SECONDS = 2.0


class Backlog:
    """Of one consumer; the loop is its worker's."""

    def __init__(
        self,
        *,
        service: str,
        consumer: Consumer,
        loop: Loop,
        metrics: CommonMetrics,
        clock: Clock = system_clock,
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._loop = loop
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[TopicPartition, int] = {}
        self._in_hand: dict[TopicPartition, int] = {}
        self._since: dict[TopicPartition, datetime] = {}
        """By partition, up to when all that was appended is done."""
        self._rebalances = 0

    def take_up(self, batches: Sequence[Batch]) -> None:
        """They have left the log's hands and are not done yet."""
        for batch in batches:
            self._in_hand[batch.partition] = len(batch.records)
            self._since.setdefault(batch.partition, batch.records[0].appended_at)

    def done(self, batch: Batch) -> None:
        """It is committed, with its position."""
        self._in_hand[batch.partition] = max(
            0, self._in_hand.get(batch.partition, 0) - len(batch.records)
        )
        self._since[batch.partition] = batch.records[-1].appended_at
        self._loop.progressed()

    def put_down(self, batch: Batch) -> None:
        """Whatever became of it, nothing of it is in hand any more."""
        self._in_hand.pop(batch.partition, None)

    async def watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.look()
            await stopped_within(stop, _LOOK_SECONDS)

    async def look(self) -> None:
        """Ask the log what waits; silence of the worker is excused where nothing does.

        An unknown lag excuses nothing: a client that never connects would be excused for ever, and
        an outage of the log is known otherwise (`lifecycle.ping`).
        """
        if self._consumer.rebalances != self._rebalances:
            self._metrics.rebalances.labels(self._service).inc(
                self._consumer.rebalances - self._rebalances
            )
            self._rebalances = self._consumer.rebalances
            self._loop.excused()
            # One that comes back after hours has been read by another member meanwhile.
            held = self._consumer.assignment()
            self._since = {one: since for one, since in self._since.items() if one in held}
        try:
            lags = await self._consumer.lag()
        except LogUnavailable:
            return
        now = self._clock()
        self._waiting = {partition: lag.records for partition, lag in lags.items()}
        for partition in lags:
            if not self._records(partition):
                self._since[partition] = now
            self._since.setdefault(partition, now)
        if not any(map(self._records, lags)):
            self._loop.progressed()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Scrapes see it while the context is open."""
        with ExitStack() as stack:
            for readings, teller in (
                (self._metrics.lag_records, self._tell_records),
                (self._metrics.lag_seconds, self._tell_seconds),
                (self._metrics.partitions_assigned, self._tell_assigned),
                (self._metrics.topic_partitions, self._tell_partitions),
            ):
                stack.enter_context(readings.told_by(teller))
            yield

    def _records(self, partition: TopicPartition) -> int:
        return self._waiting.get(partition, 0) + self._in_hand.get(partition, 0)

    def _tell_records(self) -> Iterator[Reading]:
        for one in self._consumer.assignment():
            yield (self._service, one.topic, str(one.partition)), self._records(one)

    def _tell_seconds(self) -> Iterator[Reading]:
        now = self._clock()
        for one in self._consumer.assignment():
            behind = self._records(one) and one in self._since
            age = (now - self._since[one]).total_seconds() if behind else 0.0
            yield (self._service, one.topic, str(one.partition)), max(0.0, age)

    def _tell_assigned(self) -> Iterator[Reading]:
        assigned = [one.topic for one in self._consumer.assignment()]
        for topic in self._consumer.partitions():
            yield (self._service, topic), assigned.count(topic)

    def _tell_partitions(self) -> Iterator[Reading]:
        for topic, count in self._consumer.partitions().items():
            yield (self._service, topic), count
