"""Several requests at a time, yet one account's rows in order: each account keeps to one lane."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

from services.importing.client import Client, Settled
from services.importing.errors import Stopped, Unusable
from services.importing.rows import Item

IN_FLIGHT = 4
BATCH_ITEMS = 1_000
_BATCH_BYTES = 4 << 20  # half of what ingest takes
_OLDEST_WAITS_ROWS = 20 * BATCH_ITEMS  # so that a rare account does not hold the prefix back

OnSettled: TypeAlias = Callable[[Sequence[Settled]], None]


async def deliver(
    items: AsyncIterator[Sequence[Item]],
    client: Client,
    *,
    on_settled: OnSettled,
    in_flight: int = IN_FLIGHT,
    batch_items: int = BATCH_ITEMS,
) -> None:
    """Send everything; `on_settled` hears of each batch when it is answered. Raises Stopped."""
    lanes = [_Lane(batch_items) for _ in range(in_flight)]
    try:
        async with asyncio.TaskGroup() as group:
            for number, lane in enumerate(lanes):
                group.create_task(lane.run(client, on_settled), name=f"lane-{number}")
            async for chunk in items:
                for item in chunk:
                    lane = lanes[zlib.crc32(item.account.encode()) % in_flight]
                    if lane.add(item):
                        await lane.flush()
                newest = chunk[-1].number if chunk else 0
                for lane in lanes:
                    if lane.waits_since(newest) > _OLDEST_WAITS_ROWS:
                        await lane.flush()
            for lane in lanes:
                await lane.close()
    except BaseExceptionGroup as failures:
        # One reason is enough: the lanes share the server.
        known = failures.subgroup((Stopped, Unusable))
        if known is None:
            raise
        raise _first(known) from failures


class _Lane:
    """Rows of some accounts: one open batch, one on its way, at most one between."""

    def __init__(self, batch_items: int) -> None:
        self._batch_items = batch_items
        self._open: list[Item] = []
        self._bytes = 0
        self._batches: asyncio.Queue[list[Item] | None] = asyncio.Queue(maxsize=1)

    def add(self, item: Item) -> bool:
        """True when the open batch is full."""
        self._open.append(item)
        self._bytes += len(item.body)
        return len(self._open) >= self._batch_items or self._bytes >= _BATCH_BYTES

    def waits_since(self, newest: int) -> int:
        return newest - self._open[0].number if self._open else 0

    async def flush(self) -> None:
        batch, self._open, self._bytes = self._open, [], 0
        if batch:
            await self._batches.put(batch)

    async def close(self) -> None:
        await self.flush()
        await self._batches.put(None)

    async def run(self, client: Client, on_settled: OnSettled) -> None:
        while (batch := await self._batches.get()) is not None:
            on_settled(await client.send(batch))


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
