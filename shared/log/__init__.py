"""The log: append a batch and know that it is durable; consume it by group, position by position.

Two adapters speak this port: `kafka/` (production) and `postgres.py` (one machine). Nothing above
it knows which one is there; both pass `tests/contract/log`. The position of a consumer lives in the
transaction of its handler (`positions.py`); what an adapter stores is a hint for lag tools.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

import msgspec

from shared.errors import PerennialError

MAX_RECORD_BYTES: Final = 192 * 1024
"""Of key, value and headers of one record together. One limit for both adapters, so that what one
takes the other takes too; below a Kafka batch's 256 KiB: aiokafka takes any first record into a
batch, and the broker would refuse it."""


class TopicPartition(NamedTuple):
    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it must exist; names are without the deployment's prefix."""

    name: str
    partitions: int
    retention: timedelta | None
    """None: kept for ever (compacted topics keep the last value of each key)."""
    compacted: bool = False


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a producer appends. `value` None is a tombstone on a compacted topic.

    A struct, as the stored one is: made once per event, in a tenth of a frozen dataclass's time
    (measured: 0.04 against 0.45 us).
    """

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def size_of(record: Record) -> int:
    """What counts against MAX_RECORD_BYTES."""
    size = len(record.key) + (0 if record.value is None else len(record.value))
    for name, value in record.headers:
        size += len(name.encode()) + len(value)
    return size


def sizes_of(records: Iterable[Record]) -> list[int]:
    """As `size_of`, of each; in one loop, as this stands in every request's way.

    Records of one request share their headers, which are counted once.
    """
    sizes = []
    headers: tuple[tuple[str, bytes], ...] = ()
    extra = 0
    for record in records:
        if record.headers is not headers:
            headers = record.headers
            extra = sum(len(name.encode()) + len(value) for name, value in headers)
        size = len(record.key) + extra
        if record.value is not None:
            size += len(record.value)
        sizes.append(size)
    return sizes


class StoredRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record as the log gives it back; `appended_at` is the log's own clock, in UTC."""

    offset: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    appended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of one partition in the order of their offsets, never empty."""

    partition: TopicPartition
    records: Sequence[StoredRecord]
    generation: int
    """The assignment it was fetched under; stale once `Consumer.is_current` says no."""

    @property
    def first(self) -> int:
        return self.records[0].offset

    @property
    def next(self) -> int:
        return self.records[-1].offset + 1


class Appended(Enum):
    """What became of one record of an append."""

    DURABLE = auto()
    """In the log: once, or twice where the first answer was lost on its way during an outage."""
    UNKNOWN = auto()
    """Perhaps in the log, perhaps not: append it again under the same id."""


class LogUnavailable(PerennialError):
    """The log cannot be reached, and nothing of the append was stored."""


class LogBusy(LogUnavailable):
    """Too much of this process is on its way to the log already; nothing was stored."""


class LogRefused(LogUnavailable):
    """The log is there and does not let us; the message names the setting, or the missing right."""


class TopicMissing(PerennialError):
    """A topic does not exist; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a consumer is behind the end of one partition."""

    records: int
    seconds: float
    """Age of the last record handed out while records wait; 0 without lag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What a partition holds, seen from outside, and which member of a group reads it."""

    begin: int
    """The oldest offset that may still be read."""
    end: int
    """The offset that the next record will have."""
    owner: str | None
    """Names the process as the log knows it; None: nobody of the group reads the partition."""
    waiting_since: datetime | None
    """When the first record from the asked position on was appended; None where none waits, or we
    may not read it."""


class Consumer(Protocol):
    """One member of a group (or a follower of whole topics), used by one task.

    Methods that do not await can be trusted until the next await: that is what makes
    `if is_current(batch): seek(...)` safe against a rebalance.
    """

    async def fetch(
        self, *, max_records: int, wait: timedelta, but: Collection[TopicPartition] = ()
    ) -> Sequence[Batch]:
        """The next batches, at most one per partition and each of at most `max_records`; empty
        after `wait` without records. Partitions of `but` are left alone, and stay ours.

        Never raises because the log is away: it waits and returns nothing.
        """
        ...

    def is_current(self, batch: Batch) -> bool:
        """Whether the partition is still ours under the assignment that fetched the batch."""
        ...

    def processing(self) -> AbstractAsyncContextManager[None]:
        """Hold while a batch is in hand: what this member gives up or takes over waits for it,
        within a limit.

        A promise about this member only. On the embedded log a new member may take its share over
        while the old one still has a batch in hand; the epoch makes that safe: the old owner's
        transaction fails (`positions.Fenced`).
        """
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on from `offset`; the caller has just seen `is_current`, without an await between.

        Where the log begins later than `offset` (retention), the next batch begins there.
        """
        ...

    def hint(self, partition: TopicPartition, next_offset: int) -> None:
        """Remember the position for lag tools; published in the background, never awaited."""
        ...

    def assignment(self) -> frozenset[TopicPartition]: ...

    def partitions(self) -> Mapping[str, int]:
        """How many partitions each topic has; a topic is absent until that is known."""
        ...

    @property
    def rebalances(self) -> int:
        """How often this member was told which partitions it has, the first time included."""
        ...

    async def lag(self) -> Mapping[TopicPartition, Lag]:
        """Lag of each assigned partition; raises LogUnavailable while the log is away."""
        ...


class Log(Protocol):
    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        """Store the records and say of each whether it is durable; same order as given.

        Records with the same key keep their order. Answers within `deadline`: what is not known to
        be durable by then is UNKNOWN. Raises LogUnavailable (nothing stored, may succeed later),
        TopicMissing, or ValueError for a record over `MAX_RECORD_BYTES`.
        """
        ...

    @property
    def max_record_bytes(self) -> int:
        """Limit of key, value and headers of one record together."""
        ...

    @property
    def rebuilds(self) -> int:
        """How often what appends had to be replaced since the start, being of no use any more."""
        ...

    def consume(
        self, topics: Sequence[str], *, group: str
    ) -> AbstractAsyncContextManager[Consumer]:
        """Join a group. Entering raises TopicMissing within 2 s, LogUnavailable if away."""
        ...

    def follow(self, topic: str) -> AbstractAsyncContextManager[Consumer]:
        """Read every partition of a topic from its beginning, without a group."""
        ...

    async def check_topics(self, topics: Sequence[Topic]) -> Sequence[str]:
        """What is wrong with the topics, one sentence each; empty when all is well."""
        ...

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; leaves existing topics as they are."""
        ...

    async def survey(
        self, topics: Sequence[str], *, group: str, positions: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, Extent]:
        """Every partition of the topics, for operators; joins no group. A partition without a
        position is looked at from its beginning.

        Raises TopicMissing, or LogUnavailable where the log does not answer.
        """
        ...

    async def ends(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        """The offset that the next record of each partition will have; cheap, asked each second.

        Whatever was durable before the call lies below, also in partitions that a topic was given
        since. Raises TopicMissing, or LogUnavailable within five seconds.
        """
        ...

    async def begins(self, topics: Sequence[str]) -> Mapping[TopicPartition, int]:
        """The oldest offset of each partition that may still be read; its end where none may.

        Raises as `ends`.
        """
        ...

    async def ping(self) -> bool:
        """Whether the log answers within two seconds."""
        ...

    def why_broken(self) -> str | None:
        """Which of the client's own tasks has ended, so that only a restart helps; None: none."""
        ...

    def why_no_append(self) -> str | None:
        """Why no append of this process can pass although the log answers others; None: it can."""
        ...
