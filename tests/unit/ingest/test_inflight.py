"""The end of the drain: what is still in flight is refused, and nothing else is touched."""

import asyncio

import pytest

from services.ingest.inflight import InFlight
from services.ingest.replies import Refused

LIMIT_SECONDS = 5.0


async def wait_inside(inflight: InFlight, inside: asyncio.Event) -> None:
    with inflight.open() as held:
        held.add_bytes(10)
        inside.set()
        await asyncio.Event().wait()


async def test_what_outlasts_the_drain_is_refused_and_gives_its_room_back() -> None:
    inflight, inside = InFlight(max_bytes=100, max_events=10), asyncio.Event()
    request = asyncio.create_task(wait_inside(inflight, inside))
    await inside.wait()
    assert not await inflight.drain(0.01)
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(request, LIMIT_SECONDS)
    assert refused.value.code == "shutting_down"
    assert not request.cancelling()
    assert (inflight.requests, inflight.bytes) == (0, 0)


async def test_a_request_that_somebody_else_cancels_stays_cancelled() -> None:
    inflight, inside = InFlight(max_bytes=100, max_events=10), asyncio.Event()
    request = asyncio.create_task(wait_inside(inflight, inside))
    await inside.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert inflight.requests == 0
