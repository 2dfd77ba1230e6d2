"""What wakes senders: one for each destination that something is due for, never all for one."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

# More than there are senders in one process.
_MOST = 64


@dataclass(slots=True)
class Bell:
    """Of the senders of one process; a ring that nobody waits for is heard by the next who does."""

    _rung: asyncio.Queue[None] = field(default_factory=lambda: asyncio.Queue(maxsize=_MOST))
    _last_turn: float = float("-inf")

    def ring(self, times: int = 1) -> None:
        """Wake so many."""
        with suppress(asyncio.QueueFull):
            for _ in range(times):
                self._rung.put_nowait(None)

    async def heard(self, seconds: float) -> bool:
        """Wait for a ring, for so long at most; whether it was for us."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.get()
                return True
        return False

    def takes_turn(self, seconds: float) -> bool:
        """Whether nobody has taken a turn for so long; then this is one."""
        now = time.monotonic()
        if now - self._last_turn < seconds:
            return False
        self._last_turn = now
        return True
