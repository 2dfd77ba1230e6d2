"""What leaves for the topic `rejected`: the record as it was; why, in Kafka Connect's headers."""

from shared.errors import InvalidMessage
from shared.log import Batch, Record, StoredRecord

_HEADERS_BYTES = 4_096


def rejected(batch: Batch, error: InvalidMessage, *, max_record_bytes: int) -> Record:
    """The one record of `batch` for quarantine; cut only where its headers would not fit."""
    record = batch.records[0]
    value = record.value
    room = max(0, max_record_bytes - len(record.key) - _HEADERS_BYTES)
    headers = _headers(batch, record, error)
    if value is not None and len(value) > room:
        headers = (*headers, ("perennial.cut", str(len(value)).encode()))
        value = value[:room]
    # The original headers could be as large as the record: they give way to ours.
    kept = record.headers if sum(len(n) + len(v) for n, v in record.headers) < 1_024 else ()
    return Record(key=record.key, value=value, headers=(*kept, *headers))


def _headers(
    batch: Batch, record: StoredRecord, error: InvalidMessage
) -> tuple[tuple[str, bytes], ...]:
    said = {
        "__connect.errors.topic": batch.partition.topic,
        "__connect.errors.partition": str(batch.partition.partition),
        "__connect.errors.offset": str(record.offset),
        "__connect.errors.stage": "notifier.intake",
        "__connect.errors.class.name": type(error).__name__,
        "__connect.errors.exception.message": error.detail[:500],
        "perennial.code": error.code,
        "perennial.appended_at": record.appended_at.isoformat(),
    }
    return tuple((name, value.encode("utf-8", "replace")) for name, value in said.items())
