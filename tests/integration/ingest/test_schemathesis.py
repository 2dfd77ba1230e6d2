"""The description of the API is true: schemathesis calls every operation in all ways it allows."""

import os
from collections.abc import Iterator

import pytest

from shared.credentials import Scope
from tests.integration.ingest.described import OPERATIONS, Operation, call
from tests.integration.ingest.served import Served, served

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "20"))
"""Of each operation in the fuzzing phase; the others have as many as the description makes."""


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_an_operation_keeps_to_its_description(operation: Operation, service: Served) -> None:
    calls = call(operation, service.url, service.key(*Scope), examples=EXAMPLES)
    assert not calls.problems, "\n".join(calls.problems)
    assert calls.phases >= {"examples", "coverage", "fuzzing"}
    assert {200, 204} & calls.statuses.keys()
    assert max(calls.statuses) < 500
    print(calls.statuses)
