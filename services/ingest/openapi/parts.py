"""The pieces that the descriptions of all formats are made of."""

from typing import Any, TypeAlias

from services.ingest.replies import STATUS, RefusalCode
from services.ingest.results import Code, WarningCode

Json: TypeAlias = dict[str, Any]

SHAPE_OF_ERRORS = "Error"

_HEADERS = {
    401: "WWW-Authenticate",
    405: "Allow",
    415: "Accept-Encoding",
    429: "Retry-After",
    503: "Retry-After",
}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def header(name: str, description: str, max_length: int) -> Json:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", "maxLength": max_length},
    }


def one_of(*schemas: Json) -> Json:
    return {"anyOf": list(schemas)}


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
    good: Json = {"description": description}
    if schema is not None:
        good["content"] = {"application/json": {"schema": schema, "examples": examples or {}}}
    return {str(status): good, **_refusals()}


def values(**examples: object) -> Json:
    return {name: {"value": value} for name, value in examples.items()}


def results() -> Json:
    return {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": ref("Result")}},
    }


def schemas() -> Json:
    warning = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"enum": [str(code) for code in WarningCode]},
            "message": {"type": "string"},
        },
    }
    result = {
        "type": "object",
        "description": "`retry`: send it again with the same id; what is stored counts once.",
        "required": ["index", "id", "status"],
        "properties": {
            "index": {"type": "integer"},
            "id": {"type": ["string", "null"]},
            "status": {"enum": ["accepted", "rejected", "retry"]},
            "code": {"enum": [str(code) for code in Code]},
            "message": {"type": "string"},
            "warnings": {"type": "array", "items": warning},
        },
    }
    text = {"type": "string", "minLength": 1}
    names = ("code", "message", "detail", "error", "request_id")
    error = {
        "type": "object",
        "required": list(names),
        "properties": {
            **dict.fromkeys(names, text),
            "code": {"enum": [str(code) for code in RefusalCode]},
            "results": {"type": "array", "items": ref("Result")},
        },
    }
    return {"Result": result, "Results": results(), "Error": error}


def _refusals() -> Json:
    by_status: dict[int, list[RefusalCode]] = {}
    for code, status in STATUS.items():
        by_status.setdefault(status, []).append(code)
    return {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in codes),
            "content": {"application/json": {"schema": ref("Error")}},
            "headers": {_HEADERS[status]: {"schema": {"type": "string"}}}
            if status in _HEADERS
            else {},
        }
        for status, codes in by_status.items()
    }
