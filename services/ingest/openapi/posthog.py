"""What PostHog's libraries send."""

from services.ingest.openapi.parts import Json, answers, body, ref, values

TAG = "posthog"
ABOUT = (
    "For the libraries of PostHog, unchanged: set their host, and a write key as the project's key."
    " The account is the group of type `company` (`perennial sources`), else the only one."
)

_UUID = "01944cf2-6a5f-7e4b-8c3d-2f1a0b9c8d7e"
_EVENT = {
    "event": "report exported",
    "uuid": _UUID,
    "distinct_id": "u-7",
    "properties": {"$groups": {"company": "acme"}, "format": "pdf"},
}


def paths() -> Json:
    return {"/i/v1/analytics/events": {"post": _v1()}, "/batch/": {"post": _v0()}}


def schemas() -> Json:
    outcome = {
        "type": "object",
        "required": ["result"],
        "properties": {
            "result": {"enum": ["ok", "warning", "drop", "retry"]},
            "details": {"type": ["string", "null"]},
        },
    }
    return {
        "PostHogEvent": {
            "type": "object",
            "required": ["event"],
            "properties": {
                "event": {"type": "string", "minLength": 1, "maxLength": 100},
                "uuid": {"type": ["string", "null"], "maxLength": 200},
                "distinct_id": {"type": ["string", "integer", "null"], "maxLength": 200},
                "timestamp": {"type": ["string", "null"]},
                "options": {"type": ["object", "null"]},
                "properties": {"type": ["object", "null"], "maxProperties": 100},
            },
        },
        "PostHogOutcomes": {
            "type": "object",
            "required": ["results"],
            "properties": {"results": {"type": "object", "additionalProperties": outcome}},
        },
        "PostHogStatus": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": {"const": 1},
                "accepted": {"type": "integer"},
                "rejected": {"type": "array", "items": {"type": "object"}},
            },
        },
    }


def _v1() -> Json:
    sent = {
        "name": "PostHog-Request-Timestamp",
        "in": "header",
        "description": "By the sender's clock; corrects the events' times where it is off.",
        "schema": {"type": "string"},
    }
    return {
        "operationId": "posthog_v1",
        "summary": "Send events, V1",
        "description": "Needs scope `events:write`. The answer names every uuid.",
        "parameters": [sent],
        "requestBody": body(values(one={"batch": [_EVENT]}), _batch(["uuid"])),
        "responses": answers(
            200,
            "What became of each event.",
            ref("PostHogOutcomes"),
            values(one={"results": {_UUID: {"result": "ok"}}}),
        ),
    }


def _v0() -> Json:
    return {
        "operationId": "posthog_v0",
        "summary": "Send events, V0",
        "description": "Needs scope `events:write`; the key may stand in the body.",
        "security": [{"key": []}, {}],
        "requestBody": body(values(one={"batch": [_EVENT]}), _batch([])),
        "responses": answers(
            200, "Every event is stored.", ref("PostHogStatus"), values(one={"status": 1})
        ),
    }


def _batch(required: list[str]) -> Json:
    event = {"allOf": [ref("PostHogEvent"), {"required": required}]}
    return {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "api_key": {"type": ["string", "null"]},
            "batch": {"type": "array", "items": event, "minItems": 1, "maxItems": 2000},
            "sent_at": {"type": ["string", "null"]},
        },
    }
