"""The application of ingest behind its real port, for clients that block."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import httpx

from services.ingest.publisher import AppendLog
from shared.credentials import Scope
from shared.lifecycle import serve
from tests.unit.ingest.api import Api, open_api
from tests.unit.ingest.test_outages import StandIn

LIMIT_SECONDS = 10.0
_STOP_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    port: int
    api: Api
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def key(self, *scopes: Scope) -> dict[str, str]:
        """The headers of a new key, written as HTTP libraries do."""
        return {"Authorization": self.api.key(*scopes)["authorization"]}


@contextmanager
def served(log: AppendLog | None = None, **settings: object) -> Iterator[Served]:
    """In a thread of its own; by default over a log that takes everything, without a rate limit."""
    wanted = {"ingest_rate_per_second": 0, **settings}
    ready: SimpleQueue[tuple[int, Api]] = SimpleQueue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with (
            open_api(log or StandIn({}), **wanted) as api,
            serve(
                api.app, host="127.0.0.1", port=0, name="ingest", grace_seconds=_STOP_SECONDS
            ) as port,
        ):
            ready.put((port, api))
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        port, api = ready.get(timeout=LIMIT_SECONDS)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield Served(port=port, api=api, client=client)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
