"""A consumer that hands out only what is settled: old enough for all that may still change it.

What is too young stays in memory, at most one batch of a partition, and nothing more is fetched of
that partition meanwhile, nor of any where all is large together; seeking back instead would fetch
the same records again and again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.clock import Clock, system_clock
from shared.log import Batch, Consumer, Lag, TopicPartition

_MOST_BYTES: Final = 64 * 1024 * 1024


class Settled:
    """Implements `shared.log.Consumer` over another one, of the same assignment and order.

    Of each partition it hands out what was appended up to `until()`, and nothing behind the first
    record that was not: clocks of the log may go back. What has come was appended by then, whatever
    a clock of the log said that is ahead of ours. None: nothing at all, for now. `waited` is called
    where all that there is to do is to wait for `until`.
    """

    def __init__(
        self,
        consumer: Consumer,
        until: Callable[[], datetime | None],
        *,
        waited: Callable[[], None],
        clock: Clock = system_clock,
    ) -> None:
        self._consumer = consumer
        self._until = until
        self._waited = waited
        self._clock = clock
        self._came_at: dict[TopicPartition, datetime] = {}
        self._bytes: dict[TopicPartition, int] = {}
        self._young: dict[TopicPartition, Batch] = {}
        """The next records of a partition, which were fetched and not handed out."""

    async def fetch(
        self, *, max_records: int, wait: timedelta, but: Collection[TopicPartition] = ()
    ) -> Sequence[Batch]:
        """As of any consumer; `wait` is also how late what became old enough may come."""
        if ripe := self._ripe(max_records, but):
            return ripe
        if self._young:
            self._waited()
        is_full = sum(self._bytes[partition] for partition in self._young) > _MOST_BYTES
        others = self._consumer.assignment() if is_full else {*self._young, *but}
        fetched = await self._consumer.fetch(max_records=max_records, wait=wait, but=others)
        for batch in fetched:
            self._young[batch.partition] = batch
            self._came_at[batch.partition] = self._clock()
            self._bytes[batch.partition] = sum(len(one.value or b"") for one in batch.records)
        return self._ripe(max_records, but)

    def is_current(self, batch: Batch) -> bool:
        return self._consumer.is_current(batch)

    def processing(self) -> AbstractAsyncContextManager[None]:
        return self._consumer.processing()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(partition, offset)
        self._young.pop(partition, None)

    def hint(self, partition: TopicPartition, next_offset: int) -> None:
        self._consumer.hint(partition, next_offset)

    def assignment(self) -> frozenset[TopicPartition]:
        return self._consumer.assignment()

    def partitions(self) -> Mapping[str, int]:
        return self._consumer.partitions()

    @property
    def rebalances(self) -> int:
        return self._consumer.rebalances

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        lags = await self._consumer.lag()
        return {
            partition: replace(lag, records=lag.records + self._held(partition))
            for partition, lag in lags.items()
        }

    def _ripe(self, max_records: int, but: Collection[TopicPartition]) -> list[Batch]:
        """Take what is old enough out of what is held; forget what is not ours any more."""
        until = self._until()
        ripe = []
        for partition, batch in list(self._young.items()):
            if not self._consumer.is_current(batch):
                del self._young[partition]  # whoever has the partition now reads it again
                continue
            ripe_of = _ripe_of(batch, self._came_at[partition], until)
            count = 0 if partition in but else min(max_records, ripe_of)
            if count == len(batch.records):
                del self._young[partition]
                ripe.append(batch)
            elif count:
                self._young[partition] = replace(batch, records=batch.records[count:])
                ripe.append(replace(batch, records=batch.records[:count]))
        return ripe

    def _held(self, partition: TopicPartition) -> int:
        batch = self._young.get(partition)
        return len(batch.records) if batch is not None and self.is_current(batch) else 0


def _ripe_of(batch: Batch, came_at: datetime, until: datetime | None) -> int:
    """How many records come before the first that is too young."""
    if until is None:
        return 0
    if came_at <= until:
        return len(batch.records)
    for count, record in enumerate(batch.records):
        if record.appended_at > until:
            return count
    return len(batch.records)
