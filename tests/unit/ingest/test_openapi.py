"""The description of the API is true: its examples are executed."""

from typing import Any

import httpx
import pytest

from services.ingest import openapi
from shared.credentials import Scope
from tests.unit.ingest.api import open_api
from tests.unit.ingest.test_outages import D, StandIn

DOCUMENT = openapi.describe()
EXAMPLES = [
    pytest.param(method, path, name, id=f"{method} {path} {name}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for name in operation["requestBody"]["content"]["application/json"]["examples"]
]


@pytest.mark.parametrize(("method", "path", "name"), EXAMPLES)
async def test_an_example_gets_the_answer_it_is_said_to_get(
    method: str, path: str, name: str
) -> None:
    operation: Any = DOCUMENT["paths"][path][method]
    body = operation["requestBody"]["content"]["application/json"]["examples"][name]["value"]
    said = operation["responses"]["200"]["content"]["application/json"]["examples"][name]["value"]
    good = sum(result["status"] == "accepted" for result in said["results"])
    async with open_api(StandIn([D] * good)) as api:
        key = api.key(Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE, Scope.BACKFILL)
        response = await api.client.request(
            method, path.replace("{id}", "acme"), json=body, headers=key
        )
        assert response.status_code == 200
        assert response.json() == said


async def test_the_description_is_served_and_the_page_only_where_it_is_wanted() -> None:
    async def status(client: httpx.AsyncClient, path: str) -> int:
        return (await client.get(path)).status_code

    async with open_api(StandIn(None)) as api:
        assert (await api.client.get("/openapi.json")).json() == DOCUMENT
        assert await status(api.client, "/docs") == 404
    async with open_api(StandIn(None), ingest_docs=True) as api:
        assert await status(api.client, "/docs") == 200


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    text = str(DOCUMENT)
    for part in text.split("#/components/schemas/")[1:]:
        assert part.split("'")[0] in schemas
