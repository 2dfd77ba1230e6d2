"""From a body to the results and records of its items, the same way for every wire format."""

from msgspec.structs import replace

from services.ingest import directory
from services.ingest.envelope import Envelope
from services.ingest.events import EventReader, stated_id
from services.ingest.items import Parsed
from services.ingest.overflow import Overflow
from services.ingest.replies import RefusalCode, Refused
from services.ingest.results import WARNINGS, Code, Decoded, Result, WarningCode
from services.ingest.times import TimeRules, parse_time
from services.ingest.wire import EventRules, Reading, Submission, WireFormat
from shared.errors import InvalidMessage
from shared.log import Record
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS, encode


def decode(
    wire: WireFormat,
    body: bytes,
    submission: Submission,
    rules: EventRules,
    overflow: Overflow | None = None,
) -> Decoded:
    """One result per item; raises Refused where there are no items to speak of."""
    if wire.plain is not None and overflow is None:
        plain = wire.plain(body, submission, rules)
        if plain is not None:
            return plain
    return decode_carefully(wire, body, submission, rules, overflow)


def decode_carefully(
    wire: WireFormat,
    body: bytes,
    submission: Submission,
    rules: EventRules,
    overflow: Overflow | None = None,
) -> Decoded:
    """As `decode`, whatever the body is like."""
    envelope = wire.open(body, submission, rules.max_items)
    if envelope.is_history:
        submission = replace(submission, marks_backfill=True)
    times = _times(envelope, submission, rules)
    reader = EventReader(rules, submission, times, wire_format=wire.name.value)
    # NUL is good JSON, and nothing else of us can store it.
    has_nul = b"\\u0000" in body
    decoded = Decoded(
        is_history=envelope.is_history,
        skew_seconds=None if envelope.sent_at is None else times.skew.total_seconds(),
    )
    seen: dict[str | None, Result] = {}
    for index, item in enumerate(envelope.items):
        data = item if isinstance(item, (bytes, Parsed)) else bytes(item)
        reading = None
        try:
            _check_size(data, rules)
            reading = wire.read(data, submission)
            if reading.fault is not None:
                raise reading.fault
            if has_nul:
                reading.is_suspect = True
            own_times = None
            if reading.sent_at is not None and envelope.sent_at is None:
                own_times = _own_times(reading.sent_at, submission, rules)
            result, topic, record = reader.read(reading, index, own_times)
            change = _change(reading, result, record, submission)
        except InvalidMessage as error:
            known = None if reading is None else stated_id(reading.draft.id)
            decoded.reject(index, known, error.code, error.detail, data)
            continue
        first = seen.setdefault(result.id, result)
        if first is not result:
            result.warnings = (*result.warnings, WARNINGS[WarningCode.DUPLICATE_IN_REQUEST])
            decoded.results.append(result)
            decoded.duplicates.append((result, first))
            continue
        if overflow is not None and topic == USAGE_EVENTS:
            topic = overflow.topic_of(record.key)
        decoded.wait_for(result, topic, record)
        if change is not None:
            decoded.append(result, DIRECTORY_CHANGES, change)
    return decoded


def _check_size(item: bytes | Parsed, rules: EventRules) -> None:
    size = item.size if isinstance(item, Parsed) else len(item)
    if size > rules.max_item_bytes:
        raise InvalidMessage(
            Code.EVENT_TOO_LARGE, f"it takes more than {rules.max_item_bytes} bytes"
        )


def _change(
    reading: Reading, result: Result, record: Record, submission: Submission
) -> Record | None:
    """What the item says of its account, as a change to the directory; None: nothing."""
    if reading.traits is None:
        return None
    if not submission.may_change_accounts:
        raise InvalidMessage(
            Code.SCOPE_MISSING, "it describes an account; the key lacks the scope accounts:write"
        )
    change, warning = directory.patch_from_traits(
        record.key.decode(),
        reading.traits,
        source=submission.source.name,
        received_at=submission.received_at,
    )
    if warning is not None:
        result.warnings = (*result.warnings, warning)
    return Record(key=record.key, value=encode(change), headers=record.headers)


def _times(envelope: Envelope, submission: Submission, rules: EventRules) -> TimeRules:
    sent_at = None
    if envelope.sent_at is not None:
        try:
            sent_at = parse_time(envelope.sent_at)
        except ValueError as error:
            raise Refused(RefusalCode.INVALID_ENVELOPE, f"sent_at: {error}") from error
    return TimeRules(received_at=submission.received_at, sent_at=sent_at, max_age=rules.max_age)


def _own_times(sent_at: object, submission: Submission, rules: EventRules) -> TimeRules | None:
    try:
        moment = parse_time(sent_at)
    except ValueError:
        return None  # It says nothing about the sender's clock; the event's own time still counts.
    return TimeRules(received_at=submission.received_at, sent_at=moment, max_age=rules.max_age)
