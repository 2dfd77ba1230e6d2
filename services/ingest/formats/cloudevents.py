"""CloudEvents 1.0 over HTTP: binary, structured and batched, as OpenMeter's clients send them too.

`subject` is the account and the extension `userid` the person; where they are absent, `account_id`
and `user_id` in the data are.
"""

import base64
import binascii
import hashlib
from urllib.parse import unquote

import msgspec

from services.ingest.answers import all_rejected, partial_failure, send_again
from services.ingest.envelope import Envelope, open_list_or_one, parse_item
from services.ingest.identity import MAX_ID_LENGTH
from services.ingest.items import Parsed
from services.ingest.replies import NOTHING, Reply
from services.ingest.results import Code, Decoded
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

PATH = "/api/v1/events"

_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time", "userid")
_MARK = b"ce-specversion"
_NOT_KEPT = frozenset({"account_id", "tenant_id", "user_id"})
"""Members of the data that say who it was: they are in the event under their own names."""


class _Event(msgspec.Struct, gc=False):
    specversion: object = None
    id: object = None
    source: object = None
    type: object = None
    subject: object = None
    time: object = None
    userid: object = None
    datacontenttype: object = None
    data: object = None
    data_base64: object = None


_decoder = msgspec.json.Decoder(_Event)


def _open(body: bytes, submission: Submission, max_items: int) -> Envelope:
    if _MARK in submission.headers:
        return Envelope([_binary(body, submission.headers)])
    return open_list_or_one(body, max_items=max_items)


def _binary(body: bytes, headers: Headers) -> Parsed:
    """The event of a request whose attributes are its headers, in the structured form."""
    event: dict[str, object] = {}
    for name in _ATTRIBUTES:
        value = headers.get(f"ce-{name}".encode())
        if value is not None:
            event[name] = unquote(value.decode("utf-8", "surrogateescape"), errors="replace")
    media_type = headers.get(b"content-type", b"").decode("latin-1")
    if media_type:
        event["datacontenttype"] = media_type
    # As sent: what base64 adds is none of the sender's doing.
    size = len(body) + sum(len(str(value)) for value in event.values())
    if body:
        event["data_base64"] = base64.b64encode(body).decode("ascii")
    return Parsed(event, size)


def _read(item: bytes | Parsed, _submission: Submission) -> Reading:
    event, is_suspect = read_item(item, _Event, _decoder)
    if event.specversion != "1.0":
        raise InvalidMessage(Code.INVALID_FIELD, 'specversion: must be "1.0"')
    data = event.data if event.data_base64 is None else _from_base64(event)
    # Data of another kind is no mistake of the sender; there is just nothing in it for us.
    properties = without_system_keys(data if isinstance(data, dict) else {})
    draft = Draft(
        id=_id(event),
        account=event.subject,
        user=event.userid,
        type=event.type,
        occurred_at=event.time,
        properties=properties,
    )
    if not _NOT_KEPT.isdisjoint(properties):
        draft.account = _first(
            draft.account, properties.get("account_id"), properties.get("tenant_id")
        )
        draft.user = _first(draft.user, properties.get("user_id"))
        draft.properties = {
            name: value for name, value in properties.items() if name not in _NOT_KEPT
        }
    return Reading(draft, is_suspect or event.data_base64 is not None)


def _first(*stated: object) -> object:
    """Null and nothing are as absent."""
    return next((value for value in stated if value not in (None, "")), None)


def _id(event: _Event) -> str:
    """Source and id together: each source counts for itself. A blank is in no source."""
    for name in ("source", "id"):
        if not isinstance(getattr(event, name), str) or not getattr(event, name):
            raise InvalidMessage(Code.INVALID_ID, f"{name}: must be text, and not empty")
    whole = f"{event.source} {event.id}"
    if len(whole) <= MAX_ID_LENGTH:
        return whole
    return "sha256:" + hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _from_base64(event: _Event) -> object:
    """The data that travelled as bytes, where it is JSON."""
    kind = event.datacontenttype
    if kind is not None and not (isinstance(kind, str) and "json" in kind.lower()):
        return None
    try:
        data = base64.b64decode(str(event.data_base64), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidMessage(Code.INVALID_PROPERTIES, "data_base64: is no base64") from error
    return parse_item(data)


def _answer(decoded: Decoded, request_id: str) -> Reply:
    if decoded.has("retry"):
        return send_again(decoded.results, request_id)
    if not decoded.has("rejected"):
        return NOTHING
    if decoded.has("accepted"):
        return partial_failure(decoded.results, request_id)
    return all_rejected(decoded.results, request_id, shown=decoded.results)


CLOUDEVENTS = WireFormat(
    name=FormatName.CLOUDEVENTS, key=bearer_key, open=_open, read=_read, answer=_answer
)
