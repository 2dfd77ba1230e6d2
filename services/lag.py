"""`perennial lag`: how far each service is, partition by partition, and who reads it.

The positions are those of PostgreSQL, which are the truth; what a log tool shows of the group is a
hint that follows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import intake as notifier_intake
from services.notifier import tables as notifier_tables
from services.scoring import intake as scoring_intake
from services.scoring import placing as scoring_placing
from services.scoring import tables as scoring_tables
from shared.log import Extent, Log, TopicPartition, positions
from shared.log.topics import TOPICS


@dataclass(frozen=True, slots=True)
class Reading:
    """What a group reads."""

    group: str
    topics: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reader:
    """What a service reads, and where its positions are."""

    readings: Sequence[Reading]
    positions: Table


READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "scoring": Reader(
            (
                Reading("scoring", scoring_intake.TOPICS),
                Reading(scoring_placing.GROUP, scoring_placing.TOPICS),
            ),
            scoring_tables.log_positions,
        ),
        "notifier": Reader(
            (Reading("notifier", notifier_intake.TOPICS),), notifier_tables.log_positions
        ),
    }
)
_COMPACTED: Final = frozenset(topic.name for topic in TOPICS if topic.compacted)


class Trouble(StrEnum):
    """What is wrong with a partition, beyond being behind."""

    NO_READER = "no_reader"
    BEYOND_END = "beyond_end"
    """The log ends before the position: it was made anew, or restored to an earlier moment."""
    CUT_OFF = "cut_off"
    """Records were deleted before they were taken in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """One partition of a topic, as one service reads it."""

    service: str
    partition: TopicPartition
    position: int
    extent: Extent
    now: datetime

    @property
    def records(self) -> int:
        """How many wait, of those that are still there."""
        return max(0, self.extent.end - max(self.position, self.extent.begin))

    @property
    def seconds(self) -> float | None:
        """How long the first of them has been waiting; 0 where none waits, None: nobody knows."""
        since = self.extent.waiting_since
        if since is None:
            return None if self.records else 0.0
        return max(0.0, (self.now - since).total_seconds())

    @property
    def missing(self) -> int:
        """How many were deleted before they were taken in; compaction leaves gaps by design."""
        is_compacted = self.partition.topic in _COMPACTED
        return 0 if is_compacted else max(0, self.extent.begin - self.position)

    @property
    def trouble(self) -> Trouble | None:
        if self.position > self.extent.end:
            return Trouble.BEYOND_END
        if self.missing:
            return Trouble.CUT_OFF
        return Trouble.NO_READER if self.extent.owner is None else None


async def survey(log: Log, engine: AsyncEngine, *, now: datetime) -> Sequence[PartitionLag]:
    """Every partition that a service reads, by service, topic and number.

    Raises LogUnavailable, TopicMissing, or what the database raises.
    """
    found = []
    for service, reader in READERS.items():
        async with engine.connect() as connection:
            held = await positions.read(connection, reader.positions)
        extents: dict[TopicPartition, Extent] = {}
        for one in reader.readings:
            extents |= await log.survey(one.topics, group=one.group, positions=held)
        found += [
            PartitionLag(
                service=service,
                partition=partition,
                position=held.get(partition, 0),
                extent=extent,
                now=now,
            )
            for partition, extent in sorted(extents.items())
        ]
    return found
