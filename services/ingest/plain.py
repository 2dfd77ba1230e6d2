"""The short way for native bodies in which nothing is unusual, as nearly all are.

One call of msgspec decodes and checks all items, then one straight loop makes their records: an
event costs less than half of what it does on the careful way (`decoding`). Whatever would be
rejected, warned about, repaired or is merely rare ends this way with None, and the careful one
decides. Both come to the same end for every body that this one takes: a property test compares
them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import msgspec

from services.ingest.envelope import is_lines
from services.ingest.events import has_duration
from services.ingest.identity import (
    MAX_ID_LENGTH,
    MAX_TYPE_LENGTH,
    account_of,
    is_user,
    type_of,
)
from services.ingest.results import Decoded, Parcel, Result
from services.ingest.times import SKEW_TOLERANCE
from services.ingest.wire import EventRules, Submission
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import USAGE_EVENTS, UsageEvent, encode

_NUL = b"\\u0000"
_Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
_Type: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TYPE_LENGTH)]
_Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
_Properties: TypeAlias = Annotated[
    dict[str, str | int | float | bool | None], msgspec.Meta(max_length=100)
]


class _Item(msgspec.Struct, gc=False):
    id: _Name
    account_id: _Name
    type: _Type
    user_id: _Name | None = None
    occurred_at: _Moment | None = None
    properties: _Properties | None = None
    tenant_id: None = None


class _One(_Item, gc=False):
    events: None = None
    sent_at: None = None


class _Events(msgspec.Struct, gc=False):
    events: list[_Item]
    sent_at: None = None


_list_decoder = msgspec.json.Decoder(list[_Item])
_events_decoder = msgspec.json.Decoder(_Events)
_one_decoder = msgspec.json.Decoder(_One)


def decode_plain(body: bytes, submission: Submission, rules: EventRules) -> Decoded | None:
    """As `decoding.decode`; None where it takes more than this to say."""
    # In a body no larger than one item may be, no item is too large.
    if len(body) > rules.max_item_bytes or _NUL in body or submission.source.type_map:
        return None
    if is_lines(submission.headers.get(b"content-type")):
        return None
    try:
        items = _decode(body)
        if not 0 < len(items) <= rules.max_items:
            return None
        return _records(items, submission, rules)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidMessage):
        return None


def _decode(body: bytes) -> Sequence[_Item]:
    if body[:1] == b"[":
        return _list_decoder.decode(body)
    if b'"events"' in body:
        return _events_decoder.decode(body).events
    return [_one_decoder.decode(body)]


def _records(items: Sequence[_Item], submission: Submission, rules: EventRules) -> Decoded | None:
    """Every item's record; raises InvalidMessage where one would be rejected."""
    received_at = submission.received_at
    latest, earliest = received_at + SKEW_TOLERANCE, received_at - rules.max_age
    source, marks_backfill = submission.source.name, submission.marks_backfill
    trace, max_bytes, hash_user = submission.trace, rules.max_record_bytes, rules.hash_user
    results: list[Result] = []
    records: list[Record] = []
    for index, item in enumerate(items):
        account = account_of(item.account_id)
        event_type = type_of(item.type)
        user = item.user_id
        if user is not None:
            if not is_user(user):
                return None
            user = hash_user(user)
        stated = item.occurred_at
        if stated is not None:
            if not earliest <= stated <= latest:
                return None
            if stated.tzinfo is not UTC:
                stated = stated.astimezone(UTC)
        properties = item.properties or {}
        if event_type == "feedback" or (
            event_type == "session_end" and not has_duration(properties)
        ):
            return None
        value = encode(
            UsageEvent(
                id=item.id,
                source=source,
                account=account,
                user=user,
                type=event_type,
                occurred_at=stated or received_at,
                client_at=stated,
                received_at=received_at,
                backfill=marks_backfill,
                properties=properties,
            )
        )
        key = account.encode()
        if len(key) + len(value) > max_bytes:
            return None
        results.append(Result(index, item.id, "retry"))
        records.append(Record(key=key, value=value, headers=trace))
    if len(items) > 1 and len({item.id for item in items}) < len(items):
        return None
    parcel = Parcel(records, results)
    return Decoded(results=list(results), parcels={USAGE_EVENTS: parcel})
