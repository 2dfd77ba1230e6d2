"""The description of the API is true: its examples are executed."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from services.ingest import identity
from services.ingest.openapi import document, parts
from services.ingest.routes import ACCOUNTS_BATCH, EVENT_PATHS
from shared.credentials import Scope
from shared.log import Appended
from tests.unit.ingest.api import open_api
from tests.unit.ingest.test_outages import StandIn

DOCUMENT = document.describe()
ALL_IS_DURABLE: dict[str, Appended] = {}
_PARAMETERS = {"id": "acme", "user_id": "u-7"}


class Example(NamedTuple):
    method: str
    path: str
    operation: Any
    media_type: str | None = None
    name: str = ""
    body: object = None


def _examples() -> Iterator[Example]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content")
            if content is None:
                yield Example(method, path, operation)
                continue
            for media_type, said in content.items():
                for name, example in said.get("examples", {}).items():
                    yield Example(method, path, operation, media_type, name, example["value"])


EXAMPLES = [
    pytest.param(example, id=f"{example.method} {example.path} {example.name}")
    for example in _examples()
]


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_gets_the_answer_it_is_said_to_get(example: Example) -> None:
    status, said = _good_answer(example)
    path = example.path.format(**_PARAMETERS)
    body = example.body if isinstance(example.body, str) else json.dumps(example.body)
    async with open_api(StandIn(ALL_IS_DURABLE)) as api:
        headers = api.key(*Scope)
        if example.media_type is not None:
            headers["content-type"] = example.media_type
        response = await api.client.request(
            example.method,
            path,
            content=None if example.media_type is None else body,
            headers=headers,
        )
        assert response.status_code == status, response.text
        if said is not None:
            assert response.json() == said


def _good_answer(example: Example) -> tuple[int, object]:
    """The status, and the body where the description shows one."""
    [(status, good)] = [
        (int(status), answer)
        for status, answer in example.operation["responses"].items()
        if status < "300"
    ]
    shown = good.get("content", {}).get("application/json", {}).get("examples", {})
    return status, shown[example.name]["value"] if example.name in shown else None


def test_every_path_is_described() -> None:
    described = {path.removesuffix("/") for path in DOCUMENT["paths"]}
    assert described >= {*EVENT_PATHS, ACCOUNTS_BATCH, "/v1/accounts/{id}", "/v1/users/{user_id}"}


async def test_the_description_is_served_and_the_page_only_where_it_is_wanted() -> None:
    async def status(client: httpx.AsyncClient, path: str) -> int:
        return (await client.get(path)).status_code

    async with open_api(StandIn(None)) as api:
        assert (await api.client.get("/openapi.json")).json() == DOCUMENT
        assert await status(api.client, "/docs") == 404
    async with open_api(StandIn(None), ingest_docs=True) as api:
        assert await status(api.client, "/docs") == 200


@pytest.mark.parametrize("word", ["", " ", "\u2003", "\x1f", "\0"])
def test_what_is_blank_names_nobody(word: str) -> None:
    assert not re.match(parts.ACCOUNT["pattern"], word)
    assert not re.match(parts.PERSON["pattern"], word)
    assert not re.match(parts.TYPE["pattern"], word)


def test_a_placeholder_names_nobody() -> None:
    """As the description has it, in any case and with blanks."""
    for word in identity.USER_PLACEHOLDERS - {""}:
        for written in (word, word.upper(), f"\t{word.title()} "):
            assert not re.match(parts.PERSON["pattern"], written)
            is_account = re.match(parts.ACCOUNT["pattern"], written) is not None
            assert is_account == (word not in identity.PLACEHOLDERS)
        assert re.match(parts.PERSON["pattern"], f"{word}x")


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    text = str(DOCUMENT)
    for part in text.split("#/components/schemas/")[1:]:
        assert part.split("'")[0] in schemas
