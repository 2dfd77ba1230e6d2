"""Calls of every kind that the description of the API allows or forbids, made by schemathesis.

What is here beside the calls themselves is what OpenAPI has no words for: times that are recent,
lines and cells, headers that come together, and items that are judged one by one.
"""

import base64
import copy
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import schemathesis
from hypothesis import strategies as st
from schemathesis import CheckContext, HookContext, SerializationContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

from services.ingest.openapi import document
from tests.unit.ingest.api import ERROR_FIELDS, NOW

Json = dict[str, Any]

DOCUMENT = document.describe()
_BATCH = "/v1/accounts:batch"
_CLOUDEVENTS = "/api/v1/events"
_BINARY = "(binary)"

_JSON_IN_BASE64 = [
    base64.b64encode(text).decode() for text in (b'{"plan": "team"}', b"[1]", b"null")
]

_ZONES = ("Africa/Nairobi", "America/Argentina/Buenos_Aires", "Europe/Paris", "UTC")
_UNALIKE = "contract_end: lies before contract_start|renewal_date: differs from contract_end"
_BEYOND_SCHEMAS = re.compile(
    # No schema has a clock; none compares two members; to all of them 7.0 is an integer.
    rf"(invalid_time|too_old|conflicting_account): .*"
    rf"|invalid_field: user_id: must be text or an integer"
    rf"|invalid_field: (line \d+: )?({_UNALIKE})(; ({_UNALIKE}))*"
)
_REFUSALS = ["400", "401", "403", "404", "405", "408", "413", "415", "431"]


class Operation(NamedTuple):
    method: str
    path: str
    variant: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


OPERATIONS = [
    Operation(method.upper(), path)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
] + [Operation("POST", _CLOUDEVENTS, _BINARY)]


class Calls(NamedTuple):
    """What became of the calls of one operation."""

    statuses: dict[int, int]
    phases: set[str]
    """Those in which there was something to call."""
    problems: list[str]


def call(operation: Operation, url: str, key: dict[str, str], *, examples: int) -> Calls:
    """Every phase with every check; `key` are the headers that allow everything."""
    said = schemathesis.openapi.from_dict(_said(operation.variant), config=schemathesis.Config())
    schema = said.include(path=operation.path, method=operation.method)
    schema.hook("filter_failure")(_is_a_fault)
    config = schema.config
    config.update(base_url=url, headers=key, continue_on_failure=True)
    config.seed = 1
    config.generation.update(max_examples=examples, deterministic=True, database="none")
    config.checks.update(included_check_names=["all"], max_response_time=10.0)
    config.checks.positive_data_acceptance.expected_statuses = ["2xx"]
    config.checks.negative_data_rejection.expected_statuses = _REFUSALS
    statuses: dict[int, int] = {}
    phases: set[str] = set()
    problems: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            problems.append(f"{event.label}: {event.info.title}: {event.info.message}")
        if not isinstance(event, events.ScenarioFinished):
            continue
        for interaction in event.recorder.interactions.values():
            if interaction.response is not None:
                phases.add(event.phase.value)
                status = interaction.response.status_code
                statuses[status] = statuses.get(status, 0) + 1
        problems.extend(_failures(event))
    return Calls(statuses, phases, problems)


def _failures(event: events.ScenarioFinished) -> Iterator[str]:
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                case = event.recorder.cases[case_id].value
                interaction = event.recorder.interactions[case_id]
                answer = interaction.response and (
                    _rejected(interaction.response) or interaction.response.content[:400]
                )
                yield (
                    f"{check.name} ({event.phase.value}): {check.failure_info.failure.message}\n"
                    f"  {case.method} {case.path} {case.path_parameters} {case.query}"
                    f" {case.headers} {case.media_type}: {case.body!r:.1500}\n  {answer!r}"
                )


