"""The description of the write routes, by hand because they are bare ASGI; tests execute it."""

from typing import Any, TypeAlias

from services.ingest.replies import STATUS, RefusalCode
from services.ingest.results import Code, WarningCode
from services.ingest.traits import FIELDS

TITLE = "Perennial ingest"
VERSION = "1"
DESCRIPTION = (
    "Send what happens in your product, and what is known of your customers' accounts. An answer"
    " `accepted` means that it is stored: it is given after the log has it. Whatever is answered"
    " `retry`, or with 429 or 503, is safe to send again under the same ids. Bodies may come with"
    " `Content-Encoding: gzip` or `deflate`."
)

Json: TypeAlias = dict[str, Any]

_ACCOUNT_EXAMPLE: Json = {
    "name": "Acme Corp",
    "plan": "team",
    "seats": 40,
    "mrr": "1200.50",
    "currency": "EUR",
    "owner": "csm@example.com",
    "contract_end": "2027-03-31",
    "status": "active",
}
_ACCEPTED_ACCOUNT: Json = {"results": [{"index": 0, "id": "acme", "status": "accepted"}]}


def describe() -> Json:
    """The whole OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "paths": {
            "/v1/events": {"post": _post_events()},
            "/v1/accounts/{id}": {"put": _put_account()},
            "/v1/accounts:batch": {"post": _post_accounts()},
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Event": _event(),
                "Account": _account(),
                "Results": _results(),
                "Error": _error(),
            },
        },
        "security": [{"key": []}],
    }


def _post_events() -> Json:
    array = {"type": "array", "items": _ref("Event"), "minItems": 1, "maxItems": 2000}
    return {
        "operationId": "post_events",
        "summary": "Send usage events",
        "description": "Needs scope `events:write`. Every item is answered, in order.",
        "parameters": [
            _header("Idempotency-Key", "With the item's index, the id of items without one.", 190),
            _header(
                "Perennial-Backfill", "`true` marks all as history; needs scope `backfill`.", 5
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [array, _wrapped("events", array), _ref("Event")]},
                    "examples": _event_examples(),
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        "responses": _responses(
            {
                "batch": [
                    {"index": 0, "id": "a-1", "status": "accepted"},
                    {"index": 1, "id": "a-2", "status": "accepted"},
                ],
                "one_bad_item": [
                    {"index": 0, "id": "b-1", "status": "accepted"},
                    {
                        "index": 1,
                        "id": "b-2",
                        "status": "rejected",
                        "code": "missing_account",
                        "message": "account_id is required",
                    },
                ],
                "one_event": [{"index": 0, "id": "c-1", "status": "accepted"}],
                "history": [{"index": 0, "id": "d-1", "status": "accepted"}],
            }
        ),
    }


def _event_examples() -> Json:
    return {
        "batch": {
            "value": [
                {"id": "a-1", "account_id": "acme", "user_id": "u-7", "type": "login"},
                {
                    "id": "a-2",
                    "account_id": "acme",
                    "user_id": "u-7",
                    "type": "feature_used",
                    "properties": {"feature": "export"},
                },
            ]
        },
        "one_bad_item": {
            "value": {
                "events": [
                    {"id": "b-1", "account_id": "acme", "type": "login"},
                    {"id": "b-2", "type": "login"},
                ]
            }
        },
        "one_event": {"value": {"id": "c-1", "account_id": "acme", "type": "login"}},
        "history": {
            "summary": "Older than 30 days: needs scope `backfill` and an id",
            "value": [
                {
                    "id": "d-1",
                    "account_id": "acme",
                    "type": "login",
                    "occurred_at": "2024-01-31T09:30:00Z",
                }
            ],
        },
    }


def _put_account() -> Json:
    return {
        "operationId": "put_account",
        "summary": "Replace what is known of an account",
        "description": "Needs scope `accounts:write`. A field that is absent or null is not known.",
        "parameters": [
            {
                "name": "id",
                "in": "path",
                "required": True,
                "description": "The account's id; it may hold `/`.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
                "example": "acme",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _ref("Account"),
                    "examples": {"account": {"value": _ACCOUNT_EXAMPLE}},
                }
            },
        },
        "responses": _responses({"account": _ACCEPTED_ACCOUNT["results"]}),
    }


def _post_accounts() -> Json:
    array = {"type": "array", "items": _ref("Account"), "minItems": 1, "maxItems": 2000}
    return {
        "operationId": "post_accounts",
        "summary": "Change many accounts",
        "description": (
            "Needs scope `accounts:write`. In mode `patch` an absent field stays, null clears it;"
            " in mode `put` the record is replaced. Each account has an `id`."
        ),
        "parameters": [
            {
                "name": "mode",
                "in": "query",
                "schema": {"type": "string", "enum": ["patch", "put"], "default": "patch"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [array, _wrapped("accounts", array), _ref("Account")]},
                    "examples": {
                        "accounts": {"value": {"accounts": [{"id": "acme", **_ACCOUNT_EXAMPLE}]}}
                    },
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        "responses": _responses({"accounts": _ACCEPTED_ACCOUNT["results"]}),
    }


def _responses(accepted: dict[str, list[Json]]) -> Json:
    by_status: dict[int, list[RefusalCode]] = {}
    for code, status in STATUS.items():
        if code is not RefusalCode.NOT_FOUND:
            by_status.setdefault(status, []).append(code)
    refusals = {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in codes),
            "content": {"application/json": {"schema": _ref("Error")}},
            "headers": _refusal_headers(status),
        }
        for status, codes in by_status.items()
    }
    examples = {name: {"value": {"results": results}} for name, results in accepted.items()}
    return {
        "200": {
            "description": "At least one item is accepted, and stored.",
            "content": {"application/json": {"schema": _ref("Results"), "examples": examples}},
        },
        **refusals,
    }


def _refusal_headers(status: int) -> Json:
    names = {
        401: "WWW-Authenticate",
        405: "Allow",
        415: "Accept-Encoding",
        429: "Retry-After",
        503: "Retry-After",
    }
    return {names[status]: {"schema": {"type": "string"}}} if status in names else {}


def _event() -> Json:
    identifier = {"type": ["string", "integer"], "minLength": 1, "maxLength": 200}
    optional = {"type": ["string", "integer", "null"], "maxLength": 200}
    return {
        "type": "object",
        "description": "Needs `account_id` (or its alias `tenant_id`) and `type`.",
        "required": ["type"],
        "properties": {
            "id": {**optional, "description": "Unique per source; what makes a retry count once."},
            "account_id": identifier,
            "tenant_id": {**optional, "description": "Alias of account_id."},
            "user_id": {**optional, "description": "Stored as a keyed hash only."},
            "type": {"type": "string", "minLength": 1, "maxLength": 100},
            "occurred_at": {
                "type": ["string", "number", "null"],
                "description": (
                    "RFC 3339 with offset, or seconds or milliseconds since 1970; default: arrival."
                ),
            },
            "properties": {"type": ["object", "null"], "maxProperties": 100},
        },
    }


def _account() -> Json:
    return {
        "type": "object",
        "description": "In a batch `id` is required.",
        "properties": {
            "id": {"type": ["string", "integer"], "minLength": 1, "maxLength": 200},
            **{name: {"description": "null: not known"} for name in FIELDS},
        },
    }


def _results() -> Json:
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
    return {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": result}},
    }


def _error() -> Json:
    text = {"type": "string", "minLength": 1}
    names = ("code", "message", "detail", "error", "request_id")
    return {
        "type": "object",
        "required": list(names),
        "properties": {
            **dict.fromkeys(names, text),
            "code": {"enum": [str(code) for code in RefusalCode]},
            "results": _results()["properties"]["results"],
        },
    }


def _wrapped(member: str, array: Json) -> Json:
    return {
        "type": "object",
        "required": [member],
        "properties": {
            member: array,
            "sent_at": {
                "type": ["string", "number", "null"],
                "description": "By the sender's clock; corrects occurred_at where it is off.",
            },
        },
    }


def _header(name: str, description: str, max_length: int) -> Json:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", "maxLength": max_length},
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
