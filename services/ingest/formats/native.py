"""The native format: an array, `{"events": [...], "sent_at": ...}`, one event, or one a line."""

import msgspec

from services.ingest.answers import answer_each
from services.ingest.envelope import Envelope, Shape, is_lines, open_envelope, open_lines
from services.ingest.identity import account_of
from services.ingest.items import Parsed
from services.ingest.plain import decode_plain
from services.ingest.results import Code
from services.ingest.wire import (
    Draft,
    FormatName,
    Reading,
    Submission,
    WireFormat,
    bearer_key,
    read_item,
)
from shared.errors import InvalidMessage

_SHAPE = Shape("events")


class _Item(Draft, gc=False):
    account: object = msgspec.field(default=None, name="account_id")
    user: object = msgspec.field(default=None, name="user_id")
    tenant_id: object = None


_decoder = msgspec.json.Decoder(_Item)


def _open(body: bytes, submission: Submission, max_items: int) -> Envelope:
    if is_lines(submission.headers.get(b"content-type")):
        return open_lines(body, noun=_SHAPE.items, max_items=max_items)
    return open_envelope(body, _SHAPE, max_items=max_items)


def _read(item: bytes | Parsed, _submission: Submission) -> Reading:
    draft, is_suspect = read_item(item, _Item, _decoder)
    if draft.tenant_id is not None:
        if draft.account is None or draft.account == "":
            draft.account = draft.tenant_id
        elif account_of(draft.account) != account_of(draft.tenant_id, "tenant_id"):
            fault = InvalidMessage(
                Code.CONFLICTING_ACCOUNT, "account_id and tenant_id name different accounts"
            )
            return Reading(draft, is_suspect, fault=fault)
    return Reading(draft, is_suspect)


NATIVE = WireFormat(
    name=FormatName.NATIVE,
    key=bearer_key,
    plain=decode_plain,
    open=_open,
    read=_read,
    answer=answer_each,
)
