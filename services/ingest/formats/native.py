"""The native format: an array, `{"events": [...], "sent_at": ...}`, one event, or one a line."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from services.ingest.envelope import Envelope, Item, Parsed, open_envelope, parse_item
from services.ingest.events import Draft, EventReader, EventRules, Submission, stated_id
from services.ingest.identity import account_of
from services.ingest.replies import RefusalCode, Refused, Reply, error_reply, results_reply
from services.ingest.results import WARNINGS, Code, Decoded, Result, WarningCode
from services.ingest.times import TimeRules, parse_time
from shared.errors import InvalidMessage

NAME = "native"

_MESSAGES = {
    RefusalCode.LOG_UNAVAILABLE: "nothing was stored: the log cannot be reached; send again",
    RefusalCode.NOT_DURABLE: "not known to be stored in time; send again with the same ids",
}


class _Item(Draft, gc=False):
    account: object = msgspec.field(default=None, name="account_id")
    user: object = msgspec.field(default=None, name="user_id")
    tenant_id: object = None


_decoder = msgspec.json.Decoder(_Item)
_FIELDS = {
    "id": "id",
    "account_id": "account",
    "tenant_id": "tenant_id",
    "user_id": "user",
    "type": "type",
    "occurred_at": "occurred_at",
    "properties": "properties",
}


def decode(body: bytes, rules: EventRules, submission: Submission) -> Decoded:
    """One result per item; raises Refused where there are no items to speak of."""
    envelope = open_envelope(body, "events", lines=submission.lines, max_items=rules.max_items)
    times = _times(envelope, rules, submission)
    reader = EventReader(rules, submission, times, wire_format=NAME)
    has_nul = b"\\u0000" in body
    decoded = Decoded(skew_seconds=None if envelope.sent_at is None else times.skew.total_seconds())
    seen: dict[str, Result] = {}
    for index, item in enumerate(envelope.items):
        draft = None
        try:
            draft, is_suspect = _draft(item, rules)
            _merge_tenant(draft)
            result, record = reader.read(draft, index, is_suspect=is_suspect or has_nul)
        except InvalidMessage as error:
            known = None if draft is None or draft.id is None else stated_id(draft.id)
            decoded.reject(index, known, error.code, error.detail)
            continue
        event_id = result.id or ""
        first = seen.setdefault(event_id, result)
        if first is result:
            decoded.wait_for(result, record)
        else:
            result.warnings = (*result.warnings, WARNINGS[WarningCode.DUPLICATE_IN_REQUEST])
            decoded.results.append(result)
            decoded.duplicates.append((result, first))
    return decoded


def answer(results: Sequence[Result], request_id: str) -> Reply:
    """200 where anything is accepted; else what would have to change, the item or the log."""
    if any(result.status == "accepted" for result in results):
        return results_reply(results)
    codes = Counter(result.code for result in results if result.status == "retry")
    if codes:
        code = RefusalCode.LOG_UNAVAILABLE
        if codes[Code.NOT_DURABLE]:
            code = RefusalCode.NOT_DURABLE
        return error_reply(code, _MESSAGES[code], request_id, results=results)
    worst = results[0]
    message = (
        f"none of {len(results)} was accepted; the first, item {worst.index}:"
        f" {worst.code}: {worst.message}"
    )
    return error_reply(RefusalCode.ALL_REJECTED, message, request_id, results=results)


def _times(envelope: Envelope, rules: EventRules, submission: Submission) -> TimeRules:
    sent_at = None
    if envelope.sent_at is not None:
        try:
            sent_at = parse_time(envelope.sent_at)
        except ValueError as error:
            raise Refused(RefusalCode.INVALID_ENVELOPE, f"sent_at: {error}") from error
    return TimeRules(received_at=submission.received_at, sent_at=sent_at, max_age=rules.max_age)


def _draft(item: Item, rules: EventRules) -> tuple[_Item, bool]:
    """The item's fields, and whether they need a closer look."""
    if not isinstance(item, Parsed):
        data = bytes(item)
        if len(data) > rules.max_item_bytes:
            raise _too_large(rules)
        try:
            return _decoder.decode(data), False
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # No object, a number out of range, bytes that are no text: looked at below.
    elif item.size > rules.max_item_bytes:
        raise _too_large(rules)
    value = parse_item(item)
    if not isinstance(value, dict):
        raise InvalidMessage(Code.INVALID_FIELD, "an event must be an object")
    fields = {field: value[name] for name, field in _FIELDS.items() if name in value}
    return _Item(**fields), True


def _merge_tenant(draft: _Item) -> None:
    if draft.tenant_id is not None:
        if draft.account is None:
            draft.account = draft.tenant_id
        elif account_of(draft.account) != account_of(draft.tenant_id, "tenant_id"):
            raise InvalidMessage(
                Code.CONFLICTING_ACCOUNT, "account_id and tenant_id name different accounts"
            )


def _too_large(rules: EventRules) -> InvalidMessage:
    return InvalidMessage(Code.EVENT_TOO_LARGE, f"it takes more than {rules.max_item_bytes} bytes")
