"""Events that have waited and found no account: to quarantine, or nowhere where they are erased."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring import erasure_store, waiting_store
from services.scoring.metrics import GivenUp
from services.scoring.tables import outbox
from services.scoring.unplaced import Unplaced
from shared import outbox as outboxes
from shared.errors import InvalidMessage
from shared.log import TopicPartition
from shared.messages import REJECTED, UNPLACED_EVENTS
from shared.quarantine import rejected

STAGE: Final = "scoring.placing"

_WHY: Final = {
    GivenUp.LATE: "account: there is none, and in time nothing said which one the user belongs to",
    GivenUp.FULL: "account: there is none, and too many events wait to learn of their users",
}


Ended: TypeAlias = Counter[tuple[str, GivenUp]]
"""Events whose waiting has ended, by source and why."""


async def make_room(connection: AsyncConnection, partition: int, *, room: int, most: int) -> Ended:
    """Let the oldest events go, `most` at most, where more than `room` wait of the partition.

    The caller holds erasures off and has locked the partition.
    """
    over = await waiting_store.lock(connection, partition) - room
    if over <= 0:
        return Counter()
    oldest = await waiting_store.take_oldest(connection, partition, min(over, most))
    return await _let_go(connection, partition, oldest, GivenUp.FULL)


async def let_late_go(
    connection: AsyncConnection, partition: int, *, before: datetime, most: int
) -> Ended:
    """Let the events go, `most` at most, that have waited since before and whose user is unknown.

    The caller holds erasures off and has locked the partition.
    """
    late = await waiting_store.take_late(connection, partition, before=before, most=most)
    return await _let_go(connection, partition, late, GivenUp.LATE)


async def _let_go(
    connection: AsyncConnection, partition: int, events: Sequence[Unplaced], why: GivenUp
) -> Ended:
    # Of a person of whom anything was erased no copy is made, wherever that was.
    erased = {user for _, user in await _erasures(connection, {one.user for one in events})}
    kept = [one for one in events if one.user not in erased]
    error = InvalidMessage("missing_account", _WHY[why])
    at = TopicPartition(UNPLACED_EVENTS, partition)
    await outboxes.put(
        connection,
        outbox,
        REJECTED,
        [rejected(one.as_stored(), at, error, stage=STAGE) for one in kept],
    )
    return Counter(
        (one.event.source, GivenUp.ERASED if one.user in erased else why) for one in events
    )


async def erased_everywhere(connection: AsyncConnection, users: Collection[int]) -> set[int]:
    """Those who were erased as a whole: nothing is kept of them that is to come."""
    return {user for account, user in await _erasures(connection, users) if not account}


async def _erasures(
    connection: AsyncConnection, users: Collection[int]
) -> Collection[tuple[str, int]]:
    if not users:
        return ()
    return (await erasure_store.read_erasures(connection, (), users)).users
