"""The native format."""

from services.ingest.openapi.parts import Json, answers, body, header, one_of, ref, values

TAG = "events"
ABOUT = "Usage events in the native format. Every item is answered, in order."

_LOGIN = {"id": "a-1", "account_id": "acme", "user_id": "u-7", "type": "login"}


def paths() -> Json:
    array = {"type": "array", "items": ref("Event"), "minItems": 1, "maxItems": 2000}
    wrapped = {
        "type": "object",
        "required": ["events"],
        "properties": {
            "events": array,
            "sent_at": {
                "type": ["string", "number", "null"],
                "description": "By the sender's clock; corrects occurred_at where it is off.",
            },
        },
    }
    operation = {
        "operationId": "post_events",
        "summary": "Send usage events",
        "description": "Needs scope `events:write`.",
        "parameters": [
            header("Idempotency-Key", "With the item's index, the id of items without one.", 190),
            {
                "name": "Perennial-Backfill",
                "in": "header",
                "description": "`true` marks all as history; needs scope `backfill`.",
                "schema": {"enum": ["true", "false"]},
            },
        ],
        "requestBody": body(
            _examples(),
            one_of(array, wrapped, ref("Event")),
            **{
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One event a line."}
                }
            },
        ),
        "responses": answers(
            200, "At least one item is accepted, and stored.", ref("Results"), _answers()
        ),
    }
    return {"/v1/events": {"post": operation}}


def schemas() -> Json:
    identifier = {"type": ["string", "integer"], "minLength": 1, "maxLength": 200}
    optional = {"type": ["string", "integer", "null"], "maxLength": 200}
    event = {
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
    return {"Event": event}


def _examples() -> Json:
    export = {**_LOGIN, "id": "a-2", "type": "feature_used", "properties": {"feature": "export"}}
    old = {**_LOGIN, "id": "d-1", "occurred_at": "2024-01-31T09:30:00Z"}
    return {
        **values(
            batch=[_LOGIN, export],
            one_bad_item={"events": [{**_LOGIN, "id": "b-1"}, {"id": "b-2", "type": "login"}]},
            one_event={**_LOGIN, "id": "c-1"},
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
        "message": "account_id is required",
    }
    return values(
        batch={"results": [accepted(0, "a-1"), accepted(1, "a-2")]},
        one_bad_item={"results": [accepted(0, "b-1"), rejected]},
        one_event={"results": [accepted(0, "c-1")]},
        history={"results": [accepted(0, "d-1")]},
    )
