"""The events of a batch: read, and each once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
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
"""The day (an ordinal) and the account as the client stated them: empty where we have found it.

After a crash it is found once more, and perhaps another, as more may be known of the user by then:
under two accounts such an event would count twice."""
Keys: TypeAlias = Mapping[AccountAndDay, AbstractSet[EventKey]]
Known: TypeAlias = tuple[AbstractSet[EventKey], AbstractSet[EventKey]]
"""Events that are known, in two parts."""
EventId: TypeAlias = tuple[AccountAndDay, EventKey]
"""What makes two deliveries the same event."""

_NONE: Final[AbstractSet[EventKey]] = frozenset()
_NO_ACCOUNT: Final = InvalidMessage("missing_account", "account: it is empty")
_decode: Final = msgspec.json.Decoder(UsageEvent).decode


@dataclass(slots=True, kw_only=True)
class Arrivals:
    """What has been read of some records."""

    keys: Keys = field(default_factory=dict)
    """Of the events that were not known."""
    readable: int = 0
    """Events, repeated ones included."""
    unreadable: list[tuple[StoredRecord, InvalidMessage]] = field(default_factory=list)

    def days(self) -> set[date]:
        """The days that the clients stated."""
        return {date.fromordinal(day) for day in {day for day, _ in self.keys}}


def read(
    records: Iterable[StoredRecord],
    arrivals: Arrivals,
    known: Callable[[AccountAndDay], Known],
) -> Iterator[tuple[EventId, UsageEvent]]:
    """The events that are not `known` by their account and day; of several deliveries, the first.

    `arrivals` says at its end what has been read.
    """
    hashers: dict[str, blake2b] = {}
    groups: dict[AccountAndDay, tuple[set[EventKey], Known]] = {}
    for record in records:
        try:
            event = _decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            arrivals.unreadable.append((record, _why(record)))
            continue
        account = event.account
        if not account or event.placed_by is not None:
            if not account:
                arrivals.unreadable.append((record, _NO_ACCOUNT))
                continue
            account = ""
        arrivals.readable += 1
        # Never the corrected day: a retry over midnight would be another event (operations.md).
        stated = event.client_at or event.received_at
        if stated.tzinfo is not UTC:
            stated = stated.astimezone(UTC)
        hasher = hashers.get(event.source)
        if hasher is None:
            name = f"{event.source}\0".encode()
            hasher = hashers[event.source] = blake2b(name, digest_size=16)
        hasher = hasher.copy()  # half of what a new one costs
        hasher.update(event.id.encode())
        key = hasher.digest()
        group = (stated.toordinal(), account)
        met = groups.get(group)
        if met is None:
            met = groups[group] = (set(), known(group))
        new, (young, old) = met
        if key in new or key in young or key in old:
            continue
        new.add(key)
        yield (group, key), event
    arrivals.keys = {group: new for group, (new, _) in groups.items() if new}


def nothing_known(_group: AccountAndDay) -> Known:
    return _NONE, _NONE


def keys_of(events: Iterable[EventId]) -> Keys:
    keys: dict[AccountAndDay, set[EventKey]] = {}
    for group, key in events:
        keys.setdefault(group, set()).add(key)
    return keys


def count(keys: Keys) -> int:
    """Events, each once."""
    return sum(map(len, keys.values()))


def key_of(source: str, event_id: str) -> EventKey:
    """As `read` has it, of one event."""
    return blake2b(f"{source}\0{event_id}".encode(), digest_size=16).digest()


def utc_day(moment: datetime) -> date:
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).date()


def _why(record: StoredRecord) -> InvalidMessage:
    try:
        decode(UsageEvent, record.value)
    except InvalidMessage as error:
        return error
    raise AssertionError("two decoders of one type disagree")
