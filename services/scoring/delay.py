"""How far behind the log's end scoring is, in time: what a backlog's records tell when taken in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from shared.clock import Clock
from shared.errors import InvalidMessage
from shared.log import Batch, Lag, LogUnavailable, TopicPartition
from shared.log.positions import Claim
from shared.log.worker import Handler
from shared.messages import USAGE_EVENTS


class Lagging(Protocol):
    async def lag(self) -> Mapping[TopicPartition, Lag]: ...


class Delay:
    """A handler that notes how old each batch is, before another takes it in.

    The number of records that wait says nothing about time, and a partition that was quiet for
    hours is not behind when a record arrives: only what is taken in tells.
    """

    def __init__(self, handler: Handler, consumer: Lagging, *, clock: Clock) -> None:
        self._handler = handler
        self._consumer = consumer
        self._clock = clock
        self._taken: dict[TopicPartition, timedelta] = {}
        self._newest: dict[TopicPartition, datetime] = {}
        self._waiting: dict[TopicPartition, datetime] = {}

    async def positions(self) -> Mapping[TopicPartition, int]:
        return await self._handler.positions()

    async def claim(self, partition: TopicPartition) -> Claim:
        return await self._handler.claim(partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        await self._handler.take_in(batch, held)
        self._newest[batch.partition] = batch.records[-1].appended_at
        self._taken[batch.partition] = self._clock() - batch.records[-1].appended_at
        self._waiting.pop(batch.partition, None)

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        await self._handler.set_aside(batch, held, error)

    async def lag(self, now: datetime) -> timedelta | None:
        """The age of the oldest events that wait, about; None where it is not known yet."""
        try:
            lags = await self._consumer.lag()
        except LogUnavailable:
            return None
        waiting = [
            partition
            for partition, lag in lags.items()
            if lag.records and partition.topic == USAGE_EVENTS
        ]
        self._waiting = {one: self._waiting.get(one, now) for one in waiting}
        for one in self._taken.keys() & (lags.keys() - self._waiting.keys()):
            self._taken[one] = timedelta(0)  # Caught up: what comes next is no old backlog.
        worst = timedelta(0)
        for partition in waiting:
            if partition not in self._taken:
                return None
            worst = max(worst, self._taken[partition] + (now - self._waiting[partition]))
        return worst

    async def is_behind(self, settle: timedelta) -> bool:
        """Whether anything waits for this process that is older than that, or may do.

        Of a busy log some records always wait: the newest say nothing.
        """
        try:
            lags = await self._consumer.lag()
        except LogUnavailable:
            return True
        since = self._clock() - settle
        return any(
            lag.records and (one not in self._newest or self._newest[one] < since)
            for one, lag in lags.items()
        )
