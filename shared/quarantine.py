"""Records that could not be taken in, on their way to the `rejected` topic.

Key and value stay as they were; why and where is in the headers, under Kafka Connect's names.
"""

from shared.errors import InvalidMessage
from shared.log import Record, StoredRecord, TopicPartition

_PREFIX = "__connect.errors."


def rejected(
    record: StoredRecord, at: TopicPartition, error: InvalidMessage, *, stage: str
) -> Record:
    """The record as it came, with its origin and the reason; never with its payload in a header."""
    reasons = {
        f"{_PREFIX}topic": at.topic,
        f"{_PREFIX}partition": str(at.partition),
        f"{_PREFIX}offset": str(record.offset),
        f"{_PREFIX}stage": stage,
        f"{_PREFIX}class.name": type(error).__name__,
        f"{_PREFIX}exception.message": str(error)[:500],
        "perennial.code": error.code,
    }
    return Record(
        key=record.key,
        value=record.value,
        headers=(*record.headers, *((name, text.encode()) for name, text in reasons.items())),
    )
