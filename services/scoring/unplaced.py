"""Events that name a user alone: as the log has them, and with the account that was found."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Protocol, TypeAlias

import msgspec

from services.scoring.arrivals import EventKey, key_of, utc_day
from services.scoring.domain.activity import user_key
from services.scoring.domain.placing import Standing, place
from shared import traceparent, tracing
from shared.errors import InvalidMessage
from shared.log import Appended, LogUnavailable, Record, StoredRecord
from shared.messages import USAGE_EVENTS, PlacedBy, UnplacedEvent, UsageEvent, decode, encode

BYTES_AT_ONCE: Final = 16 * 1024 * 1024
"""Of events in hand; the log has room for four times as many on their way to it."""

_RECORDS_AT_ONCE: Final = 5_000
_DEADLINE: Final = timedelta(seconds=10)
_decode: Final = msgspec.json.Decoder(UnplacedEvent).decode

Span: TypeAlias = tuple[datetime, datetime]
"""The times of a user's first and last event."""


class Unplaced(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event and where it stands in its partition of `unplaced-events`."""

    event: UnplacedEvent
    user: int
    """The user's key."""
    offset: int
    since: datetime
    """When the log took it."""
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def day(self) -> date:
        """The day that the client stated: that of a retry too."""
        return utc_day(self.event.client_at or self.event.received_at)

    @property
    def key(self) -> EventKey:
        return key_of(self.event.source, self.event.id)

    def as_stored(self) -> StoredRecord:
        """The record that it was read from."""
        return StoredRecord(
            offset=self.offset,
            key=self.event.user.encode(),
            value=self.value,
            headers=self.headers,
            appended_at=self.since,
        )


class Appends(Protocol):
    """The part of `shared.log.Log` that is needed here."""

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]: ...


class Placed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event whose account was found."""

    unplaced: Unplaced
    account: str
    by: PlacedBy


def read(
    records: Iterable[StoredRecord],
) -> tuple[list[Unplaced], list[tuple[StoredRecord, InvalidMessage]]]:
    """The events, and the records that are none with the reason."""
    events, unreadable = [], []
    for record in records:
        try:
            events.append(from_stored(record))
        except InvalidMessage as error:
            unreadable.append((record, error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            unreadable.append((record, _why(record)))
    return events, unreadable


def from_stored(record: StoredRecord) -> Unplaced:
    """The event of a record; raises what the decoder does, and InvalidMessage."""
    value = record.value or b""
    event = _decode(value)
    if event.occurred_at.tzinfo is None:
        # It compares with no other moment.
        raise InvalidMessage("invalid_message", "occurred_at: it has no time zone")
    return Unplaced(
        event=event,
        user=user_key(event.user),
        offset=record.offset,
        since=record.appended_at,
        value=value,
        headers=record.headers,
    )


def spans(events: Iterable[Unplaced]) -> dict[int, Span]:
    """By user, when the first and the last of the events took place."""
    found: dict[int, Span] = {}
    for one in events:
        at = one.event.occurred_at
        known = found.get(one.user)
        if known is None:
            found[one.user] = at, at
        elif at < known[0]:
            found[one.user] = at, known[1]
        elif at > known[1]:
            found[one.user] = known[0], at
    return found


def find(
    events: Iterable[Unplaced], standings: Mapping[int, Standing], *, until: datetime | None
) -> tuple[list[Placed], list[Unplaced]]:
    """The events with their accounts, and those of users that are not known yet.

    What is said of users is complete up to `until`: of whom we heard later, more may still come.
    """
    known = {
        user: standing
        for user, standing in standings.items()
        if until is not None and standing.known_since <= until
    }
    placed, left = [], []
    for one in events:
        standing = known.get(one.user)
        if standing is None:
            left.append(one)
        else:
            account, by = place(one.event.occurred_at, standing)
            placed.append(Placed(unplaced=one, account=account, by=by))
    return placed, left


async def append(log: Appends, placed: Collection[Placed]) -> None:
    """Let the events go on, in their order; raises LogUnavailable where one may not have."""
    if not placed:
        return
    records = [_record_of(one) for one in placed]
    with tracing.many(
        "scoring places events",
        lambda: traceparent.of_records(records, most=tracing.MOST_LINKS),
        kind=tracing.Kind.PRODUCER,
        topic=USAGE_EVENTS,
        records=len(records),
    ):
        for portion in _portions(records):
            appended = await log.append(USAGE_EVENTS, portion, deadline=_DEADLINE)
            if any(state is not Appended.DURABLE for state in appended):
                raise LogUnavailable(USAGE_EVENTS)


def _portions(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records in their order, in parts that the log has room for."""
    start = size = 0
    for end, record in enumerate(records):
        size += len(record.value or b"")
        if size > BYTES_AT_ONCE or end - start == _RECORDS_AT_ONCE:
            yield records[start:end]
            start, size = end, len(record.value or b"")
    yield records[start:]


def _record_of(placed: Placed) -> Record:
    event = placed.unplaced.event
    value = encode(
        UsageEvent(
            id=event.id,
            source=event.source,
            account=placed.account,
            user=event.user,
            type=event.type,
            occurred_at=event.occurred_at,
            received_at=event.received_at,
            client_at=event.client_at,
            format=event.format,
            backfill=event.backfill,
            properties=event.properties,
            placed_by=placed.by,
        )
    )
    return Record(key=placed.account.encode(), value=value, headers=placed.unplaced.headers)


def _why(record: StoredRecord) -> InvalidMessage:
    try:
        decode(UnplacedEvent, record.value)
    except InvalidMessage as error:
        return error
    raise AssertionError("two decoders of one type disagree")
