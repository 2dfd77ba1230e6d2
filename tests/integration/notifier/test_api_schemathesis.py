"""The description of the JSON API is true: schemathesis calls each operation as it allows.

Whether what keeps to the description is accepted is not asked: most of it (an id that is there, a
version that is the present one, a time to come) has no words in OpenAPI.
"""

import asyncio
import os
from typing import Any

import httpx
import schemathesis
from schemathesis.engine import Status, events, from_schema

from shared.credentials import KeyRing, Scope, new_key
from shared.lifecycle import serve
from tests.integration.notifier.console_rig import api_app
from tests.integration.notifier.rig import NOW, Rig, account, flag

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
"""Random calls of each kind and operation; so many more are the description's own edges."""
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
    "unsupported_method",
]


async def test_every_operation_keeps_to_its_description(rig: Rig) -> None:
    await rig.take(account())
    await rig.take(flag())
    (row,) = await rig.interventions()
    ring, key = KeyRing(), new_key(source="crm", scopes=list(Scope), now=NOW)
    ring.put(key.record)
    headers = {"Authorization": f"Bearer {key.secret}"}
    app = api_app(rig, ring)
    async with serve(app, host="127.0.0.1", port=0, name="api", grace_seconds=1) as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:
            document = (await client.get(f"{url}/api/v1/openapi.json")).json()
        known(document, str(row.id))
        problems, statuses = await asyncio.to_thread(call, document, url, headers)
    assert not problems, "\n".join(problems)
    # It was called at all: with what is good, and with what is not.
    assert statuses >= {200, 401, 404, 409, 422}


def known(document: dict[str, Any], one: str) -> None:
    """Name what there is as an example, so that not every call ends at a 404."""
    there = {"intervention_id": one, "account": "acme", "address": "anna@vendor.example"}
    for methods in document["paths"].values():
        for route in methods.values():
            for parameter in route.get("parameters", ()):
                if parameter["name"] in there and parameter["in"] == "path":
                    parameter["example"] = there[parameter["name"]]


def call(document: dict[str, Any], url: str, key: dict[str, str]) -> tuple[list[str], set[int]]:
    """What is wrong, and all statuses that were answered."""
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config())
    config = schema.config
    config.update(base_url=url, headers=key, continue_on_failure=True)
    config.seed = 1
    config.generation.update(max_examples=EXAMPLES, deterministic=True, database="none")
    config.phases.stateful.enabled = False
    config.checks.update(included_check_names=CHECKS, max_response_time=10.0)
    # There is no scoring here: who needs it to answer says so, with a 503 that is described.
    config.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", "503"]
    problems: list[str] = []
    statuses: set[int] = set()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            problems.append(f"{event.label}: {event.info.title}: {event.info.message}")
        if not isinstance(event, events.ScenarioFinished):
            continue
        for case_id, interaction in event.recorder.interactions.items():
            if interaction.response is not None:
                statuses.add(interaction.response.status_code)
            for check in event.recorder.checks.get(case_id, ()):
                if check.status is Status.FAILURE and check.failure_info is not None:
                    case = event.recorder.cases[case_id].value
                    problems.append(
                        f"{check.name}: {check.failure_info.failure.message}\n"
                        f"  {case.method} {case.path} {case.path_parameters} {case.query}"
                        f" {case.headers}: {case.body!r:.500}\n"
                        f"  {interaction.response and interaction.response.content[:300]!r}"
                    )
    return problems, statuses
