"""The events of a batch: read, and each once.

A batch is thousands of events, each of which may cost a few microseconds in all: hence the plain
loops here and in `domain/activity.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from shared.errors import InvalidMessage
from shared.log import StoredRecord
from shared.messages import UsageEvent, decode

EventKey: TypeAlias = bytes
"""128-bit hash of source and id."""
AccountAndDay: TypeAlias = tuple[int, str]
"""The day as the client stated it (an ordinal), and the account."""
Groups: TypeAlias = Mapping[AccountAndDay, Mapping[EventKey, UsageEvent]]
"""Account, stated day and key make two deliveries the same event."""

_decode: Final = msgspec.json.Decoder(UsageEvent).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Of several deliveries of an event, `groups` holds the first."""

    groups: Groups
    readable: int
    """Events, repeated ones included."""
    unreadable: Sequence[tuple[StoredRecord, InvalidMessage]]

    def days(self) -> set[date]:
        """The days that the clients stated."""
        return {date.fromordinal(day) for day in {day for day, _ in self.groups}}


def read(records: Iterable[StoredRecord]) -> Arrivals:
    """What the records hold."""
    groups: dict[AccountAndDay, dict[EventKey, UsageEvent]] = {}
    hashers: dict[str, blake2b] = {}
    unreadable: list[tuple[StoredRecord, InvalidMessage]] = []
    readable = 0
    for record in records:
        try:
            event = _decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            unreadable.append((record, _why(record)))
            continue
        readable += 1
        # Never the corrected day: a retry over midnight would be another event (operations.md).
        stated = event.client_at or event.received_at
        if stated.tzinfo is not UTC:
            stated = stated.astimezone(UTC)
        group = (stated.toordinal(), event.account)
        hasher = hashers.get(event.source)
        if hasher is None:
            name = f"{event.source}\0".encode()
            hasher = hashers[event.source] = blake2b(name, digest_size=16)
        hasher = hasher.copy()  # half of what a new one costs
        hasher.update(event.id.encode())
        key = hasher.digest()
        known = groups.get(group)
        if known is None:
            groups[group] = {key: event}
        elif key not in known:
            known[key] = event
    return Arrivals(groups=groups, readable=readable, unreadable=unreadable)


def count(groups: Groups) -> int:
    """Events, each once."""
    return sum(map(len, groups.values()))


def utc_day(moment: datetime) -> date:
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).date()


def _why(record: StoredRecord) -> InvalidMessage:
    try:
        decode(UsageEvent, record.value)
    except InvalidMessage as error:
        return error
    raise AssertionError("two decoders of one type disagree")
