"""CloudEvents."""

from services.ingest.openapi.parts import Json, answers, body, one_of, ref, values

TAG = "cloudevents"
ABOUT = (
    "CloudEvents 1.0, binary, structured or batched, also from OpenMeter's clients. `subject`"
    " is the account, the extension `userid` the person, `source` and `id` together the id."
)

_EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "app/backend",
    "type": "login",
    "subject": "acme",
    "userid": "u-7",
}


def paths() -> Json:
    array = {"type": "array", "items": ref("CloudEvent"), "minItems": 1, "maxItems": 2000}
    operation = {
        "operationId": "cloudevents",
        "summary": "Send CloudEvents",
        "description": (
            "Needs scope `events:write`. Where some of a batch are rejected the answer is 400"
            " `partial_failure` with all results; the others are stored."
        ),
        "parameters": [
            {
                "name": "ce-specversion",
                "in": "header",
                "description": "The event is binary: attributes are headers, the body is its data.",
                "schema": {"const": "1.0"},
            }
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
    text = {"type": "string", "minLength": 1}
    return {
        "CloudEvent": {
            "type": "object",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": text,
                "source": text,
                "type": {**text, "maxLength": 100},
                "subject": {"type": ["string", "null"], "maxLength": 200},
                "userid": {"type": ["string", "null"], "maxLength": 200},
                "time": {"type": ["string", "null"], "format": "date-time"},
                "datacontenttype": {"type": ["string", "null"]},
                "data": {"description": "Members of an object become properties."},
                "data_base64": {"type": ["string", "null"]},
            },
        }
    }
