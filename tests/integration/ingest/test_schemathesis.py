"""The description of the API is true: schemathesis calls every operation in all ways it allows."""

import asyncio
import os
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
import schemathesis
from hypothesis import settings
from hypothesis import strategies as st
from schemathesis.config import ChecksConfig

from services.ingest.openapi import document
from shared.credentials import Scope
from shared.lifecycle import serve
from shared.log import Appended
from tests.unit.ingest.api import NOW, open_api
from tests.unit.ingest.test_outages import StandIn

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "20"))

moments = st.datetimes(
    min_value=(NOW - timedelta(days=10)).replace(tzinfo=None),
    max_value=(NOW + timedelta(days=10)).replace(tzinfo=None),
    timezones=st.timezones(),
)
schemathesis.openapi.format("date-time", moments.map(lambda m: m.isoformat()))
schemathesis.openapi.format("date", st.dates(min_value=__import__("datetime").date(1970,1,1), max_value=__import__("datetime").date(2199,12,31)).map(str))
schemathesis.openapi.format("timezone", st.sampled_from(["Europe/Paris", "UTC", "America/Argentina/Buenos_Aires"]))

config = schemathesis.Config()
schema = schemathesis.openapi.from_dict(document.describe(), config=config)
schema.config.seed = 1
schema.config.generation.update(max_examples=EXAMPLES, deterministic=True)
schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx"]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, dict[str, str]]]:
    started = threading.Event()
    found = {}
    loop = asyncio.new_event_loop()

    async def main():
        found["stop"] = asyncio.Event()
        async with open_api(StandIn({}), ingest_rate_per_second=0) as api:
            async with serve(api.app, host="127.0.0.1", port=0, name="t", grace_seconds=1) as port:
                found["port"] = port
                found["key"] = api.key(*Scope)
                started.set()
                await found["stop"].wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait(10)
    yield f"http://127.0.0.1:{found['port']}", found["key"]
    loop.call_soon_threadsafe(found["stop"].set)
    thread.join()
    loop.close()


@schema.parametrize()
def test_api(case: schemathesis.Case, served) -> None:
    url, key = served
    case.call_and_validate(base_url=url, headers=key)
