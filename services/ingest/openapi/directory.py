"""The directory in: what is known of accounts besides their use, and what is to be erased."""

from services.ingest.codes import COUNTRIES, CURRENCIES
from services.ingest.openapi.parts import (
    ACCOUNT,
    BLANK,
    NOT_BLANK,
    PERSON,
    STORABLE,
    Json,
    absent,
    answers,
    body,
    named_by,
    one_of,
    ref,
    values,
)
from services.ingest.traits import MAX_GOALS, MAX_TEXT

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
    "schema": {**ACCOUNT, "type": "string"},
    "example": "acme",
}


_TEXT = {"type": ["string", "integer", "null"], "maxLength": MAX_TEXT, "pattern": STORABLE}
_DAY = {
    "type": ["string", "null"],
    "format": "date",
    "pattern": "^(19[7-9]|20[0-9]|21[0-9])[0-9]-[0-9]{2}-[0-9]{2}$",
    "description": "From 1970 to 2199.",
}
_FIGURE = {"type": "number", "exclusiveMinimum": -1e12, "exclusiveMaximum": 1e12}
_GOAL = {
    "type": "object",
    "required": ["metric", "baseline", "target"],
    "properties": {
        "metric": {**_TEXT, "type": ["string", "integer"], "pattern": NOT_BLANK},
        "baseline": _FIGURE,
        "target": _FIGURE,
        "direction": {"enum": ["up", "down"], "default": "up"},
        "due": _DAY,
    },
}


def _whole(limit: int) -> Json:
    return {"type": ["integer", "null"], "minimum": 0, "maximum": limit}


def _decimal(sign: str, **limits: float) -> Json:
    return {
        "type": ["number", "string", "null"],
        **limits,
        "exclusiveMaximum": 1e12,
        "pattern": rf"^{sign}[0-9]{{1,12}}(\.[0-9]{{1,400}})?$",
        "description": "Four decimal places are kept.",
    }


def _words(*words: str) -> Json:
    return {"enum": [*words, None]}


_IN_MAIL = rf'[^@<>,;:".\u0000{BLANK}]'

_FIELDS: Json = {
    **dict.fromkeys(("name", "plan", "segment"), _TEXT),
    "reseller": {**_TEXT, "description": "Who sold it: set for an indirect customer."},
    "seats": _whole(1_000_000_000),
    "mrr": _decimal("", minimum=0),
    "margin_per_month": _decimal("-?", exclusiveMinimum=-1e12),
    "currency": {**_words(*sorted(CURRENCIES)), "description": "ISO 4217."},
    "region": {
        "type": ["string", "null"],
        "pattern": f"^({'|'.join(sorted(COUNTRIES))})(-[A-Z0-9]{{1,3}})?$",
        "description": "ISO 3166, as FR or FR-BRE.",
    },
    "timezone": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": 64,
        "description": "A time zone of IANA, as Europe/Paris.",
    },
    "owner": {
        "type": ["string", "null"],
        "maxLength": MAX_TEXT,
        "pattern": f"^{_IN_MAIL}{{1,64}}@{_IN_MAIL}+\\.{_IN_MAIL}+$",
        "description": "The e-mail address of who looks after the account.",
    },
    "contract_start": _DAY,
    "contract_end": {**_DAY, "description": "Not before contract_start."},
    "renewal_date": {
        **_DAY,
        "description": "Another name for contract_end, with the same day.",
    },
    "notice_days": {**_whole(3_650), "description": "contract_end less these: the deadline."},
    "billing_period": _words("month", "quarter", "half_year", "year", "multi_year"),
    "status": {**_words("trial", "active", "churned"), "description": "churned needs churned_at."},
    "churned_at": _DAY,
    "goals": {"type": ["array", "null"], "maxItems": MAX_GOALS, "items": _GOAL},
}
_CHURNED = {
    "anyOf": [
        {"properties": {"status": _words("trial", "active")}},
        {"required": ["churned_at"], "properties": {"churned_at": {"type": "string"}}},
    ]
}


def paths() -> Json:
    return {
        "/v1/accounts/{id}": {"put": _put(), "patch": _patch(), "delete": _delete()},
        "/v1/accounts:batch": {"post": _post()},
        "/v1/users/{user_id}": {"delete": _delete_user()},
    }


def schemas() -> Json:
    return {
        "AccountFields": {
            "type": "object",
            "description": "Unknown fields are not kept; a warning names them.",
            "properties": _FIELDS,
            **_CHURNED,
        },
        "Account": {
            "allOf": [
                ref("AccountFields"),
                {
                    "description": "Its name is `id`, alias `account_id` or `tenant_id`.",
                    "anyOf": named_by("id", "account_id", "tenant_id"),
                },
            ]
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
        "schema": {**ACCOUNT, "type": "string"},
    }
    user = {
        **_ID,
        "name": "user_id",
        "description": "As events name the person.",
        "schema": PERSON,
        "example": "u-7",
    }
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
    lines = '{"id": "acme", "seats": 40}\n'
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
            one_of(array, wrapped, {"allOf": [ref("Account"), absent("accounts")]}),
            **{
                "application/x-ndjson": {
                    "schema": {
                        "type": "string",
                        "pattern": NOT_BLANK,
                        "description": "One account a line.",
                    },
                    "examples": values(lines=lines),
                },
                "text/csv": {
                    "schema": {"type": "string", "pattern": NOT_BLANK},
                    "examples": values(table=table),
                },
            },
        ),
        "responses": answers(
            200,
            "At least one account is accepted, and stored.",
            ref("Results"),
            values(accounts=_ACCEPTED, lines=_ACCEPTED, table=_ACCEPTED),
        ),
    }
