"""What really lies in the log after a request."""

from datetime import timedelta
from typing import TypeVar

from shared.log import Log, Record
from shared.messages import SOURCES, WriteKey, decode, encode

M = TypeVar("M")

_WAIT = timedelta(milliseconds=200)


async def stored(log: Log, topic: str, kind: type[M]) -> list[tuple[bytes, M]]:
    """All records of a topic with their keys, in the order of each partition."""
    found: list[tuple[bytes, M]] = []
    async with log.follow(topic) as consumer:
        while batches := await consumer.fetch(max_records=10_000, wait=_WAIT):
            for batch in batches:
                found.extend((record.key, decode(kind, record.value)) for record in batch.records)
    return found


async def publish_key(log: Log, record: WriteKey) -> None:
    """As `perennial keys create` does."""
    await log.append(
        SOURCES,
        [Record(key=record.key_id.encode(), value=encode(record))],
        deadline=timedelta(seconds=5),
    )
