"""Who gets in, and how much a stranger may take."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from services.ingest import admission
from shared.credentials import Scope
from tests.unit.ingest.api import check_error, open_api
from tests.unit.ingest.native_bodies import item
from tests.unit.ingest.test_outages import D, StandIn
from tests.unit.ingest.test_segment import message


async def test_no_key_is_called_unknown_before_all_are_read() -> None:
    async with open_api(StandIn([D])) as api:
        headers = api.key()
        key_id = api.ring.records()[0].key_id
        record = api.ring.records()[0]
        api.ring.remove(key_id)
        api.ring.is_complete = False
        response = await api.client.post("/v1/events", json=[item()], headers=headers)
        check_error(response, 503, "log_unavailable")
        assert (await api.client.post("/v1/events", json=[item()])).status_code == 401
        api.ring.put(record)
        response = await api.client.post("/v1/events", json=[item()], headers=headers)
        assert response.status_code == 200


async def test_what_cannot_be_read_is_charged_by_its_size() -> None:
    settings = {"ingest_rate_per_second": 1, "ingest_rate_burst": 50}
    async with open_api(StandIn([D]), **settings) as api:
        headers = api.key()
        rubbish = b'{"events":' + b"[" * 60_000
        response = await api.client.post("/v1/events", content=rubbish, headers=headers)
        check_error(response, 400, "invalid_json")
        response = await api.client.post("/v1/events", content=rubbish, headers=headers)
        check_error(response, 429, "rate_limited")


async def test_strangers_leave_room_for_callers_with_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "_STRANGERS_BYTES", 1_000)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b" " * 900
        held.set()
        await go_on.wait()
        yield b"{}"

    async with open_api(StandIn([D])) as api:
        key = api.key(Scope.EVENTS_WRITE)
        secret = key["authorization"].removeprefix("Bearer ")
        waiting = asyncio.create_task(_post_slowly(api.client, slowly()))
        await held.wait()
        body = {"batch": [message()], "writeKey": secret}
        response = await api.client.post("/v1/batch", json=body)
        check_error(response, 503, "overloaded")
        response = await api.client.post("/v1/batch", json=body, headers=key)
        assert response.status_code == 200
        go_on.set()
        check_error(await waiting, 401, "invalid_key")
        assert (await api.client.post("/v1/batch", json=body)).status_code == 200
        assert api.inflight.bytes == 0


async def _post_slowly(client: httpx.AsyncClient, body: AsyncIterator[bytes]) -> httpx.Response:
    return await client.post("/v1/batch", content=body)
