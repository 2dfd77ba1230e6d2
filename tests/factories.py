"""Valid messages by default; a test states what matters to it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.log import Batch, StoredRecord, TopicPartition
from shared.messages import USAGE_EVENTS, AccountFields, DirectoryChange, UsageEvent, encode

_FIRST_PARTITION = TopicPartition(USAGE_EVENTS, 0)
NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)


def usage_event(**changes: Any) -> UsageEvent:
    event = UsageEvent(
        id="e-1",
        source="app",
        account="acme",
        user="u1:0123456789abcdef0123456789abcdef",
        type="login",
        occurred_at=NOW - timedelta(days=1),
        client_at=NOW - timedelta(days=1),
        received_at=NOW,
    )
    return msgspec.structs.replace(event, **changes)


def directory_change(**changes: Any) -> DirectoryChange:
    change = DirectoryChange(
        account="acme",
        op="patch",
        source="crm",
        received_at=NOW,
        fields=AccountFields(name="Acme", seats=10),
    )
    return msgspec.structs.replace(change, **changes)


def batch_of(
    messages: Iterable[msgspec.Struct | bytes],
    *,
    first: int = 0,
    partition: TopicPartition = _FIRST_PARTITION,
    generation: int = 1,
) -> Batch:
    """The messages as consecutive records of one partition."""
    values = [one if isinstance(one, bytes) else encode(one) for one in messages]
    return Batch(partition=partition, records=_records(values, first), generation=generation)


def _records(values: Sequence[bytes], first: int) -> list[StoredRecord]:
    return [
        StoredRecord(offset=offset, key=b"k", value=value, headers=(), appended_at=NOW)
        for offset, value in enumerate(values, first)
    ]