def _said(variant: str) -> Json:
    """The description, with what OpenAPI cannot say said in a way that schemathesis understands."""
    said: Json = copy.deepcopy(DOCUMENT)
    paths = said["paths"]
    for path, item in (("/v1/events", "Event"), (_BATCH, "Account")):
        array = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}}
        content = paths[path]["post"]["requestBody"]["content"]
        content["application/x-ndjson"]["schema"] = {**array, "minItems": 1, "maxItems": 2000}
        if "text/csv" in content:
            content["text/csv"]["schema"] = {**array, "minItems": 1, "maxItems": 50}
    shapes = said["components"]["schemas"]
    shapes["CloudEvent"]["properties"]["data_base64"] = {"enum": [None, *_JSON_IN_BASE64]}
    shapes["AccountFields"]["properties"]["timezone"] = {"enum": [None, *_ZONES]}
    cloudevents = paths[_CLOUDEVENTS]["post"]
    if variant == _BINARY:
        for header in cloudevents["parameters"]:
            header["required"] = header["name"] not in ("ce-userid", "ce-time")
        content = {"application/json": {"schema": {}}}
        cloudevents["requestBody"] = {"content": content}
    else:
        cloudevents["parameters"] = []
    return said


schemathesis.openapi.format(
    "date-time",
    st.datetimes(
        min_value=(NOW - timedelta(days=10)).replace(tzinfo=None),
        max_value=(NOW + timedelta(days=10)).replace(tzinfo=None),
        timezones=st.sampled_from([UTC]),
    ).map(lambda moment: moment.isoformat().replace("+00:00", "Z")),
)
schemathesis.openapi.format("date", st.dates(date(1970, 1, 1), date(2199, 12, 31)).map(str))


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: SerializationContext, value: Any) -> bytes:
    if isinstance(value, (str, bytes)):
        return value.encode() if isinstance(value, str) else value
    items = value if isinstance(value, list) else [value]
    return "\n".join(map(json.dumps, items)).encode()


@schemathesis.serializer("text/csv")
def _cells(_context: SerializationContext, value: Any) -> bytes:
    if isinstance(value, (str, bytes)):
        return value.encode() if isinstance(value, str) else value
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    fields = DOCUMENT["components"]["schemas"]["AccountFields"]["properties"]
    columns = ["id", *(name for name in fields if name != "renewal_date")]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(columns)
    for row in rows:
        names = [row.get(name) for name in ("id", "account_id", "tenant_id")]
        account = next((name for name in names if name is not None), "")
        writer.writerow([_cell({**row, "id": account}.get(name)) for name in columns])
    return table.getvalue().encode("utf-8", "surrogatepass")


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return format(Decimal(repr(value)), "f")
        case list() | dict():
            return json.dumps(value)
        case _:
            return str(value)


@schemathesis.check
def what_keeps_to_the_description_is_accepted(
    _context: CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Every item of it, not only one; what was set right is named by a warning."""
    if (
        case.meta is None
        or not case.meta.generation.mode.is_positive
        or response.status_code >= 300
    ):
        return
    blamed = [reject for reject in _rejected(response) if not _is_beyond_schemas(reject)]
    assert not blamed, f"rejected: {blamed}"


@schemathesis.check
def every_error_has_the_same_body(
    _context: CheckContext, response: schemathesis.Response, _case: schemathesis.Case[Any]
) -> None:
    """Whatever was refused and how, also where the description has nothing for it to keep to."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/json"]
    told = response.json()
    assert all(isinstance(told[name], str) and told[name] for name in ERROR_FIELDS)
    assert response.headers["x-request-id"] == [told["request_id"]]


def _is_a_fault(
    _context: HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Whether a failure is one, given what the checks cannot know."""
    rejected = _rejected(response)
    if isinstance(failure, AcceptedNegativeData):
        # Cells have no types: what is no number in JSON is one in a table. And of many items the
        # bad ones are told by the answer, not by its status.
        return case.media_type != "text/csv" and not rejected
    if isinstance(failure, RejectedPositiveData):
        return not rejected or not all(map(_is_beyond_schemas, rejected))
    return True


def _rejected(response: schemathesis.Response) -> list[str]:
    """What an answer says of the items it blames, in whichever format."""
    if response.status_code == 204 or response.headers.get("content-type") != ["application/json"]:
        return []
    told = response.json()
    results: Iterable[Json] = told.get("results") or told.get("rejected") or ()
    if isinstance(results, dict):
        return [each["details"] for each in results.values() if each["result"] == "drop"]
    return [
        f"{each['code']}: {each['message']}"
        for each in results
        if each.get("status", "rejected") == "rejected"
    ]


def _is_beyond_schemas(reject: str) -> bool:
    return _BEYOND_SCHEMAS.fullmatch(reject) is not None
