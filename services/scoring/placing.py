"""Takes in events that name a user and no account: finds it, or lets them wait for it.

Order of effects: 1 read what is known of the users, 2 decide, 3 append what has an account to
`usage-events` and wait until it is durable, 4 in one transaction move the position and keep what is
to wait; where too many do, the oldest leave through the outbox to `rejected`.

A batch that ends between 3 and 4 is appended again, and perhaps decided otherwise, as more is known
by then: intake counts an event that was placed once, whatever its account (`arrivals.py`).

No transaction is open while the log is waited for.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import erasure_store, given_up, unplaced, waiting_store
from services.scoring.given_up import Ended
from services.scoring.metrics import ScoringMetrics, UnplacedResult
from services.scoring.standings import read_standings
from services.scoring.tables import log_positions, outbox
from services.scoring.unplaced import Appends, Unplaced
from shared import failpoints
from shared import outbox as outboxes
from shared.clock import Clock
from shared.errors import InvalidMessage, PerennialError
from shared.log import Batch, StoredRecord, TopicPartition, positions
from shared.log.positions import Claim, Result
from shared.messages import REJECTED, UNPLACED_EVENTS
from shared.quarantine import rejected

TOPICS = (UNPLACED_EVENTS,)
GROUP = "scoring-placing"

_UNREADABLE_LIMIT = 100
_MOST_GIVEN_UP = 5_000
_LATER: Mapping[Result, int] = {}
"""What becomes of the records is known, and counted, at the end of the transaction."""


class Sized(Protocol):
    def partitions(self) -> Mapping[str, int]: ...


class Unreadable(PerennialError):
    """Not one record of a large batch can be read: then the code is wrong, not the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """What became of events that could not be placed at once."""

    added: Counter[str] = field(default_factory=Counter)
    """By source, those that wait from now on."""
    repeated: int = 0
    erased: int = 0
    ended: Ended = field(default_factory=Counter)
    """The oldest, which had to go for them."""


class Placing:
    """Implements `shared.log.worker.Handler` for events without an account."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        log: Appends,
        metrics: ScoringMetrics,
        clock: Clock,
        until: Callable[[], datetime | None],
        room: Callable[[], int],
    ) -> None:
        """`until`: up to when all that is said of users is known; `room`: how many events of one
        partition may wait.
        """
        self._engine = engine
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._until = until
        self._room = room

    async def positions(self) -> Mapping[TopicPartition, int]:
        async with self._engine.connect() as connection:
            return await positions.read(connection, log_positions)

    async def claim(self, partition: TopicPartition) -> Claim:
        async with self._engine.begin() as connection:
            return await positions.claim(connection, log_positions, partition)

    async def take_in(self, batch: Batch, held: Claim) -> None:
        events, unreadable = unplaced.read(batch.records)
        if not events and len(unreadable) > _UNREADABLE_LIMIT:
            raise Unreadable(f"none of {len(unreadable)} records is an UnplacedEvent")
        # First the moment, then what is known: never the other way round.
        until = self._until()
        users = unplaced.spans(events)
        async with self._engine.connect() as connection:
            erased = await given_up.erased_everywhere(connection, users)
            standings = await read_standings(connection, users)
        placed, left = unplaced.find(
            [one for one in events if one.user not in erased], standings, until=until
        )
        failpoints.reach("placing.before_append")
        await unplaced.append(self._log, placed)
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held)
            begun = await self._let_wait(connection, batch.partition.partition, left)
            results = {
                UnplacedResult.PLACED: len(placed),
                UnplacedResult.WAITING: begun.added.total(),
                UnplacedResult.DUPLICATE: begun.repeated,
                UnplacedResult.ERASED: len(events) - len(placed) - len(left) + begun.erased,
                UnplacedResult.QUARANTINED: len(unreadable),
            }
            await waiting_store.note(
                connection,
                batch.partition.partition,
                self._clock(),
                placed=placed,
                begun=begun.added,
                ended=begun.ended,
            )
            await positions.count(
                connection,
                log_positions,
                batch.partition,
                {
                    Result.COUNTED: len(placed) + begun.added.total(),
                    Result.DUPLICATE: begun.repeated,
                    Result.ERASED: results[UnplacedResult.ERASED],
                    Result.QUARANTINED: len(unreadable),
                },
            )
            await _put_aside(connection, batch, unreadable)
            failpoints.reach("placing.before_commit")
        failpoints.reach("placing.after_commit")
        for result, count in results.items():
            self._metrics.unplaced.labels(result).inc(count)
        self._metrics.count_placed(one.by for one in placed)
        self._metrics.count_given_up(begun.ended)
        for _, error in unreadable:
            self._metrics.quarantined(batch.partition.topic, error.code)

    async def set_aside(self, batch: Batch, held: Claim, error: InvalidMessage) -> None:
        async with self._engine.begin() as connection:
            await self._advance(connection, batch, held, {Result.QUARANTINED: 1})
            await _put_aside(connection, batch, [(batch.records[0], error)])
        self._metrics.unplaced.labels(UnplacedResult.QUARANTINED).inc()

    async def _let_wait(
        self, connection: AsyncConnection, partition: int, left: Sequence[Unplaced]
    ) -> _Begun:
        if not left:
            return _Begun()
        await erasure_store.hold_off_erasures(connection)
        gone = await given_up.erased_everywhere(connection, {one.user for one in left})
        kept = [one for one in left if one.user not in gone]
        await waiting_store.lock(connection, partition)
        added = await waiting_store.add(connection, partition, kept)
        ended = await given_up.make_room(
            connection, partition, room=self._room(), most=max(_MOST_GIVEN_UP, added.total())
        )
        return _Begun(
            added=added,
            repeated=len(kept) - added.total(),
            erased=len(left) - len(kept),
            ended=ended,
        )

    async def _advance(
        self,
        connection: AsyncConnection,
        batch: Batch,
        held: Claim,
        results: Mapping[Result, int] = _LATER,
    ) -> None:
        if not await positions.advance(connection, log_positions, batch, held, results):
            self._metrics.fence_missed.inc()


def room(events: int, consumer: Sized) -> int:
    """How many events of one partition may wait, so that all together are about `events`."""
    return -(-events // consumer.partitions().get(UNPLACED_EVENTS, 1))


async def _put_aside(
    connection: AsyncConnection,
    batch: Batch,
    unreadable: Sequence[tuple[StoredRecord, InvalidMessage]],
) -> None:
    await outboxes.put(
        connection,
        outbox,
        REJECTED,
        [
            rejected(record, batch.partition, error, stage=given_up.STAGE)
            for record, error in unreadable
        ],
    )
