"""The service as a process runs it: keys from the log, a real socket, slow clients, the drain."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest

from services.ingest.app import run
from services.ingest.settings import IngestSettings
from shared.credentials import Scope, new_key
from shared.errors import Misconfigured
from shared.lifecycle import Frame, new_frame
from shared.log.postgres import PostgresLog
from shared.messages import USAGE_EVENTS, UsageEvent
from tests.integration.ingest.stored import publish_key, stored
from tests.unit.ingest.native_bodies import item

LIMIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    port: int
    frame: Frame
    stop: asyncio.Event
    task: asyncio.Task[None]
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def until_ready(self) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while self.frame.health.why_unready():  # noqa: ASYNC110 - as an orchestrator polls
                await asyncio.sleep(0.02)

    async def talk(self, head: str, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send a request by hand and read until the server closes or a second is silent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.suppress(ConnectionError):
            writer.write(self.head(head))
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        reply = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(LIMIT_SECONDS):
                while b"\r\n\r\n" not in reply or b"request_id" not in reply:
                    chunk = await reader.read(65_536)
                    if not chunk:
                        break
                    reply += chunk
        writer.close()
        return reply

    def head(self, lines: str) -> bytes:
        return (
            f"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n"
            f"{lines}\r\n\r\n"
        ).encode()


@asynccontextmanager
async def running(log: PostgresLog, **changes: object) -> AsyncIterator[Running]:
    created = new_key(source="app", scopes=[Scope.EVENTS_WRITE], now=datetime.now(UTC))
    await publish_key(log, created.record)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = IngestSettings.model_validate(
        {"ingest_port": port, "perennial_drain_seconds": 0, **changes}
    )
    frame, stop = new_frame(), asyncio.Event()
    task = asyncio.create_task(run(settings, log=log, user_key=b"k" * 32, frame=frame, stop=stop))
    await asyncio.sleep(0)
    started = Running(port=port, frame=frame, stop=stop, task=task, key=created.secret)
    try:
        await started.until_ready()
        yield started
    finally:
        stop.set()
        await asyncio.wait_for(task, LIMIT_SECONDS)


async def test_keys_are_followed_while_it_runs(log: PostgresLog) -> None:
    async with running(log) as service, httpx.AsyncClient(base_url=service.url) as client:
        headers = {"authorization": f"Bearer {service.key}"}
        response = await client.post("/v1/events", json=item(), headers=headers)
        assert response.status_code == 200

        late = new_key(source="late", scopes=[Scope.EVENTS_WRITE], now=datetime.now(UTC))
        headers = {"authorization": f"Bearer {late.secret}"}
        response = await client.post("/v1/events", json=item(), headers=headers)
        assert response.status_code == 401
        await publish_key(log, late.record)
        async with asyncio.timeout(LIMIT_SECONDS):
            while response.status_code == 401:
                await asyncio.sleep(0.05)
                response = await client.post("/v1/events", json=item(), headers=headers)
        assert response.status_code == 200


async def test_it_is_not_ready_before_the_keys_are_read(log: PostgresLog) -> None:
    frame, stop = new_frame(), asyncio.Event()
    settings = IngestSettings.model_validate({"ingest_port": 0, "perennial_drain_seconds": 0})
    task = asyncio.create_task(run(settings, log=log, user_key=b"", frame=frame, stop=stop))
    await asyncio.sleep(0)
    assert frame.health.why_unready() == ["ingest: the keys are not read yet"]
    stop.set()
    await asyncio.wait_for(task, LIMIT_SECONDS)


async def test_a_record_limit_beyond_the_logs_stops_the_start(log: PostgresLog) -> None:
    settings = IngestSettings.model_validate({"ingest_max_record_bytes": log.max_record_bytes + 1})
    with pytest.raises(Misconfigured, match="INGEST_MAX_RECORD_BYTES"):
        await run(settings, log=log, user_key=b"", frame=new_frame(), stop=asyncio.Event())


async def test_it_serves_on_while_it_drains_and_answers_what_is_in_flight(log: PostgresLog) -> None:
    async with (
        running(log, perennial_drain_seconds=0.5) as service,
        httpx.AsyncClient(base_url=service.url) as client,
    ):
        headers = {"authorization": f"Bearer {service.key}"}
        answered: list[int] = []

        async def send(number: int) -> None:
            for turn in range(10_000):
                event = item(id=f"{number}-{turn}")
                try:
                    response = await client.post("/v1/events", json=event, headers=headers)
                except httpx.TransportError:
                    return  # The end: not answered, so nothing was promised.
                answered.append(response.status_code)
                if response.status_code == 503:
                    assert response.json()["code"] == "shutting_down"
                    return

        senders = asyncio.gather(*(send(number) for number in range(4)))
        while len(answered) < 20:  # noqa: ASYNC110 - the senders announce nothing
            await asyncio.sleep(0.01)
        service.stop.set()
        before = len(answered)
        await asyncio.sleep(0.2)
        assert service.frame.health.why_unready() == ["ingest: draining"]
        assert len(answered) > before
        await asyncio.wait_for(senders, LIMIT_SECONDS)
        await asyncio.wait_for(service.task, LIMIT_SECONDS)
    assert set(answered) <= {200, 503}
    events = await stored(log, USAGE_EVENTS, UsageEvent)
    assert len({event.id for _, event in events}) >= answered.count(200) > 20


async def test_a_client_that_hangs_up_cancels_no_append(log: PostgresLog) -> None:
    async with running(log) as service:
        body = json.dumps([item(id=str(n)) for n in range(500)]).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(service.head(f"content-length: {len(body)}") + body)
        await writer.drain()
        writer.transport.abort()
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(await stored(log, USAGE_EVENTS, UsageEvent)) < 500:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_body_that_stalls_is_408_and_cut(log: PostgresLog) -> None:
    async with running(log, ingest_body_stall_seconds=0.2) as service:
        started = asyncio.get_running_loop().time()
        reply = await service.talk("content-length: 1000", b"[")
        assert b"408" in reply.split(b"\r\n")[0]
        assert b'"code":"stalled_body"' in reply
        assert asyncio.get_running_loop().time() - started < 2


async def test_a_body_without_end_is_answered_and_cut(log: PostgresLog) -> None:
    async with running(log, ingest_max_body_bytes=100_000) as service:
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        await service.talk("transfer-encoding: chunked", *[chunk] * 1_000)
        # A client that never stops sending may see a reset instead of the answer.
        labels = {"format": "native", "status": "413"}
        name = "perennial_ingest_requests_total"
        assert service.frame.registry.get_sample_value(name, labels) == 1


async def test_a_body_that_is_a_little_too_long_is_answered(log: PostgresLog) -> None:
    async with running(log, ingest_max_body_bytes=100_000) as service:
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        reply = await service.talk("transfer-encoding: chunked", *[chunk] * 4)
        assert b"413" in reply.split(b"\r\n")[0]
        assert b"connection: close" in reply


async def test_a_refusal_reaches_a_client_that_still_sends(log: PostgresLog) -> None:
    """Closing at once would reset the connection, and the client would see no answer."""
    async with running(log) as service, httpx.AsyncClient(base_url=service.url) as client:
        response = await client.post(
            "/v1/events",
            content=b"x" * 12_000_000,
            headers={"authorization": f"Bearer {service.key}"},
        )
        assert response.status_code == 413
        response = await client.post("/v1/events", content=b"x" * 4_000_000)
        assert response.status_code == 401


async def test_a_client_that_asks_first_sends_no_body_in_vain(log: PostgresLog) -> None:
    async with running(log) as service:
        reply = await service.talk("content-length: 9000000\r\nexpect: 100-continue")
        assert b"413" in reply.split(b"\r\n")[0]
