"""Records that could not be taken in, on their way to the `rejected` topic.

Key and value stay as they were; why and where is in the headers, under Kafka Connect's names.
"""

from shared.errors import InvalidMessage
from shared.log import MAX_RECORD_BYTES, Record, StoredRecord, TopicPartition, size_of

_PREFIX = "__connect.errors."

Headers = tuple[tuple[str, bytes], ...]


def rejected(
    record: StoredRecord, at: TopicPartition, error: InvalidMessage, *, stage: str
) -> Record:
    """The record as it came, with its origin and the reason; never with its payload in a header.

    Cut only where it would not fit with its new headers: the relay could never publish it.
    """
    reasons = {
        f"{_PREFIX}topic": at.topic,
        f"{_PREFIX}partition": str(at.partition),
        f"{_PREFIX}offset": str(record.offset),
        f"{_PREFIX}stage": stage,
        f"{_PREFIX}class.name": type(error).__name__,
        f"{_PREFIX}exception.message": str(error)[:500],
        "perennial.code": error.code,
    }
    ours = tuple((name, text.encode("utf-8", "replace")) for name, text in reasons.items())
    whole = Record(key=record.key, value=record.value, headers=(*record.headers, *ours))
    return whole if size_of(whole) <= MAX_RECORD_BYTES else _cut(record, ours)


def _cut(record: StoredRecord, ours: Headers) -> Record:
    was = f"{len(record.key)}+{len(record.value or b'')}".encode()
    headers = (*ours, ("perennial.cut", was))
    room = MAX_RECORD_BYTES - size_of(Record(key=b"", value=None, headers=headers))
    key = record.key[:room]
    value = None if record.value is None else record.value[: room - len(key)]
    return Record(key=key, value=value, headers=headers)
