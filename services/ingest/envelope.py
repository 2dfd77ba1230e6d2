"""From a request's body to its items, each by itself, so that a bad one spoils no other.

msgspec finds the items without looking inside (`Raw`), but one NaN or half an emoji anywhere fails
the whole body. Then the standard library reads it: slower, and it takes both.
"""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from services.ingest.items import Item, Parsed
from services.ingest.replies import RefusalCode, Refused
from services.ingest.results import Code
from shared.errors import InvalidMessage

_MAX_VALUES = 1_000_000
"""More commas or brackets than this in one body become too many objects to hold."""
_MAX_PATIENT_VALUES = 200_000
"""As many where the standard library reads it: 2,000 events of 100 properties."""

LINES_MEDIA_TYPES = ("application/x-ndjson", "application/jsonl")


class Envelope(NamedTuple):
    items: Sequence[Item]
    sent_at: object = None
    is_history: bool = False
    """All of it is from long ago, also what is younger than the rest."""


class _Opened(msgspec.Struct):
    items: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    sent_at: object = None


class Shape:
    """Where a format keeps the items of a request, and when they were sent."""

    def __init__(self, items: str, sent_at: str | None = "sent_at") -> None:
        self.items = items
        self.sent_at = sent_at
        names = {"items": items, "sent_at": sent_at or "sent_at"}
        fields = [
            ("items", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET),
            ("sent_at", object, None),
        ]
        opened = msgspec.defstruct("Opened", fields, bases=(_Opened,), rename=names)
        self.decoder: msgspec.json.Decoder[_Opened] = msgspec.json.Decoder(opened)


_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_any_decoder = msgspec.json.Decoder()
_LIST = Shape("events")


def is_lines(content_type: bytes | None) -> bool:
    """One item a line? Anything else is read as JSON, whatever it is called."""
    if content_type is None or content_type == b"application/json":
        return False
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type.decode("latin-1") in LINES_MEDIA_TYPES


def open_envelope(body: bytes, shape: Shape, *, max_items: int) -> Envelope:
    """An array, an object that holds the array, or one item.

    Raises Refused where the body is none of these, or holds no item or too many.
    """
    _check_values(body)
    envelope = _quick(body, shape) or _patient(body, shape, max_items)
    return _counted(envelope, shape.items, max_items)


def open_lines(body: bytes, *, noun: str, max_items: int) -> Envelope:
    """One item a line; a line that is no JSON spoils no other."""
    _check_values(body)
    items = [line for line in body.split(b"\n") if line.strip()]
    return _counted(Envelope(items), noun, max_items)


def open_one(body: bytes) -> Envelope:
    """The body as a whole is the one item; raises Refused where it is no JSON object."""
    _check_values(body)
    try:
        if body.lstrip(b" \t\r\n")[:1] == b"{":
            _raw_decoder.decode(body)
            return Envelope([body])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    value = _parsed(body)
    if not isinstance(value, dict):
        raise Refused(RefusalCode.INVALID_ENVELOPE, "the body must be one object")
    return Envelope([Parsed(value, _size(value))])


def open_list_or_one(body: bytes, *, max_items: int) -> Envelope:
    """An array of items, or one that stands alone."""
    if body.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] == b"[":
        return open_envelope(body, _LIST, max_items=max_items)
    return open_one(body)


def member_of(body: bytes, name: str) -> object:
    """A member of the body's outermost object; None where there is none, or no object."""
    try:
        _check_values(body)
        value = parse_item(body)
    except (Refused, InvalidMessage):
        return None
    return value.get(name) if isinstance(value, dict) else None


def parse_item(item: Item) -> object:
    """The decoded item, patiently; raises InvalidMessage where it is no JSON."""
    if isinstance(item, Parsed):
        return item.value
    data = bytes(item)
    try:
        return _any_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return _loads(data)
        except ValueError as error:
            raise InvalidMessage(Code.INVALID_JSON, _where(error)) from error
        except RecursionError as error:
            raise InvalidMessage(Code.TOO_DEEP, "it is nested too deeply") from error


def _check_values(body: bytes, *, most: int = _MAX_VALUES) -> None:
    if len(body) > most and any(body.count(c) > most for c in (b",", b"{", b"[", b"\n")):
        raise Refused(
            RefusalCode.TOO_MANY_ITEMS, f"the body holds more than {most} values; split it"
        )


def _counted(envelope: Envelope, noun: str, max_items: int) -> Envelope:
    count = len(envelope.items)
    if count == 0:
        raise Refused(RefusalCode.INVALID_ENVELOPE, f"the request holds no {noun}")
    if count > max_items:
        raise Refused(
            RefusalCode.TOO_MANY_ITEMS, f"more than {max_items} {noun} in one request; split it"
        )
    return envelope


def _quick(body: bytes, shape: Shape) -> Envelope | None:
    """By msgspec; None where it cannot, for whatever reason."""
    try:
        if body[:1] == b"[" or body.lstrip(b" \t\r\n")[:1] == b"[":
            return Envelope(_list_decoder.decode(body))
        opened = shape.decoder.decode(body)
        # null is as absent: then the object itself is the one item.
        if opened.items is msgspec.UNSET or bytes(opened.items) == b"null":
            return Envelope([body], opened.sent_at)
        return Envelope(_list_decoder.decode(opened.items), opened.sent_at)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _patient(body: bytes, shape: Shape, max_items: int) -> Envelope:
    value = _parsed(body)
    sent_at: object = None
    if isinstance(value, dict):
        sent_at = None if shape.sent_at is None else value.get(shape.sent_at)
        listed = value.get(shape.items)
        value = [value] if listed is None else listed
    if not isinstance(value, list):
        raise Refused(
            RefusalCode.INVALID_ENVELOPE,
            f'the body must be an array, an object with "{shape.items}", or one object',
        )
    if len(value) > max_items:
        return Envelope(value)  # Refused by its number: no need to look at each.
    small = len(body) <= 64 * 1024
    return Envelope([Parsed(part, 0 if small else _size(part)) for part in value], sent_at)


def _parsed(body: bytes) -> object:
    _check_values(body, most=_MAX_PATIENT_VALUES)
    try:
        return _loads(body)
    except ValueError as error:
        raise Refused(RefusalCode.INVALID_JSON, f"the body is not JSON: {_where(error)}") from error
    except RecursionError as error:
        raise Refused(RefusalCode.INVALID_JSON, "the body is nested too deeply") from error


def _loads(data: bytes) -> object:
    # A byte that is no UTF-8 becomes half a surrogate pair, and is treated like one.
    text = data.decode("utf-8-sig", "surrogateescape")
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # Beyond the interpreter's limit on digits.
        return math.nan


def _size(value: object) -> int:
    """About as many bytes as were sent; the exact ones are not known on this path."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode("utf-8", "surrogatepass"))


def _where(error: ValueError) -> str:
    """What is wrong and where, without the text itself."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (line {error.lineno}, column {error.colno})"
    return "it cannot be decoded"
