"""The directory in: what is known of accounts besides their use, and what is to be erased."""

from services.ingest.openapi.parts import Json, answers, body, one_of, ref, values
from services.ingest.traits import FIELDS

TAG = "accounts"
ABOUT = "What is known of accounts besides their use: plan, seats, price, owner, contract."

_ACME = {
    "name": "Acme Corp",
    "plan": "team",
    "seats": 40,
    "mrr": "1200.50",
    "currency": "EUR",
    "owner": "csm@example.com",
    "contract_end": "2027-03-31",
    "status": "active",
}
_ACCEPTED: Json = {"results": [{"index": 0, "id": "acme", "status": "accepted"}]}
_STORED = "The change is stored."
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The account's id; it may hold `/`.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "example": "acme",
}


def paths() -> Json:
    return {
        "/v1/accounts/{id}": {"put": _put(), "patch": _patch(), "delete": _delete()},
        "/v1/accounts:batch": {"post": _post()},
        "/v1/users/{user_id}": {"delete": _delete_user()},
    }


def schemas() -> Json:
    fields = {name: {"description": "null: not known"} for name in FIELDS}
    identifier = {"type": ["string", "integer"], "minLength": 1, "maxLength": 200}
    return {
        "AccountFields": {"type": "object", "properties": fields},
        "Account": {
            "type": "object",
            "description": "`account_id` and `tenant_id` are read as `id`.",
            "properties": {"id": identifier, **fields},
        },
    }


def _put() -> Json:
    return {
        "operationId": "put_account",
        "summary": "Replace what is known of an account",
        "description": "Needs scope `accounts:write`. A field that is absent or null is not known.",
        "parameters": [_ID],
        "requestBody": body(values(account=_ACME), ref("AccountFields")),
        "responses": answers(200, _STORED, ref("Results"), values(account=_ACCEPTED)),
    }


def _patch() -> Json:
    return {
        "operationId": "patch_account",
        "summary": "Change some of what is known of an account",
        "description": "Needs scope `accounts:write`. An absent field stays, null clears it.",
        "parameters": [_ID],
        "requestBody": body(values(seats={"seats": 55, "reseller": None}), ref("AccountFields")),
        "responses": answers(200, _STORED, ref("Results"), values(seats=_ACCEPTED)),
    }


def _delete() -> Json:
    return {
        "operationId": "erase_account",
        "summary": "Erase an account",
        "description": (
            "Needs scope `erase`. All that was received of it until now is forgotten, also where it"
            " is read again from the log; what comes later starts the account afresh."
        ),
        "parameters": [_ID],
        "responses": answers(200, _STORED, ref("Results"), values(account=_ACCEPTED)),
    }


def _delete_user() -> Json:
    account = {
        "name": "account_id",
        "in": "query",
        "description": "In this account alone; default: in all.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    }
    user = {**_ID, "name": "user_id", "description": "As events name the person.", "example": "u-7"}
    return {
        "operationId": "erase_user",
        "summary": "Erase a person",
        "description": "Needs scope `erase`. The person's events count on, without the person.",
        "parameters": [user, account],
        "responses": answers(200, "The erasure is stored.", ref("Results")),
    }


def _post() -> Json:
    array = {"type": "array", "items": ref("Account"), "minItems": 1, "maxItems": 2000}
    wrapped = {"type": "object", "required": ["accounts"], "properties": {"accounts": array}}
    mode = {"type": "string", "enum": ["patch", "put"], "default": "patch"}
    table = "id;name;seats;mrr\r\nacme;Acme Corp;40;1200,50\r\n"
    return {
        "operationId": "post_accounts",
        "summary": "Change many accounts",
        "description": (
            "Needs scope `accounts:write`. In mode `patch` an absent field stays, null clears it;"
            " in mode `put` the record is replaced. A CSV has a header, commas, semicolons or tabs"
            " between its cells, and ISO dates; an empty cell leaves a field as it is."
        ),
        "parameters": [{"name": "mode", "in": "query", "schema": mode}],
        "requestBody": body(
            values(accounts={"accounts": [{"id": "acme", **_ACME}]}),
            one_of(array, wrapped, ref("Account")),
            **{
                "application/x-ndjson": {
                    "schema": {"type": "string", "description": "One account a line."}
                },
                "text/csv": {"schema": {"type": "string"}, "examples": values(table=table)},
            },
        ),
        "responses": answers(
            200,
            "At least one account is accepted, and stored.",
            ref("Results"),
            values(accounts=_ACCEPTED, table=_ACCEPTED),
        ),
    }
