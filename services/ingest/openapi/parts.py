"""The pieces that the descriptions of all formats are made of.

A schema is as tight as it can be: what keeps to it is accepted, what breaks it is not. Rules that
need a clock, or compare two fields, are said in words. What is ignored has no type.
"""

import re
from typing import Any, TypeAlias

from services.ingest.events import MAX_PROPERTIES
from services.ingest.identity import (
    MAX_ID_LENGTH,
    MAX_TYPE_LENGTH,
    PLACEHOLDERS,
    USER_PLACEHOLDERS,
)
from services.ingest.replies import STATUS, RefusalCode
from services.ingest.results import Code, WarningCode
from shared.http import Fault

Json: TypeAlias = dict[str, Any]

_HEADERS = {
    401: ("WWW-Authenticate", {"const": "Bearer"}),
    405: ("Allow", {"type": "string", "pattern": "^[A-Z]+(, [A-Z]+)*$"}),
    415: ("Accept-Encoding", {"type": "string"}),
    429: ("Retry-After", {"type": "integer", "minimum": 1, "maximum": 30}),
    503: ("Retry-After", {"type": "integer", "minimum": 1, "maximum": 30}),
}
_BEFORE_THE_APPLICATION = {
    Fault.INVALID_REQUEST: 400,
    Fault.STALLED_REQUEST: 408,
    Fault.HEADERS_TOO_LARGE: 431,
}
_REQUEST_ID = {
    "description": "The request's own X-Request-Id, or a new one; logs have it too.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,100}$"},
}


BLANK = r"\s\u001c-\u001f\u0085"
"""Inside of a character class: what Python strips, in the words of JavaScript."""
_ANY_TEXT = r"[^\u0000]*"
_SOME_TEXT = rf"{_ANY_TEXT}[^{BLANK}\u0000]{_ANY_TEXT}$"


def _in_any_case(word: str) -> str:
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else re.escape(c) for c in word)


def _none_of(*words: str) -> str:
    """Not blank, and none of the words in any case, with or without blanks around it."""
    alternatives = "|".join(map(_in_any_case, words))
    return f"^(?![{BLANK}]*({alternatives})[{BLANK}]*$){_SOME_TEXT}"


STORABLE = f"^{_ANY_TEXT}$"
NOT_BLANK = f"^{_SOME_TEXT}"

ACCOUNT: Json = {
    "type": ["string", "integer"],
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": _none_of(*sorted(PLACEHOLDERS)),
    "description": "Not blank, and no placeholder such as `null` or `undefined`.",
}
PERSON: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": _none_of(*sorted(USER_PLACEHOLDERS - {""})),
    "description": "Not blank, and no placeholder such as `null` or `anonymous`.",
}
USER_ALONE: Json = {
    **PERSON,
    "type": ["string", "integer"],
    "not": {"enum": [0, -1]},
    "description": "The user that leads to the account, where the event names none.",
}
NO_ACCOUNT: Json = {
    "anyOf": [{"type": "null"}, {"type": "string", "pattern": f"^[{BLANK}]*$"}],
    "description": "Nothing but blanks.",
}
EVENT_ID: Json = {
    "type": ["string", "integer", "null"],
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": STORABLE,
    "description": "What makes a retry count once.",
}
USER: Json = {
    "type": ["string", "integer", "null"],
    "maxLength": MAX_ID_LENGTH,
    "pattern": STORABLE,
    "description": "Stored as a keyed hash only; a placeholder counts as no user.",
}
TYPE: Json = {"type": "string", "minLength": 1, "maxLength": MAX_TYPE_LENGTH, "pattern": NOT_BLANK}
MOMENT: Json = {
    "type": ["string", "number", "null"],
    "format": "date-time",
    "minimum": 0,
    "maximum": 4_102_444_800_000,
    "description": (
        "RFC 3339 with offset, or seconds or milliseconds since 1970; default: arrival. From"
        " 1990 to a year ahead; older than 30 days needs scope `backfill` and an id."
    ),
}
PROPERTIES: Json = {"type": ["object", "null"], "maxProperties": MAX_PROPERTIES}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def header(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def one_of(*schemas: Json) -> Json:
    return {"anyOf": list(schemas)}


def absent(*names: str) -> Json:
    """Left out, or null."""
    return {"properties": {name: {"type": "null"} for name in names}}


def named_by(*names: str) -> list[Json]:
    """One of the names at least says the account; those that do must say the same."""
    others = {name: {**ACCOUNT, "type": [*ACCOUNT["type"], "null"]} for name in names}
    return [{"required": [name], "properties": {**others, name: ACCOUNT}} for name in names]


def body(examples: Json, schema: Json, **others: Json) -> Json:
    """A request's body as JSON, and as other media types by their schema."""
    content: Json = {"application/json": {"schema": schema, "examples": examples}}
    for media_type, other in others.items():
        content[media_type] = other
    return {"required": True, "content": content}


def answers(
    status: int, description: str, schema: Json | None, examples: Json | None = None
) -> Json:
    """The good answer, and every refusal that any request may meet."""
    good: Json = {"description": description, "headers": {"X-Request-Id": _REQUEST_ID}}
    if schema is not None:
        good["content"] = {"application/json": {"schema": schema, "examples": examples or {}}}
    return {str(status): good, **_refusals()}


def values(**examples: object) -> Json:
    return {name: {"value": value} for name, value in examples.items()}


def schemas() -> Json:
    text = {"type": "string", "minLength": 1}
    warning = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"enum": [str(code) for code in WarningCode]}, "message": text},
    }
    result = {
        "type": "object",
        "description": "`retry`: send it again with the same id; what is stored counts once.",
        "required": ["index", "id", "status"],
        "properties": {
            "index": {"type": "integer", "minimum": 0},
            "id": {"type": ["string", "null"]},
            "status": {"enum": ["accepted", "rejected", "retry"]},
            "code": {"enum": [str(code) for code in Code]},
            "message": text,
            "warnings": {"type": "array", "minItems": 1, "items": ref("Warning")},
        },
        "if": {"properties": {"status": {"const": "accepted"}}},
        "then": {"not": {"required": ["code"]}},
        "else": {"required": ["code", "message"]},
    }
    results = {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "minItems": 1, "items": ref("Result")}},
    }
    names = ("code", "message", "detail", "error", "request_id")
    codes = {"enum": [str(code) for code in (*RefusalCode, *_BEFORE_THE_APPLICATION)]}
    error = {
        "type": "object",
        "required": list(names),
        "properties": {
            **dict.fromkeys(names, text),
            "code": codes,
            "error": codes,
            "results": {"type": "array", "minItems": 1, "items": ref("Result")},
        },
    }
    return {"Warning": warning, "Result": result, "Results": results, "Error": error}


def _refusals() -> Json:
    by_status: dict[int, list[str]] = {}
    for code, status in (*STATUS.items(), *_BEFORE_THE_APPLICATION.items()):
        by_status.setdefault(status, []).append(code)
    return {str(status): _refusal(status, by_status[status]) for status in sorted(by_status)}


def _refusal(status: int, codes: list[str]) -> Json:
    """The one body of all errors, with the codes that this status may have."""
    schema = {"allOf": [ref("Error"), {"properties": {"code": {"enum": list(map(str, codes))}}}]}
    headers: Json = {"X-Request-Id": _REQUEST_ID}
    if status in _HEADERS:
        name, said = _HEADERS[status]
        headers[name] = {"required": True, "schema": said}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }
