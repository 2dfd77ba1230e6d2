"""What Segment's and RudderStack's libraries send."""

from services.ingest.formats.segment import KINDS
from services.ingest.openapi.parts import Json, answers, body, ref, values

TAG = "segment"
ABOUT = (
    "For the libraries of Segment and RudderStack, unchanged: set their host (`data plane URL`) and"
    " a write key. The account is `groupId`, of the message, its context or its properties."
)

_TRACK = {
    "type": "track",
    "messageId": "m-1",
    "userId": "u-7",
    "event": "Report Exported",
    "context": {"groupId": "acme"},
}
_GROUP = {
    "type": "group",
    "messageId": "m-2",
    "userId": "u-7",
    "groupId": "acme",
    "traits": {"name": "Acme Corp", "plan": "team"},
}


def paths() -> Json:
    return {"/v1/batch": {"post": _batch()}, **{f"/v1/{kind}": _one(kind) for kind in KINDS}}


def schemas() -> Json:
    text = {"type": ["string", "integer", "null"], "maxLength": 200}
    return {
        "Message": {
            "type": "object",
            "properties": {
                "type": {"enum": list(KINDS)},
                "messageId": {**text, "description": "What makes a retry count once."},
                "userId": text,
                "groupId": text,
                "event": {"type": ["string", "null"], "description": "Of a track: what happened."},
                "properties": {"type": ["object", "null"], "maxProperties": 100},
                "traits": {"description": "Of a group: what is known of the account."},
                "context": {"type": ["object", "null"]},
                "timestamp": {"type": ["string", "null"]},
                "originalTimestamp": {"type": ["string", "null"]},
                "sentAt": {"type": ["string", "null"]},
            },
        },
        "Success": {
            "type": "object",
            "required": ["success"],
            "properties": {
                "success": {"const": True},
                "accepted": {"type": "integer"},
                "rejected": {"type": "array", "items": ref("Result")},
            },
        },
    }


def _batch() -> Json:
    array = {"type": "array", "items": ref("Message"), "minItems": 1, "maxItems": 2000}
    schema = {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "batch": array,
            "sentAt": {"type": ["string", "null"]},
            "writeKey": {"type": ["string", "null"], "description": "Where no header has the key."},
        },
    }
    bad = {**_TRACK, "messageId": "m-3", "event": None}
    rejected = {
        "index": 1,
        "id": "m-3",
        "status": "rejected",
        "code": "missing_type",
        "message": "type is required",
    }
    return {
        "operationId": "segment_batch",
        "summary": "Send a batch of messages",
        "description": (
            "Needs scope `events:write`, and `accounts:write` for what `group` says of accounts."
            " The library hears that all is well once every message is stored: the good ones in the"
            " log, the others in quarantine, listed in the answer."
        ),
        "security": [{"basic": []}, {"key": []}, {}],
        "requestBody": body(
            values(
                batch={"batch": [_TRACK, _GROUP]},
                one_bad_message={"batch": [_TRACK, bad]},
            ),
            schema,
        ),
        "responses": answers(
            200,
            "Every message is stored.",
            ref("Success"),
            values(
                batch={"success": True},
                one_bad_message={"success": True, "accepted": 1, "rejected": [rejected]},
            ),
        ),
    }


def _one(kind: str) -> Json:
    message = {"group": _GROUP, "track": _TRACK}.get(kind, {**_TRACK, "event": None})
    example = {kind: {name: value for name, value in message.items() if name != "type"}}
    return {
        "post": {
            "operationId": f"segment_{kind}",
            "summary": f"Send one {kind}",
            "security": [{"basic": []}, {"key": []}, {}],
            "requestBody": body(values(**example), ref("Message")),
            "responses": answers(
                200, "It is stored.", ref("Success"), values(**{kind: {"success": True}})
            ),
        }
    }
