"""The `rejected` topic: what could not be taken in, as it came, and what became of it since.

Where it came from and why is in the headers: Kafka Connect's names first, then ours (`perennial.`).
A consumer's record keeps its key, value and own headers; an item of a request has its bytes as
value. An operator settles records by markers on the same topic (`Settlement`): there is no database
behind it, and a marker outlives what it settles, since the topic deletes by age.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NewType

import msgspec

from shared.errors import InvalidMessage
from shared.log import MAX_RECORD_BYTES, Record, StoredRecord, TopicPartition, size_of
from shared.log.topics import TOPICS
from shared.messages import UNPLACED_EVENTS, Message, decode, encode

INGEST_STAGE: Final = "ingest.decode"
MAX_ITEM_BYTES: Final = 64 * 1024
"""Of a rejected item's bytes; the rest is cut."""

_CONNECT = "__connect.errors."
_OURS = "perennial."
_CODE = "perennial.code"
_CUT = "perennial.cut"
_ADDED = (_CODE, _CUT)
_SETTLES = "perennial.settles"
_MAX_REASON = 500
_ID = re.compile(r"(\d{1,9})-(\d{1,18})", re.ASCII)
_COMPACTED = frozenset(topic.name for topic in TOPICS if topic.compacted)

Headers = tuple[tuple[str, bytes], ...]

RejectedId = NewType("RejectedId", str)
"""`partition-offset` of the record in the topic."""


class Settlement(Message, frozen=True, kw_only=True, omit_defaults=True):
    """An operator's word about rejected records; the marker that holds it is their audit trail."""

    ids: tuple[RejectedId, ...]
    state: Literal["replayed", "dropped"]
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record of the topic, read: what it was, and whether it can be taken in once more."""

    id: RejectedId
    rejected_at: datetime
    stage: str
    code: str
    reason: str
    source: str | None
    account: str | None
    topic: str | None
    """The topic that it came from; None where it came in a request."""
    key: bytes
    value: bytes | None
    own_headers: Headers
    said: Mapping[str, str]
    """What else ingest said of the item, by name."""
    why_not_replayable: str | None

    @property
    def size(self) -> int:
        return len(self.value or b"")


def rejected(
    record: StoredRecord, at: TopicPartition, error: InvalidMessage, *, stage: str
) -> Record:
    """The record as it came, with its origin and the reason; never with its payload in a header.

    Cut only where it would not fit with its new headers: the relay could never publish it.
    """
    origin = {
        f"{_CONNECT}topic": at.topic,
        f"{_CONNECT}partition": str(at.partition),
        f"{_CONNECT}offset": str(record.offset),
    }
    ours = _encoded({**origin, **_reasons(error, stage)}, "replace")
    whole = Record(key=record.key, value=record.value, headers=(*record.headers, *ours))
    return whole if size_of(whole) <= MAX_RECORD_BYTES else _cut(record, ours)


def rejected_item(
    key: bytes,
    item: bytes,
    error: InvalidMessage,
    said: Mapping[str, str | None],
    *,
    trace: Headers = (),
) -> Record:
    """An item of a request, at most MAX_ITEM_BYTES of it; `said` is what reading it again takes.

    What is None is left out; `cut` has to be said where the bytes are not the whole item.
    """
    stated = {f"{_OURS}{name}": text for name, text in said.items() if text is not None}
    headers = (
        *_encoded(_reasons(error, INGEST_STAGE), "replace"),
        # Halves of characters stay what they are: with one, an id must not become a good one.
        *_encoded(stated, "surrogatepass"),
        *trace,
    )
    return Record(key=key, value=item[:MAX_ITEM_BYTES], headers=headers)


def read_rejected(stored: StoredRecord, partition: int) -> Rejected | None:
    """The record as a value; None for a marker. Never raises, whatever the bytes are."""
    # Of a repeated header the last one: `rejected` appends to what a record brought along.
    headers = {name: value.decode("utf-8", "surrogatepass") for name, value in _text(stored)}
    if _SETTLES in headers:
        return None
    said = {
        name.removeprefix(_OURS): value for name, value in headers.items() if name.startswith(_OURS)
    }
    stage = headers.get(f"{_CONNECT}stage", "")
    topic = headers.get(f"{_CONNECT}topic")
    is_item = topic is None
    code = headers.get(_CODE, "")
    message = headers.get(f"{_CONNECT}exception.message", "")
    account = said.get("account") if is_item else _account_of(topic, stored.key)
    return Rejected(
        id=RejectedId(f"{partition}-{stored.offset}"),
        rejected_at=stored.appended_at,
        stage=stage,
        code=code,
        reason=message.removeprefix(f"{code}: "),
        source=said.get("source") if is_item else _source_of(stored.value),
        account=account,
        topic=topic,
        key=stored.key,
        value=stored.value,
        own_headers=tuple(
            (name, value)
            for name, value in stored.headers
            if not name.startswith(_CONNECT) and name not in _ADDED
        ),
        said=said,
        why_not_replayable=_why_not(said, topic, stored.value),
    )


def settlement_record(settlement: Settlement) -> Record:
    key = settlement.ids[0].encode()
    return Record(key=key, value=encode(settlement), headers=((_SETTLES, b"1"),))


def read_settlement(stored: StoredRecord) -> Settlement | None:
    """The marker's content; None for every other record, and for a marker that cannot be read."""
    if not any(name == _SETTLES for name, _ in stored.headers):
        return None
    try:
        return decode(Settlement, stored.value)
    except InvalidMessage:
        return None


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def _reasons(error: InvalidMessage, stage: str) -> dict[str, str]:
    return {
        f"{_CONNECT}stage": stage,
        f"{_CONNECT}class.name": type(error).__name__,
        f"{_CONNECT}exception.message": str(error)[:_MAX_REASON],
        _CODE: error.code,
    }


def _encoded(headers: Mapping[str, str], errors: str) -> Headers:
    return tuple((name, text.encode("utf-8", errors)) for name, text in headers.items())


def _text(stored: StoredRecord) -> Headers:
    """The headers that are ours and text."""
    return tuple(
        (name, value)
        for name, value in stored.headers
        if name.startswith((_CONNECT, _OURS)) and _is_text(value)
    )


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


class _Sourced(msgspec.Struct):
    source: str | None = None


_sourced = msgspec.json.Decoder(_Sourced)


def _source_of(value: bytes | None) -> str | None:
    """The source that a message names, where the record is one."""
    try:
        return _sourced.decode(value or b"{}").source
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _account_of(topic: str | None, key: bytes) -> str | None:
    """The account that the key of a record names."""
    return None if topic == UNPLACED_EVENTS else key.decode("utf-8", "replace") or None


def _why_not(said: Mapping[str, str], topic: str | None, value: bytes | None) -> str | None:
    if "cut" in said:
        return "it was cut: only its beginning was kept"
    if topic in _COMPACTED:
        return f"{topic} keeps the last record of each key: an old one would replace a newer one"
    if topic is None and not value:
        return "there is nothing of it but the reason"
    if topic is None and "received_at" not in said:
        return "it does not say how to read it"
    return None


def _cut(record: StoredRecord, ours: Headers) -> Record:
    was = f"{len(record.key)}+{len(record.value or b'')}".encode()
    headers = (*ours, (_CUT, was))
    room = MAX_RECORD_BYTES - size_of(Record(key=b"", value=None, headers=headers))
    key = record.key[:room]
    value = None if record.value is None else record.value[: room - len(key)]
    return Record(key=key, value=value, headers=headers)
