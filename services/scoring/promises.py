"""The goals of all accounts in the memory of the process that is asked, beside the register.

Values come by the day, not by the second: what is older than the register is answered at once, and
read again behind the answer's back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from services.scoring.domain.goals import Standing, standing
from services.scoring.domain.usage import Integers, microseconds
from services.scoring.explanations import last_complete_day
from services.scoring.goal_store import Agreed
from shared.clock import Clock

_FRESH: Final = timedelta(seconds=30)
_USABLE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """The accounts with goals, ascending, and how these stand."""

    accounts: Sequence[str]
    standing: Standing
    read_at: datetime


class Promises:
    """`current()` answers with goals that were read within ten minutes."""

    def __init__(self, read: Callable[[], Awaitable[Agreed]], clock: Clock) -> None:
        self._read_all = read
        self._clock = clock
        self._known: Promised | None = None
        self._reading: asyncio.Task[Promised] | None = None
        self._placed: tuple[tuple[str, ...], Promised, Integers] | None = None

    async def current(self) -> Promised:
        """Raises what reading raises, where what is known is too old to do without."""
        known = self._known
        age = _USABLE if known is None else abs(self._clock() - known.read_at)
        if known is None or age >= _USABLE or _has_failed(self._reading):
            return await asyncio.shield(self._read_again())
        if age > _FRESH:
            self._read_again()
        return known

    def places(self, promised: Promised, accounts: tuple[str, ...]) -> Integers:
        """Where each of the promised accounts stands among the accounts; -1: it does not."""
        placed = self._placed
        if placed is None or placed[0] is not accounts or placed[1] is not promised:
            known = {name: place for place, name in enumerate(accounts)}
            place = [known.get(name, -1) for name in promised.accounts]
            placed = self._placed = (accounts, promised, np.array(place, np.int64))
        return placed[2]

    def _read_again(self) -> asyncio.Task[Promised]:
        """The reading that runs, or a new one: whoever asks meanwhile waits for the same."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="scoring.promises")
        return self._reading

    async def _read(self) -> Promised:
        now = self._clock()
        agreed = await self._read_all()
        found = await asyncio.to_thread(_stand, agreed, now)
        self._known = Promised(accounts=agreed.accounts, standing=found, read_at=now)
        return self._known


def _has_failed(reading: asyncio.Task[Promised] | None) -> bool:
    """Whoever asks next is told, or does better."""
    if reading is None or not reading.done():
        return False
    return reading.cancelled() or reading.exception() is not None


def _stand(agreed: Agreed, now: datetime) -> Standing:
    return standing(
        agreed.fields, agreed.values, as_of=last_complete_day(now), now=microseconds(now)
    )
