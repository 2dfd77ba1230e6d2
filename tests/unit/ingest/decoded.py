"""Decoding in any wire format as one call, and what came of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from services.ingest.decoding import decode
from services.ingest.results import Decoded
from services.ingest.wire import EventRules, Submission, WireFormat
from shared import messages
from shared.credentials import hash_user
from shared.log import Record
from shared.messages import (
    DIRECTORY_CHANGES,
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    DirectoryChange,
    Source,
    UnplacedEvent,
    UsageEvent,
)

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
USER_KEY = b"k" * 32

RULES = EventRules(
    hash_user=lambda user: hash_user(USER_KEY, user),
    max_items=2_000,
    max_item_bytes=64 * 1024,
    max_record_bytes=96 * 1024,
    max_depth=32,
    max_age=timedelta(days=30),
)
SUBMISSION = Submission(source=Source(name="app"), received_at=NOW, may_change_accounts=True)


def take(wire: WireFormat, body: bytes | object, submission: Submission = SUBMISSION) -> Decoded:
    """The body, or the value as a body, decoded."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return decode(wire, data, submission, RULES)


def records(decoded: Decoded, topic: str = USAGE_EVENTS) -> Sequence[Record]:
    parcel = decoded.parcels.get(topic)
    return () if parcel is None else parcel.records


def events(decoded: Decoded) -> Sequence[UsageEvent]:
    return [messages.decode(UsageEvent, record.value) for record in records(decoded)]


def unplaced(decoded: Decoded) -> Sequence[UnplacedEvent]:
    """Those that name a user alone; each lies under the hash of its user."""
    found = []
    for record in records(decoded, UNPLACED_EVENTS):
        event = messages.decode(UnplacedEvent, record.value)
        assert record.key == event.user.encode()
        found.append(event)
    return found


def changes(decoded: Decoded) -> Sequence[DirectoryChange]:
    found = records(decoded, DIRECTORY_CHANGES)
    return [messages.decode(DirectoryChange, record.value) for record in found]


def codes(decoded: Decoded) -> list[str | None]:
    return [result.code for result in decoded.results]


def warnings(decoded: Decoded) -> list[str]:
    return [str(warning.code) for result in decoded.results for warning in result.warnings]
