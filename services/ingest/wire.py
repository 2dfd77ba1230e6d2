"""What a wire format is: how it names its key, finds its items, reads one, and answers.

Everything that holds for all formats stands once, in `admission`, `decoding`, `events` and
`publisher`. A format is a value of `WireFormat` in a module of `formats`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias, TypeVar

import msgspec

from services.ingest.envelope import Envelope, parse_item
from services.ingest.items import Parsed
from services.ingest.replies import Reply
from services.ingest.results import Code, Decoded
from shared.credentials import HashedUser, bearer
from shared.errors import InvalidMessage
from shared.messages import Source
from shared.traceparent import RecordHeaders

Headers: TypeAlias = Mapping[bytes, bytes]
"""Names in lower case; of a repeated header the last one."""

T = TypeVar("T", bound=msgspec.Struct)


class FormatName(StrEnum):
    """The formats of requests, as metrics and events name them."""

    NATIVE = "native"
    SEGMENT = "segment"
    CLOUDEVENTS = "cloudevents"
    POSTHOG = "posthog"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRules:
    """What holds for all requests of this process."""

    hash_user: Callable[[str], HashedUser]
    max_items: int
    max_item_bytes: int
    max_record_bytes: int
    max_depth: int
    max_age: timedelta


class Submission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one request says about all its items."""

    source: Source
    received_at: datetime
    may_backfill: bool = False
    may_change_accounts: bool = False
    marks_backfill: bool = False
    idempotency_key: str | None = None
    headers: Headers = {}
    trace: RecordHeaders = ()
    """The headers of all its records."""
    path: str = ""
    """Without a slash at its end."""


class Draft(msgspec.Struct, gc=False):
    """What a format found in an item, not yet looked at; null is as absent."""

    id: object = None
    account: object = None
    user: object = None
    type: object = None
    occurred_at: object = None
    properties: object = None


class Reading(msgspec.Struct, gc=False):
    """A draft, and what its format knows about it besides."""

    draft: Draft
    is_suspect: bool = False
    """It came through the patient parser: text may hold halves of characters, numbers be none."""
    sent_at: object = None
    """When this item was sent, where the request as a whole does not say."""
    is_corrected: bool = False
    """`occurred_at` is already free of the sender's clock error."""
    traits: Mapping[str, object] | None = None
    """What the item says of its account; None where it says nothing."""
    fault: InvalidMessage | None = None
    """Why it is rejected all the same: found by the format, which could still tell its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFormat:
    name: FormatName
    key: Callable[[Headers], str | None]
    """The key among the headers."""
    body_key: Callable[[bytes], str | None] | None = None
    """The key in the plain body, for formats that may send it there; never raises."""
    plain: Callable[[bytes, Submission, EventRules], Decoded | None] | None = None
    """A short way for bodies in which nothing is unusual; None: the careful way decides."""
    open: Callable[[bytes, Submission, int], Envelope]
    """The items of a body, at most so many; raises Refused."""
    read: Callable[[bytes | Parsed, Submission], Reading]
    """One item; raises InvalidMessage."""
    answer: Callable[[Decoded, str], Reply]
    """The reply, given the request's id."""


def without_system_keys(properties: dict[str, object]) -> dict[str, object]:
    """Properties less those that a library adds for itself (`$lib`, `$ip`, ...)."""
    if not any(name.startswith("$") for name in properties):
        return properties
    return {name: value for name, value in properties.items() if not name.startswith("$")}


def bearer_key(headers: Headers) -> str | None:
    """The key of an `Authorization: Bearer` header."""
    return bearer(headers.get(b"authorization", b"").decode("latin-1"))


def read_item(
    item: bytes | Parsed, kind: type[T], decoder: msgspec.json.Decoder[T]
) -> tuple[T, bool]:
    """An item as `kind`, whose fields are all plain `object`; True with it where it is suspect.

    Raises InvalidMessage where it is no JSON object.
    """
    if not isinstance(item, Parsed):
        try:
            return decoder.decode(item), False
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # No object, a number out of range, bytes that are no text: looked at below.
    value = parse_item(item)
    if not isinstance(value, dict):
        raise InvalidMessage(Code.INVALID_FIELD, "an event must be an object")
    return msgspec.convert(value, kind), True
