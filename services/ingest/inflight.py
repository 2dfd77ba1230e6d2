"""What this process holds in memory for requests that it has not answered yet, and its bounds."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from services.ingest.replies import RefusalCode, Refused


class InFlight:
    """Bytes of bodies and events between arrival and answer; used by one event loop."""

    def __init__(self, *, max_bytes: int, max_events: int) -> None:
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._idle = asyncio.Event()
        self._held: set[Held] = set()
        self.bytes = 0
        self.events = 0
        self.draining = False
        """Still serving, but connections end with their answer, so that clients go elsewhere."""
        self.closed = False

    @property
    def requests(self) -> int:
        return len(self._held)

    def open(self) -> "Held":
        """Hold room for one request; refused once this process shuts down."""
        if self.closed:
            raise _shutting_down()
        return Held(self)

    async def drain(self, seconds: float) -> bool:
        """Take no more requests and wait for those in flight.

        False where some did not end in time: they are cut, and refused as if they came now.
        """
        self.closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.requests:
                    self._idle.clear()
                    await self._idle.wait()
        for held in self._held:
            held.cut()
        return not self._held

    def enter(self, held: "Held") -> None:
        self._held.add(held)

    def take(self, amount_bytes: int, events: int) -> None:
        if self.bytes + amount_bytes > self._max_bytes or self.events + events > self._max_events:
            raise Refused(RefusalCode.OVERLOADED, "too much is in flight here; send again")
        self.bytes += amount_bytes
        self.events += events

    def leave(self, held: "Held", amount_bytes: int, events: int) -> None:
        self._held.discard(held)
        self.bytes -= amount_bytes
        self.events -= events
        if not self._held:
            self._idle.set()


class Held:
    """The room that one request holds; given back when its context ends."""

    __slots__ = ("_bytes", "_events", "_is_cut", "_owner", "_task")

    def __init__(self, owner: InFlight) -> None:
        self._owner = owner
        self._task: asyncio.Task[object] | None = None
        self._is_cut = False
        self._bytes = 0
        self._events = 0

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._owner.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._owner.leave(self, self._bytes, self._events)
        if self._is_cut and self._task is not None and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise _shutting_down() from error

    def cut(self) -> None:
        """End what the request waits for; its context raises Refused."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._is_cut = True
            self._task.cancel()

    def add_bytes(self, amount: int) -> None:
        self._owner.take(amount, 0)
        self._bytes += amount

    def add_events(self, count: int) -> None:
        self._owner.take(0, count)
        self._events += count


def _shutting_down() -> Refused:
    return Refused(RefusalCode.SHUTTING_DOWN, "this process shuts down; send again")
