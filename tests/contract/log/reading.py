"""What the contract's tests share: records to append, and reading them back with a deadline."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Self

from shared.log import (
    Appended,
    Consumer,
    Log,
    LogUnavailable,
    Record,
    StoredRecord,
    Topic,
    TopicPartition,
)

SOON = timedelta(seconds=5)
_PATIENCE = timedelta(seconds=30)
WAIT = timedelta(milliseconds=200)
# So long that a machine under load never gets there: it is for what would never come.
GIVE_UP_SECONDS = 120.0

Taken = list[tuple[TopicPartition, StoredRecord]]


async def new_topic(
    log: Log, *, partitions: int = 1, compacted: bool = False, name: str = "events"
) -> str:
    """A topic nobody else uses: one backend serves the whole suite."""
    topic = Topic(
        name=f"{name}-{uuid.uuid4().hex[:8]}",
        partitions=partitions,
        retention=None if compacted else timedelta(days=1),
        compacted=compacted,
    )
    await log.create_topics([topic])
    return topic.name


def record(key: str, value: str | None = "x") -> Record:
    return Record(key=key.encode(), value=None if value is None else value.encode())


def numbered(count: int, *, key: str = "k", first: int = 0) -> list[Record]:
    """Records of one key whose values are numbers."""
    return [record(key, str(number)) for number in range(first, first + count)]


async def append(log: Log, topic: str, records: Sequence[Record]) -> None:
    """Append and insist that all of it is durable; a log that is away for a moment has nothing."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            try:
                appended = await log.append(topic, records, deadline=_PATIENCE)
            except LogUnavailable:
                await asyncio.sleep(0.2)
            else:
                assert set(appended) == {Appended.DURABLE}
                return


async def take(consumer: Consumer, count: int, *, max_records: int = 1000) -> Taken:
    """At least `count` records, or a failure in the end."""
    taken: Taken = []
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while len(taken) < count:
            for batch in await consumer.fetch(max_records=max_records, wait=WAIT):
                taken.extend((batch.partition, stored) for stored in batch.records)
    return taken


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again; fail in the end."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while not await holds():  # noqa: ASYNC110 - the log sends no events
            await asyncio.sleep(0.05)


def values(taken: Taken) -> list[str]:
    return [(stored.value or b"").decode() for _partition, stored in taken]


class Members:
    """The members of one group, polled by tasks of their own as processes would be."""

    def __init__(self, log: Log, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._group = f"group-{uuid.uuid4().hex[:8]}"
        self._stack = AsyncExitStack()
        self._tasks: dict[Consumer, asyncio.Task[None]] = {}
        self.taken: dict[Consumer, Taken] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        for consumer in list(self._tasks):
            await self.leave_alone(consumer)
        await self._stack.aclose()

    async def join(self) -> Consumer:
        """A member that fetches by itself until `leave_alone`."""
        consumer = await self._stack.enter_async_context(
            self._log.consume([self._topic], group=self._group)
        )
        self.taken[consumer] = []
        self._tasks[consumer] = asyncio.create_task(self._poll(consumer))
        return consumer

    async def leave_alone(self, consumer: Consumer) -> None:
        """Stop fetching for this member; it stays in the group."""
        task = self._tasks.pop(consumer)
        task.cancel()
        await asyncio.wait({task})

    async def settled(self, partitions: int) -> None:
        """Wait until every partition has exactly one owner, and every member a share."""

        async def shared_out() -> bool:
            shares = [consumer.assignment() for consumer in self.taken]
            return all(shares) and len(frozenset().union(*shares)) == sum(map(len, shares)) == (
                partitions
            )

        await eventually(shared_out)

    async def _poll(self, consumer: Consumer) -> None:
        while True:
            for batch in await consumer.fetch(max_records=100, wait=WAIT):
                async with consumer.processing():
                    if consumer.is_current(batch):
                        taken = [(batch.partition, stored) for stored in batch.records]
                        self.taken[consumer].extend(taken)
                        consumer.hint(batch.partition, batch.next)
