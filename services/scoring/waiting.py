"""Looks after the events that wait: places those whose users are known by now, gives up the late.

It asks the tables which users are known instead of being told: nothing is missed that was learnt
while nobody looked. Each second it asks who became known since it last looked: that costs little
however many wait, and finds all who were learnt in the order of our clocks. The full look asks of
everybody who waits whether he is known, and so finds whom a wrong clock or a slow transaction has
hidden. It comes at the start, with each partition that we are given, after an error, where more
were learnt at once than are asked for, and again and again: as often as a twentieth of the time
allows, at least every ten minutes. So nobody is missed, whatever the clocks do; at worst he waits
for ten minutes more.

Each replica looks after the partitions of `unplaced-events` that it reads; where two do at once,
during a rebalance, both append, intake counts each event once, and one of them finds the rows gone.

Order of effects: 1 append to `usage-events` and wait until durable, 2 delete the rows.
"""

import asyncio
import operator
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import erasure_store, given_up, unplaced, waiting_store
from services.scoring.metrics import ScoringMetrics
from services.scoring.standings import read_standings
from services.scoring.unplaced import Appends
from shared import database, failpoints
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.log import LogUnavailable, TopicPartition
from shared.watchdog import Loop

_LEAST_SECONDS: Final = 1.0
_MOST_SECONDS: Final = 60.0
_SHARE: Final = 0.05
"""Of the time, for either look where nothing is found."""
_FULL_SECONDS: Final = 600.0
"""Between two full looks, at most."""
_OVERLAP: Final = timedelta(seconds=60)
"""Longer than any transaction of intake may last, between its clock and its commit."""
_LEARNT_AT_ONCE: Final = 50_000
_REST_SECONDS: Final = 2.0
"""Between two signs of life while there is nothing to do."""
_AWAY_SECONDS: Final = 2.0
_USERS_LOOKED_AT: Final = 20_000
_USERS_AT_ONCE: Final = 1_000
_EVENTS_AT_ONCE: Final = 5_000
_GIVEN_UP_AT_ONCE: Final = 1_000
_PARTITIONS_AT_ONCE: Final = 2

log_ = logs.get(__name__)


class Assigned(Protocol):
    def assignment(self) -> Collection[TopicPartition]: ...


