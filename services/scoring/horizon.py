"""Up to which moment everything that was accepted has been taken in, by whichever replica.

Each look: 1 read the stored positions, 2 note the moment, 3 ask the log for its ends. What was in
the log at that moment lies below them; once the positions have reached them, it has been taken in.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.scoring.metrics import ScoringMetrics
from shared import database
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.log import LogUnavailable, TopicMissing, TopicPartition
from shared.messages import USAGE_EVENTS, USAGE_EVENTS_OVERFLOW
from shared.readings import Reading
from shared.watchdog import Loop

_TOPICS: Final = (USAGE_EVENTS, USAGE_EVENTS_OVERFLOW)
_LOOK_SECONDS: Final = 1.0
_LONG: Final = timedelta(seconds=10)
"""After it we ask whether what we wait for is still there."""

log = logs.get(__name__)


class Ends(Protocol):
    """The part of `shared.log.Log` that is needed here."""

    async def ends(self, topics: tuple[str, ...]) -> Mapping[TopicPartition, int]: ...

    async def begins(self, topics: tuple[str, ...]) -> Mapping[TopicPartition, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A moment, and where the log ended at it or later."""

    moment: datetime
    ends: Mapping[TopicPartition, int]

    def is_reached(self, reached: Mapping[TopicPartition, int]) -> bool:
        return all(reached.get(partition, 0) >= end for partition, end in self.ends.items())


class Horizon:
    """Looks each second. Where database or log are away, or intake does not move, it stands.

    `positions` are those of intake as they are stored, whoever reads the partitions.
    """

    def __init__(
        self,
        *,
        log: Ends,
        positions: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
        metrics: ScoringMetrics,
        clock: Clock,
        loop: Loop,
    ) -> None:
        self._log = log
        self._positions = positions
        self._metrics = metrics
        self._clock = clock
        self._loop = loop
        self._began_at = clock()
        self._mark: _Mark | None = None
        self._begins: Mapping[TopicPartition, int] = {}
        """As they were when we last asked; they only grow."""
        self.moment: datetime | None = None
        """By our clock; None: not known yet, or no more, as the clock was set back."""

    def settled(self, settle: timedelta) -> datetime | None:
        """Up to when whatever was said up to `settle` later has been taken in."""
        return None if self.moment is None else self.moment - settle

    async def run(self, stop: asyncio.Event) -> None:
        with self.told():
            while True:
                await self.look()
                if await stopped_within(stop, _LOOK_SECONDS):
                    return

    async def look(self) -> None:
        """Move on as far as can be known now."""
        try:
            await self._look()
        except (LogUnavailable, TopicMissing) as error:
            # A topic that was there may be missing where a broker has just begun.
            log.info("horizon.log_away", error=str(error))
        except Exception as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
        self._loop.progressed()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Scrapes see its age while the context is open."""
        with self._metrics.horizon_age.told_by(self._tell):
            yield

    async def _look(self) -> None:
        self._forget_the_future()
        held = await self._positions()
        if self._mark is not None:
            if not await self._is_past(self._mark, held):
                return
            self.moment, self._mark = self._mark.moment, None
        # First the moment, then the ends: what is in the log at the one lies below the others.
        moment = self._clock()
        mark = _Mark(moment=moment, ends=await self._log.ends(_TOPICS))
        if self._is_beyond(mark, held):
            return
        if mark.is_reached(self._past(held)):
            self.moment = moment
        else:
            self._mark = mark

    def _forget_the_future(self) -> None:
        """A clock that was set back has told us of moments that are yet to come."""
        now = self._clock()
        if self._mark is not None and self._mark.moment > now:
            self._mark = None
        if self.moment is not None and self.moment > now:
            self.moment, self._began_at = None, now

    async def _is_past(self, mark: _Mark, held: Mapping[TopicPartition, int]) -> bool:
        if mark.is_reached(self._past(held)):
            return True
        if self._clock() - mark.moment < _LONG:
            return False
        self._begins = await self._log.begins(_TOPICS)
        return mark.is_reached(self._past(held))

    def _past(self, held: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Up to where nothing is left to be taken in.

        What the log has deleted nobody takes in any more; and from a partition that gets no new
        record no batch comes to move its position over it.
        """
        begins = self._begins
        return {one: max(held.get(one, 0), begins.get(one, 0)) for one in held.keys() | begins}

    def _is_beyond(self, mark: _Mark, held: Mapping[TopicPartition, int]) -> bool:
        """Whether the log ends before what we know of it: then nothing tells what was taken in."""
        past = self._past(held)
        beyond = sorted(one for one, end in mark.ends.items() if past.get(one, 0) > end)
        if beyond:
            self._begins = {}
            log.warning("horizon.log_ends_before_positions", partitions=beyond)
        return bool(beyond)

    def _tell(self) -> Iterator[Reading]:
        since = self._began_at if self.moment is None else self.moment
        yield (), max(0.0, (self._clock() - since).total_seconds())
