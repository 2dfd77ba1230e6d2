"""What PostHog's libraries send."""

from services.ingest.events import MAX_PROPERTIES
from services.ingest.openapi.parts import (
    ACCOUNT,
    EVENT_ID,
    MOMENT,
    NO_ACCOUNT,
    TYPE,
    USER,
    USER_ALONE,
    Json,
    answers,
    body,
    header,
    one_of,
    ref,
    values,
)
from services.ingest.results import Code

TAG = "posthog"
ABOUT = (
    "For the libraries of PostHog, unchanged: set their host, and a write key as the project's key."
    " The account is the group of type `company` (`perennial sources`), else the only one; of"
    " several others the source has to say which. Without groups it is found by the person."
)

_UUID = "01944cf2-6a5f-7e4b-8c3d-2f1a0b9c8d7e"
_EVENT = {
    "event": "report exported",
    "uuid": _UUID,
    "distinct_id": "u-7",
    "properties": {"$groups": {"company": "acme"}, "format": "pdf"},
}


_ACCOUNT_OR_NONE = one_of(ACCOUNT, NO_ACCOUNT)
_NO_GROUPS = one_of(
    {"type": ["null", "boolean", "number", "string", "array"]},
    {"maxProperties": 1, "additionalProperties": _ACCOUNT_OR_NONE},
    {"required": ["company"], "properties": {"company": _ACCOUNT_OR_NONE}},
)


def paths() -> Json:
    return {"/i/v1/analytics/events": {"post": _v1()}, "/batch/": {"post": _v0()}}


def schemas() -> Json:
    details = {"type": "string", "minLength": 1}
    groups = {
        "type": "object",
        "description": "The account is the group of the source's type, else the only one.",
        "anyOf": [
            {"required": ["company"], "properties": {"company": ACCOUNT}},
            {"minProperties": 1, "maxProperties": 1, "additionalProperties": ACCOUNT},
        ],
    }
    named = {"type": "object", "required": ["$groups"], "properties": {"$groups": groups}}
    is_person = {"not": {"const": False}}
    of_user_alone = {
        "required": ["distinct_id"],
        "properties": {
            "distinct_id": USER_ALONE,
            "options": {"properties": {"process_person_profile": is_person}},
            "properties": {
                "properties": {"$process_person_profile": is_person, "$groups": _NO_GROUPS}
            },
        },
    }
    rejected = {
        "type": "object",
        "required": ["index", "id", "code", "message"],
        "properties": {
            "index": {"type": "integer", "minimum": 0},
            "id": {"type": ["string", "null"]},
            "code": {"enum": [str(code) for code in Code]},
            "message": details,
        },
    }
    return {
        "PostHogEvent": {
            "type": "object",
            "required": ["event"],
            "properties": {
                "event": TYPE,
                "uuid": EVENT_ID,
                "distinct_id": USER,
                "timestamp": MOMENT,
                "options": {"description": "Of V1: `process_person_profile` and the like."},
                "properties": {
                    "type": ["object", "null"],
                    "description": "Names with `$` are PostHog's; at most 100 are others.",
                    "maxProperties": MAX_PROPERTIES + 1,
                },
            },
            "anyOf": [
                {"required": ["properties"], "properties": {"properties": named}},
                of_user_alone,
            ],
        },
        "PostHogOutcome": {
            "type": "object",
            "required": ["result"],
            "properties": {
                "result": {"enum": ["ok", "warning", "drop", "retry"]},
                "details": details,
            },
            "if": {"properties": {"result": {"const": "ok"}}},
            "else": {"required": ["details"]},
        },
        "PostHogOutcomes": {
            "type": "object",
            "required": ["results"],
            "properties": {
                "results": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": ref("PostHogOutcome"),
                }
            },
        },
        "PostHogStatus": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": {"const": 1},
                "accepted": {"type": "integer", "minimum": 0},
                "rejected": {"type": "array", "minItems": 1, "items": rejected},
            },
            "dependentRequired": {"accepted": ["rejected"], "rejected": ["accepted"]},
        },
    }


def _v1() -> Json:
    sent = header(
        "PostHog-Request-Timestamp",
        "By the sender's clock, RFC 3339; corrects the events' times where it is off.",
        {"type": "string"},
    )
    uuid = {**EVENT_ID, "type": ["string", "integer"]}
    return {
        "operationId": "posthog_v1",
        "summary": "Send events, V1",
        "description": "Needs scope `events:write`. The answer names every uuid.",
        "parameters": [sent],
        "requestBody": body(
            values(one={"batch": [_EVENT]}),
            _batch({"required": ["uuid"], "properties": {"uuid": uuid}}),
        ),
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
        "requestBody": body(values(one={"batch": [_EVENT]}), _batch({})),
        "responses": answers(
            200, "Every event is stored.", ref("PostHogStatus"), values(one={"status": 1})
        ),
    }


def _batch(besides: Json) -> Json:
    event = {"allOf": [ref("PostHogEvent"), besides]} if besides else ref("PostHogEvent")
    return {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "api_key": {"description": "Of V0: the key, where no header has it."},
            "batch": {"type": "array", "items": event, "minItems": 1, "maxItems": 2000},
            "historical_migration": {"description": "`true` needs scope `backfill`."},
            "sent_at": {"description": "Of V0: by the sender's clock, RFC 3339."},
        },
    }
