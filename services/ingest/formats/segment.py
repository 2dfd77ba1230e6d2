"""What Segment's and RudderStack's libraries send: a batch of messages, or one by its own path.

The kind of a message is its `type`, or the last part of the path. `group` says what the account is
called and has; every message may name its account in the context or its properties, and `identify`
in the traits of its user.
"""

import base64
import binascii
from collections.abc import Mapping

import msgspec

from services.ingest.answers import answer_few_words
from services.ingest.envelope import Envelope, Shape, member_of, open_envelope, open_one
from services.ingest.items import Parsed
from services.ingest.results import Code
from services.ingest.times import is_time
from services.ingest.wire import (
    Draft,
    FormatName,
    Headers,
    Reading,
    Submission,
    WireFormat,
    bearer_key,
    read_item,
    without_system_keys,
)
from shared.errors import InvalidMessage

BATCH = "/v1/batch"
KINDS = ("track", "identify", "group", "page", "screen", "alias")

_SHAPE = Shape("batch", "sentAt")
_TYPES = {"page": "page_view", "screen": "screen_view"}
IN_PROPERTIES = ("account_id", "tenant_id", "groupId")
_IN_TRAITS = (*IN_PROPERTIES, "group_id")


class _Message(msgspec.Struct, gc=False, rename="camel"):
    type: object = None
    message_id: object = None
    user_id: object = None
    group_id: object = None
    event: object = None
    context: object = None
    properties: object = None
    traits: object = None
    timestamp: object = None
    original_timestamp: object = None
    sent_at: object = None


_decoder = msgspec.json.Decoder(_Message)


def _key(headers: Headers) -> str | None:
    """The user of Basic, as the libraries send it, else the token of Bearer."""
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return bearer_key(headers)
    try:
        user = base64.b64decode(value.strip(), validate=True).partition(b":")[0]
    except binascii.Error:
        return None
    return user.decode("latin-1") or None


def _body_key(body: bytes) -> str | None:
    key = member_of(body, "writeKey")
    return key if isinstance(key, str) else None


def _open(body: bytes, submission: Submission, max_items: int) -> Envelope:
    if submission.path != BATCH:
        return open_one(body)
    envelope = open_envelope(body, _SHAPE, max_items=max_items)
    # A library that writes its time in a way of its own still sends good events.
    return envelope if is_time(envelope.sent_at) else Envelope(envelope.items)


def _read(item: bytes | Parsed, submission: Submission) -> Reading:
    message, is_suspect = read_item(item, _Message, _decoder)
    kind = message.type if submission.path == BATCH else submission.path.rpartition("/")[2]
    if kind not in KINDS:
        fault = InvalidMessage(Code.INVALID_TYPE, f"type: must be one of {', '.join(KINDS)}")
        return Reading(Draft(id=message.message_id), is_suspect, fault=fault)
    has_properties = kind in ("track", "page", "screen")
    draft = Draft(
        id=message.message_id,
        account=_account(message),
        user=message.user_id,
        type=message.event if kind == "track" else _TYPES.get(str(kind), kind),
        # Who has both was put right on its way already: the first is then the event's true time.
        occurred_at=message.original_timestamp if message.timestamp is None else message.timestamp,
        properties=_properties(message.properties) if has_properties else None,
    )
    # An operator's word on a source comes before a word that its users' traits share with it.
    if kind == "identify" and draft.account is None and not submission.source.default_account:
        draft.account = _account_of_traits(message)
    return Reading(
        draft,
        is_suspect,
        sent_at=message.sent_at,
        is_corrected=None not in (message.timestamp, message.original_timestamp),
        traits=_object(message.traits) if kind == "group" else None,
    )


def _properties(stated: object) -> object:
    return without_system_keys(stated) if isinstance(stated, dict) else stated


def _account(message: _Message) -> object:
    context = message.context if isinstance(message.context, dict) else {}
    properties = message.properties if isinstance(message.properties, dict) else {}
    stated = (
        message.group_id,
        context.get("groupId"),
        *(properties.get(name) for name in IN_PROPERTIES),
    )
    return next((account for account in stated if account not in (None, "")), None)


def _account_of_traits(message: _Message) -> object:
    """The account that the traits of a user name; RudderStack's libraries send them in the context.

    A company's name is not enough: two customers may share one. What can be no id at all means
    something else: these words are the sender's own, and no reason to lose the message.
    """
    for traits in (_object(message.traits), _object(_object(message.context).get("traits"))):
        company = _object(traits.get("company"))
        stated = (*(traits.get(name) for name in _IN_TRAITS), company.get("id"))
        for account in stated:
            if type(account) in (str, int) and account != "":
                return account
    return None


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


SEGMENT = WireFormat(
    name=FormatName.SEGMENT,
    key=_key,
    body_key=_body_key,
    open=_open,
    read=_read,
    answer=answer_few_words,
)
