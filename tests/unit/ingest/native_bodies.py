"""Decoding by the native format as one call, with valid defaults: a test states what matters."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from services.ingest.events import EventRules, Submission
from services.ingest.formats import native
from services.ingest.results import Decoded
from shared.credentials import hash_user
from shared.messages import UsageEvent, decode

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
SUBMISSION = Submission(source="app", received_at=NOW)


def item(**changes: object) -> dict[str, object]:
    """A good item; a change to None leaves the field out."""
    fields = {"id": "e-1", "account_id": "acme", "type": "login", **changes}
    return {name: value for name, value in fields.items() if value is not None}


def take(body: bytes | object, submission: Submission = SUBMISSION) -> Decoded:
    """The body, or the value as a body, decoded."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return native.decode(data, RULES, submission)


def events(decoded: Decoded) -> Sequence[UsageEvent]:
    return [decode(UsageEvent, record.value) for record in decoded.records]


def codes(decoded: Decoded) -> list[str | None]:
    return [result.code for result in decoded.results]


def warnings(decoded: Decoded) -> list[str]:
    return [str(warning.code) for result in decoded.results for warning in result.warnings]
