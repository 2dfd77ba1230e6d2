"""CloudEvents."""

from services.ingest.events import MAX_PROPERTIES
from services.ingest.identity import MAX_ID_LENGTH, MAX_TYPE_LENGTH
from services.ingest.openapi.parts import (
    ACCOUNT,
    MOMENT,
    NO_ACCOUNT,
    STORABLE,
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

TAG = "cloudevents"
ABOUT = (
    "CloudEvents 1.0, binary, structured or batched, also from OpenMeter's clients. `subject`"
    " is the account, the extension `userid` the person, who leads to the account where there is no"
    " subject; `source` and `id` together are the id."
)

_EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "app/backend",
    "type": "login",
    "subject": "acme",
    "userid": "u-7",
}
_ASCII: Json = {"type": "string", "pattern": "^[ -~]*$"}
_ATTRIBUTES: Json = {
    "specversion": {"type": "string", "const": "1.0"},
    "id": {**_ASCII, "minLength": 1},
    "source": {**_ASCII, "minLength": 1},
    "type": {"type": "string", "maxLength": MAX_TYPE_LENGTH, "pattern": "^[ -~]*[!-~][ -~]*$"},
    "subject": {**ACCOUNT, "type": "string", "allOf": [_ASCII]},
    "userid": {**_ASCII, "maxLength": MAX_ID_LENGTH},
    "time": {"type": "string", "format": "date-time"},
}
_BINARY = (
    "With the header `ce-specversion` the event is binary: its attributes are headers,"
    " percent-encoded; `ce-id`, `ce-source` and `ce-type` are required, and the body is its data."
)


def paths() -> Json:
    array = {"type": "array", "items": ref("CloudEvent"), "minItems": 1, "maxItems": 2000}
    operation = {
        "operationId": "cloudevents",
        "summary": "Send CloudEvents",
        "description": (
            "Needs scope `events:write`. Where some of a batch are rejected the answer is 400"
            f" `partial_failure` with all results; the others are stored. {_BINARY}"
        ),
        "parameters": [
            header(f"ce-{name}", f"The attribute `{name}` of a binary event.", schema)
            for name, schema in _ATTRIBUTES.items()
        ],
        "requestBody": body(
            values(one=_EVENT, several=[_EVENT, {**_EVENT, "id": "e-2"}]),
            one_of(ref("CloudEvent"), array),
            **{
                "application/cloudevents+json": {
                    "schema": ref("CloudEvent"),
                    "examples": values(structured=_EVENT),
                },
                "application/cloudevents-batch+json": {
                    "schema": array,
                    "examples": values(batch=[_EVENT]),
                },
            },
        ),
        "responses": answers(204, "Every event is accepted, and stored.", None),
    }
    return {"/api/v1/events": {"post": operation}}


def schemas() -> Json:
    text = {"type": "string", "minLength": 1, "pattern": STORABLE}
    in_data = {"type": "object", "required": ["account_id"], "properties": {"account_id": ACCOUNT}}
    accounts = [
        {"required": ["subject"], "properties": {"subject": ACCOUNT}},
        {
            "required": ["data"],
            "properties": {
                "subject": {"enum": [None, ""]},
                "data": in_data,
                "data_base64": {"type": "null"},
            },
        },
    ]
    nobody_s = {"properties": {"account_id": NO_ACCOUNT, "tenant_id": NO_ACCOUNT}}
    of_user_alone = {
        "required": ["userid"],
        "properties": {
            "userid": USER_ALONE,
            "subject": NO_ACCOUNT,
            "data": nobody_s,
            "data_base64": {"type": "null"},
        },
    }
    payloads = [
        {"required": ["data_base64"], "properties": {"data_base64": {"type": "string"}}},
        {"properties": {"data": {"maxProperties": MAX_PROPERTIES}}},
    ]
    return {
        "CloudEvent": {
            "type": "object",
            "description": (
                "`subject` is the account; without it, `account_id` in the data is; without both it"
                " is found by `userid`."
            ),
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": text,
                "source": text,
                "type": TYPE,
                "userid": USER,
                "time": MOMENT,
                "datacontenttype": {"description": "Of `data_base64`: is it JSON?"},
                "data": {"description": "Members of an object become properties; at most 100."},
                "data_base64": {
                    "type": ["string", "null"],
                    "minLength": 4,
                    "contentEncoding": "base64",
                    "contentMediaType": "application/json",
                    "description": "In the place of `data`: JSON in base64.",
                },
            },
            "allOf": [{"anyOf": [*accounts, of_user_alone]}, {"anyOf": payloads}],
        }
    }
