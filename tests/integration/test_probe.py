"""The health check of a container says what /readyz says, to whoever reads its exit code."""

import asyncio
import sys
from pathlib import Path

from shared.lifecycle import admin_app, new_frame, serve
from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[2]


async def probe(**environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.probe",
        cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    return process.returncode, said.decode().strip()


async def test_it_follows_readyz_on_the_address_the_process_listens_on() -> None:
    frame, port = new_frame(), free_port()
    there = {"ADMIN_PORT": str(port), "PERENNIAL_HOST": "127.0.0.7"}
    frame.health.starting("scoring")
    async with serve(admin_app(frame), host="127.0.0.7", port=port, name="admin", grace_seconds=1):
        assert await probe(**there) == (1, "scoring is starting")
        frame.health.started("scoring")
        assert await probe(**there) == (0, "")
        frame.health.draining = True
        assert await probe(**there) == (1, "draining")
    status, said = await probe(**there)
    assert status == 1
    assert said.startswith(f"no answer from 127.0.0.7:{port}: ")


async def test_of_a_process_that_listens_everywhere_it_asks_on_loopback() -> None:
    frame, port = new_frame(), free_port()
    async with serve(admin_app(frame), host="127.0.0.1", port=port, name="admin", grace_seconds=1):
        for host in ("0.0.0.0", ""):
            assert await probe(ADMIN_PORT=str(port), PERENNIAL_HOST=host) == (0, "")
