"""The SDKs: each a script that runs in a process of its own, unchanged apart from host and key."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.contract.sdks.installs import NODE, require_cloudevents2, require_node

_PROJECT = Path(__file__).parents[3]
_LIMIT_SECONDS = 60.0
_AGO = timedelta(hours=2)
_ENVIRONMENT = {
    "NODE_NO_WARNINGS": "1",  # What Node thinks of itself is no word of the SDK's.
    "NO_PROXY": "127.0.0.1",
    "PYTHONPATH": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """One SDK in one way of using it; its name is that of the script and the language's."""

    name: str
    gzip: bool = False
    mode: str = ""
    exports: int = 500
    plans: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def script(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def is_node(self) -> bool:
        return self.name.endswith(" node")

    def require(self) -> None:
        """Bring what the development lock does not have; skips or fails where that cannot be."""
        if self.is_node:
            require_node()
        elif self.script == "cloudevents2":
            require_cloudevents2()

    def command(self) -> list[str]:
        if self.is_node:
            return ["node", str(NODE / f"{self.script}.mjs")]
        return [sys.executable, "-m", f"tests.contract.sdks.python.{self.script}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a script's process said."""

    first: datetime
    sent: int
    errors: list[str]
    noise: str
    """All that came out besides: the SDK's own log."""


async def run(
    sdk: Sdk, *, url: str, key: str, exports: int | None = None, bad: int | None = None
) -> Run:
    """The script to its end, which has to be a good one."""
    first = (datetime.now(UTC) - _AGO).replace(microsecond=0)
    told = {
        "url": url,
        "key": key,
        "first": first.isoformat(),
        "exports": sdk.exports if exports is None else exports,
        "bad": bad,
        "plans": sdk.plans,
        "gzip": sdk.gzip,
        "mode": sdk.mode,
    }
    process = await asyncio.create_subprocess_exec(
        *sdk.command(),
        json.dumps(told),
        cwd=_PROJECT,
        env={**os.environ, **_ENVIRONMENT, **sdk.environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _LIMIT_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = output.decode().splitlines()
    noise = "\n".join([*lines[:-1], errors.decode()]).strip()
    assert process.returncode == 0, noise or lines
    said = json.loads(lines[-1])
    return Run(first=first, sent=said["sent"], errors=said["errors"], noise=noise)