class Waiting:
    """One replica's look after the events that wait."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        log: Appends,
        metrics: ScoringMetrics,
        clock: Clock,
        loop: Loop,
        assigned: Assigned,
        until: Callable[[], datetime | None],
        room: Callable[[], int],
        wait: timedelta,
    ) -> None:
        """`until` and `room`: as `Placing` has them; `wait`: how long an event waits at most."""
        self._engine = engine
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._loop = loop
        self._assigned = assigned
        self._until = until
        self._room = room
        self._wait = wait
        self._looked: AbstractSet[int] = frozenset()
        """The partitions that had their full look, since the last error."""
        self._full_at = 0.0
        """When all of them have the next."""
        self._since: datetime | None = None
        """Up to when those who were learnt have been looked at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until `stop`; seldom where a look takes long."""
        while not stop.is_set():
            pause = _AWAY_SECONDS
            try:
                finding = await self.look(stop)
                pause = min(_MOST_SECONDS, max(_LEAST_SECONDS, finding / _SHARE))
            except Exception as error:
                if not isinstance(error, LogUnavailable) and not _may_pass(error):
                    raise
                log_.warning("waiting.away", cause=type(error).__name__)
            await self._rest(stop, pause)

    async def _rest(self, stop: asyncio.Event, seconds: float) -> None:
        """Where a look takes long it rests for longer than the watchdog bears silence."""
        self._loop.progressed()  # Also where it waits for a dependency: that is no standstill.
        while seconds > 0 and not await stopped_within(stop, min(seconds, _REST_SECONDS)):
            seconds -= _REST_SECONDS
            self._loop.progressed()

    async def look(self, stop: asyncio.Event) -> float:
        """At every partition once; the seconds that were spent in finding nobody.

        Does nothing while it is not known up to when what is said of users is complete.
        """
        until = self._until()
        if until is None:
            return 0.0
        mine = {one.partition for one in self._assigned.assignment()}
        is_full = time.monotonic() >= self._full_at
        looked = frozenset[int]() if is_full else self._looked & mine
        self._looked = frozenset()  # An error leaves it so: the next look is a full one.
        began = time.monotonic()
        async with self._engine.begin() as connection:
            in_use = await waiting_store.partitions_in_use(connection)
            learnt, are_all = await waiting_store.learnt_users(
                connection,
                sorted(in_use.keys() & looked),
                since=min(self._since or until, until) - _OVERLAP,
                until=until,
                most=_LEARNT_AT_ONCE,
            )
        seconds = time.monotonic() - began
        if not are_all:  # More than one look asks for: whoever is left out is found by asking all.
            is_full, looked = True, frozenset()
        partitions = deque(sorted(in_use.keys() & mine))
        asking, placed = 0.0, 0

        async def work_off() -> None:
            nonlocal asking, placed
            while partitions and not stop.is_set():
                partition = partitions.popleft()
                if partition in looked:
                    placed += await self._place(partition, learnt.get(partition, ()), until, stop)
                else:
                    found, took = await self._place_known(partition, until, stop)
                    placed, asking = placed + found, asking + took
                await self._give_up(partition, in_use[partition], until, stop)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_PARTITIONS_AT_ONCE, len(partitions))):
                    group.create_task(work_off())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if is_full:
            self._full_at = time.monotonic() + min(_FULL_SECONDS, asking / _SHARE)
        self._looked, self._since = mine, until
        if placed:
            return 0.0
        return seconds if are_all else seconds + asking

    async def _place_known(
        self, partition: int, until: datetime, stop: asyncio.Event
    ) -> tuple[int, float]:
        """Place what waits for users that are known: how much, and the seconds to find them."""
        start: int | None = None
        seconds, placed = 0.0, 0
        while not stop.is_set():
            began = time.monotonic()
            async with self._engine.connect() as connection:
                known, start = await waiting_store.known_users(
                    connection, partition, until=until, start=start, most=_USERS_LOOKED_AT
                )
            seconds += time.monotonic() - began
            self._loop.progressed()
            placed += await self._place(partition, known, until, stop)
            if start is None:
                break
        return placed, seconds

    async def _place(
        self, partition: int, users: Sequence[int], until: datetime, stop: asyncio.Event
    ) -> int:
        """Place what waits for these users, in steps; says how much."""
        placed = 0
        for first in range(0, len(users), _USERS_AT_ONCE):
            some = users[first : first + _USERS_AT_ONCE]
            placed += await self._place_some(partition, some, until, stop)
        return placed

    async def _place_some(
        self, partition: int, users: Sequence[int], until: datetime, stop: asyncio.Event
    ) -> int:
        wanted, count = list(users), 0
        while wanted and not stop.is_set():
            async with self._engine.connect() as connection:
                events, are_all = await waiting_store.of_users(
                    connection, partition, wanted, most=_EVENTS_AT_ONCE
                )
                standings = await read_standings(connection, unplaced.spans(events))
            # Of the last one there may be more. Who is not known any more, erased since, waits on.
            done = {one.user for one in events}
            if not are_all:
                done.discard(events[-1].user)
            events.sort(key=operator.attrgetter("offset"))
            placed, left = unplaced.find(events, standings, until=until)
            done.update(one.user for one in left)
            wanted = [user for user in wanted if user not in done and not are_all]
            if placed:
                failpoints.reach("waiting.before_append")
                await unplaced.append(self._log, placed)
                failpoints.reach("waiting.before_delete")
                async with self._engine.begin() as connection:
                    await waiting_store.lock(connection, partition)
                    taken = await waiting_store.take(
                        connection, partition, [one.unplaced for one in placed]
                    )
                    gone = [one for one in placed if one.unplaced.offset in taken]
                    await waiting_store.note(connection, partition, self._clock(), placed=gone)
                failpoints.reach("waiting.after_delete")
                self._metrics.count_placed(one.by for one in gone)
                count += len(gone)
            self._loop.progressed()
        return count

    async def _give_up(
        self, partition: int, waiting: waiting_store.InUse, until: datetime, stop: asyncio.Event
    ) -> None:
        before, room = until - self._wait, self._room()

        async def late(connection: AsyncConnection) -> given_up.Ended:
            return await given_up.let_late_go(
                connection, partition, before=before, most=_GIVEN_UP_AT_ONCE
            )

        async def too_many(connection: AsyncConnection) -> given_up.Ended:
            return await given_up.make_room(
                connection, partition, room=room, most=_GIVEN_UP_AT_ONCE
            )

        if waiting.oldest < before:
            await self._end(partition, late, stop)
        if waiting.events > room:
            await self._end(partition, too_many, stop)

    async def _end(
        self,
        partition: int,
        let_go: Callable[[AsyncConnection], Awaitable[given_up.Ended]],
        stop: asyncio.Event,
    ) -> None:
        """Give events up, in steps, until there is none to be given up."""
        while not stop.is_set():
            async with self._engine.begin() as connection:
                await erasure_store.hold_off_erasures(connection)
                await waiting_store.lock(connection, partition)
                ended = await let_go(connection)
                await waiting_store.note(connection, partition, self._clock(), ended=ended)
            self._metrics.count_given_up(ended)
            self._loop.progressed()
            if ended.total() < _GIVEN_UP_AT_ONCE:
                return


def _may_pass(error: Exception) -> bool:
    return database.is_away(error) or database.is_transient(error)
