"""What Segment's and RudderStack's libraries send."""

from services.ingest.formats.segment import IN_PROPERTIES, KINDS
from services.ingest.openapi.parts import (
    ACCOUNT,
    EVENT_ID,
    MOMENT,
    NO_ACCOUNT,
    PROPERTIES,
    TYPE,
    USER,
    USER_ALONE,
    Json,
    answers,
    body,
    one_of,
    ref,
    values,
)

TAG = "segment"
ABOUT = (
    "For the libraries of Segment and RudderStack, unchanged: set their host (`data plane URL`) and"
    " a write key. The account is `groupId`, of the message, its context or its properties; without"
    " one it is found by the user: where the latest `group` of the same user says."
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


_NONE: Json = {"enum": [None, ""]}


def _holding(name: str, *absent: str) -> Json:
    """An object that names the account, and by none of the other names."""
    properties = {**dict.fromkeys(absent, _NONE), name: ACCOUNT}
    return {"type": "object", "required": [name], "properties": properties}


_ACCOUNTS = [
    {"required": ["groupId"], "properties": {"groupId": ACCOUNT}},
    {"required": ["context"], "properties": {"groupId": _NONE, "context": _holding("groupId")}},
    *(
        {
            "required": ["properties"],
            "properties": {
                "groupId": _NONE,
                "context": {"properties": {"groupId": _NONE}},
                "properties": _holding(name, *IN_PROPERTIES[:index]),
            },
        }
        for index, name in enumerate(IN_PROPERTIES)
    ),
]
_OF_USER_ALONE = {
    "required": ["userId"],
    "properties": {
        "userId": USER_ALONE,
        "groupId": NO_ACCOUNT,
        "context": {"properties": {"groupId": NO_ACCOUNT}},
        "properties": {"properties": dict.fromkeys(IN_PROPERTIES, NO_ACCOUNT)},
    },
}
_TIMES = [
    {"required": ["timestamp"], "properties": {"timestamp": {"type": ["string", "number"]}}},
    {"properties": {"originalTimestamp": MOMENT}},
]


def paths() -> Json:
    return {"/v1/batch": {"post": _batch()}, **{f"/v1/{kind}": _one(kind) for kind in KINDS}}


def schemas() -> Json:
    message = {
        "type": "object",
        "description": (
            "Its account is `groupId`, else its context's; else, of its properties, `account_id`,"
            " `tenant_id` or `groupId`; else, of the traits that `identify` states, one of these,"
            " `group_id`, or the `id` of `company`. Without any it is found by `userId`."
        ),
        "properties": {
            "messageId": EVENT_ID,
            "userId": USER,
            "timestamp": MOMENT,
            "originalTimestamp": {"description": "The time, where timestamp is absent."},
            "sentAt": {"description": "By the sender's clock: corrects a timestamp alone."},
            "traits": {"description": "What is known of the account, of a group, or of the user."},
        },
        "anyOf": _TIMES,
    }
    named = {"anyOf": _ACCOUNTS}
    known = {"anyOf": [*_ACCOUNTS, _OF_USER_ALONE]}
    viewed = {"allOf": [ref("Message"), known, {"properties": {"properties": PROPERTIES}}]}
    happened = {"required": ["event"], "properties": {"event": TYPE}}
    return {
        "Message": message,
        "Call": {"allOf": [ref("Message"), known]},
        "Group": {"allOf": [ref("Message"), named]},
        "Page": viewed,
        "Track": {"allOf": [*viewed["allOf"], happened]},
        "Success": {
            "type": "object",
            "required": ["success"],
            "properties": {
                "success": {"const": True},
                "accepted": {"type": "integer", "minimum": 1},
                "rejected": {"type": "array", "minItems": 1, "items": ref("Result")},
            },
            "dependentRequired": {"accepted": ["rejected"], "rejected": ["accepted"]},
        },
    }


def _batch() -> Json:
    array = {"type": "array", "items": _any_kind(), "minItems": 1, "maxItems": 2000}
    schema = {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "batch": array,
            "sentAt": {"description": "By the sender's clock."},
            "writeKey": {"description": "The key, where no header has it."},
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


def _shape(kind: str) -> str:
    return {"track": "Track", "page": "Page", "screen": "Page", "group": "Group"}.get(kind, "Call")


def _any_kind() -> Json:
    kinds: dict[str, list[str]] = {}
    for kind in KINDS:
        kinds.setdefault(_shape(kind), []).append(kind)
    return one_of(
        *(
            {"allOf": [ref(shape), {"required": ["type"], "properties": {"type": {"enum": names}}}]}
            for shape, names in kinds.items()
        )
    )


def _one(kind: str) -> Json:
    message = {"group": _GROUP, "track": _TRACK}.get(kind, {**_TRACK, "event": None})
    example = {kind: {name: value for name, value in message.items() if name != "type"}}
    return {
        "post": {
            "operationId": f"segment_{kind}",
            "summary": f"Send one {kind}",
            "security": [{"basic": []}, {"key": []}, {}],
            "requestBody": body(values(**example), ref(_shape(kind))),
            "responses": answers(
                200, "It is stored.", ref("Success"), values(**{kind: {"success": True}})
            ),
        }
    }
