"""The native format."""

from services.ingest.openapi.parts import (
    EVENT_ID,
    MOMENT,
    NO_ACCOUNT,
    NOT_BLANK,
    PROPERTIES,
    TYPE,
    USER,
    USER_ALONE,
    Json,
    absent,
    answers,
    body,
    header,
    named_by,
    one_of,
    ref,
    values,
)

TAG = "events"
ABOUT = "Usage events in the native format. Every item is answered, in order."

_LOGIN = {"id": "a-1", "account_id": "acme", "user_id": "u-7", "type": "login"}
_LINES = (
    '{"id": "e-1", "account_id": "acme", "type": "login"}\n'
    '{"id": "e-2", "account_id": "acme", "type": "page_view"}\n'
)
_SENT_AT = {
    "type": ["string", "number", "null"],
    "format": "date-time",
    "minimum": -62_135_596_800,
    "maximum": 253_402_300_799_999,
    "description": "By the sender's clock; corrects occurred_at where it is off.",
}


def paths() -> Json:
    array = {"type": "array", "items": ref("Event"), "minItems": 1, "maxItems": 2000}
    wrapped = {
        "type": "object",
        "required": ["events"],
        "properties": {
            "events": array,
            "sent_at": _SENT_AT,
        },
    }
    alone = {"allOf": [ref("Event"), absent("events"), {"properties": {"sent_at": _SENT_AT}}]}
    operation = {
        "operationId": "post_events",
        "summary": "Send usage events",
        "description": "Needs scope `events:write`.",
        "parameters": [
            header(
                "Idempotency-Key",
                "With the item's index, the id of items without one.",
                {"type": "string", "maxLength": 190},
            ),
            header(
                "Perennial-Backfill",
                "`true` marks all as history; needs scope `backfill`.",
                {"type": "string", "enum": ["true", "false"]},
            ),
        ],
        "requestBody": body(
            _examples(),
            one_of(array, wrapped, alone),
            **{
                "application/x-ndjson": {
                    "schema": {
                        "type": "string",
                        "pattern": NOT_BLANK,
                        "description": "One event a line.",
                    },
                    "examples": values(lines=_LINES),
                }
            },
        ),
        "responses": answers(
            200, "At least one item is accepted, and stored.", ref("Results"), _answers()
        ),
    }
    return {"/v1/events": {"post": operation}}


def schemas() -> Json:
    of_user_alone = {
        "required": ["user_id"],
        "properties": {
            "user_id": USER_ALONE,
            "account_id": NO_ACCOUNT,
            "tenant_id": {"type": "null"},
        },
    }
    event = {
        "type": "object",
        "description": (
            "Its account is `account_id`, alias `tenant_id`; without one it is found by `user_id`:"
            " where the user belongs at that time, by what other events say."
        ),
        "required": ["type"],
        "properties": {
            "id": EVENT_ID,
            "user_id": USER,
            "type": TYPE,
            "occurred_at": MOMENT,
            "properties": PROPERTIES,
        },
        "anyOf": [*named_by("account_id", "tenant_id"), of_user_alone],
    }
    return {"Event": event}


def _examples() -> Json:
    export = {**_LOGIN, "id": "a-2", "type": "feature_used", "properties": {"feature": "export"}}
    old = {**_LOGIN, "id": "d-1", "occurred_at": "2024-01-31T09:30:00Z"}
    return {
        **values(
            batch=[_LOGIN, export],
            one_bad_item={"events": [{**_LOGIN, "id": "b-1"}, {"id": "b-2", "type": "login"}]},
            one_event={**_LOGIN, "id": "c-1"},
            user_alone={"id": "f-1", "user_id": "u-7", "type": "login"},
        ),
        "history": {
            "summary": "Older than 30 days: needs scope `backfill` and an id",
            "value": [old],
        },
    }


def _answers() -> Json:
    def accepted(index: int, event_id: str) -> Json:
        return {"index": index, "id": event_id, "status": "accepted"}

    rejected = {
        "index": 1,
        "id": "b-2",
        "status": "rejected",
        "code": "missing_account",
        "message": "account_id is required: it names no user either",
    }
    return values(
        batch={"results": [accepted(0, "a-1"), accepted(1, "a-2")]},
        one_bad_item={"results": [accepted(0, "b-1"), rejected]},
        one_event={"results": [accepted(0, "c-1")]},
        lines={"results": [accepted(0, "e-1"), accepted(1, "e-2")]},
        user_alone={"results": [accepted(0, "f-1")]},
        history={"results": [accepted(0, "d-1")]},
    )
