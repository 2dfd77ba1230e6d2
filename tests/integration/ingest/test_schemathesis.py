"""The description of the API is true: schemathesis calls every operation in all ways it allows."""

import os
from collections.abc import Iterator

import pytest

from shared.credentials import Scope
from tests.integration.ingest.described import OPERATIONS, Operation, call
from tests.integration.ingest.served import Served, served

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "10"))
"""Random calls of each kind and operation; so many more are the description's own edges."""


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    with served() as running:
        yield running


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_an_operation_keeps_to_its_description(operation: Operation, service: Served) -> None:
    calls = call(operation, service.url, service.key(*Scope), examples=EXAMPLES)
    assert not calls.problems, "\n".join(calls.problems)
    # And it was called at all: with what is good, with what is not, and by strangers.
    assert calls.phases >= {"coverage", "fuzzing"}
    assert "examples" in calls.phases or operation.variant
    assert calls.statuses.keys() & {200, 204}
    assert calls.statuses.keys() > {400, 405}
    assert max(calls.statuses) < 500
