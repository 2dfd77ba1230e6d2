"""asyncio's debug mode and Python's development mode find nothing in a whole process at work."""

import asyncio
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import httpx
import pytest

from shared.credentials import Scope, new_key
from shared.log.postgres import PostgresLog
from shared.messages import USAGE_EVENTS, UsageEvent
from tests.integration.ingest import debugged
from tests.integration.ingest.described import DOCUMENT
from tests.integration.ingest.stored import publish_key, stored
from tests.processes import PerennialProcess
from tests.unit.ingest.native_bodies import item

ROUNDS = 3
BATCH = 500

_READY_SECONDS = 10.0

COMPLAINTS = re.compile(
    r"never awaited|Task was destroyed|was never retrieved|ResourceWarning|Warning:"
    r"|Executing <.* took|Non-thread-safe|Traceback|request\.crashed|unclosed"
)


class DebuggedProcess(PerennialProcess):
    def _spawn(self, output: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-X", "dev", "-m", debugged.__name__, "up", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )


@pytest.fixture
def process(tmp_path: Path, database_url: str) -> Iterator[DebuggedProcess]:
    started = DebuggedProcess(
        tmp_path,
        *("--service", "ingest"),
        DATABASE_URL=database_url,
        PYTHONASYNCIODEBUG="1",
        PERENNIAL_DRAIN_SECONDS="0",
        INGEST_BODY_STALL_SECONDS="0.3",
    )
    yield started
    started.stop()


async def test_debug_mode_finds_nothing_under_a_load_of_all_formats(
    process: DebuggedProcess, log: PostgresLog
) -> None:
    created = new_key(source="app", scopes=list(Scope), now=datetime.now(UTC))
    await publish_key(log, created.record)
    key = {"authorization": f"Bearer {created.secret}"}
    await asyncio.to_thread(process.start)
    async with httpx.AsyncClient(base_url=process.url("ingest"), timeout=30) as client:
        before = await _length_of_start(process, client)
        for number in range(ROUNDS):
            statuses = await asyncio.gather(
                *(client.send(request) for request in _requests(client, key, number)),
                _hang_up(process, created.secret),
            )
            assert {answer.status_code for answer in statuses if answer} == {200, 204, 401, 404}
    assert await asyncio.to_thread(process.terminate) == 0
    assert len(await stored(log, USAGE_EVENTS, UsageEvent)) > ROUNDS * BATCH
    complaints = [line for line in process.output()[before:].split("\n") if COMPLAINTS.search(line)]
    assert not complaints, "\n".join(complaints)


async def _length_of_start(process: DebuggedProcess, client: httpx.AsyncClient) -> int:
    """How much a start says: once ready it looks at all objects once, which takes its time."""
    async with asyncio.timeout(_READY_SECONDS):
        while "process.ready" not in process.output():  # noqa: ASYNC110 - it announces nothing else
            await asyncio.sleep(0.02)
    await client.get("/nothing")  # Answered by the next step of the loop, or a later one.
    return len(process.output())


def _requests(
    client: httpx.AsyncClient, key: dict[str, str], number: int
) -> Iterator[httpx.Request]:
    """Every example of the description, a large batch with one bad event, and strangers."""
    for path, operations in DOCUMENT["paths"].items():
        address = path.format(id="acme", user_id="u-7")
        for method, operation in operations.items():
            yield client.build_request(method, address)
            content = operation.get("requestBody", {}).get("content", {})
            if not content:
                yield client.build_request(method, address, headers=key)
            for media_type, said in content.items():
                for example in said.get("examples", {}).values():
                    body = example["value"]
                    yield client.build_request(
                        method,
                        address,
                        content=body if isinstance(body, str) else json.dumps(body),
                        headers={**key, "content-type": media_type},
                    )
    events = [item(id=f"{number}-{place}") for place in range(BATCH)]
    yield client.build_request(
        "POST",
        "/v1/events",
        content=gzip.compress(json.dumps([*events, {}]).encode()),
        headers={**key, "content-encoding": "gzip"},
    )
    yield client.build_request("GET", "/nothing")


async def _hang_up(process: DebuggedProcess, secret: str) -> None:
    """In the middle of a body, once at once and once after the server has lost its patience."""
    for seconds in (0.0, 0.5):
        _, writer = await asyncio.open_connection("127.0.0.1", process.ports["INGEST_PORT"])
        head = f"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n"
        writer.write(f"{head}content-length: 1000\r\n\r\n[".encode())
        await writer.drain()
        await asyncio.sleep(seconds)
        writer.transport.abort()
