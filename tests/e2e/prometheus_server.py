"""Debian's Prometheus as a child process of a test, scraping what the test runs, with our rules."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.e2e.deployments import eventually
from tests.processes import at_our_end, free_port
from tests.prometheus_tools import RULES, require_tool, seconds_of

_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast time goes in rules: 15 minutes of a rule are 45 s where `times` is 20.

    Ranges and offsets are at most `longest_seconds` after that: a day's average would else outlive
    any test. Numbers that are compared (an age above 300) are as they are.
    """

    times: float = 1.0
    longest_seconds: float = float("inf")
    scrape_seconds: float = 15.0

    def rewritten(self, rules: str) -> str:
        """A file of rules with all its durations at this pace."""
        if self == Pace():
            return rules
        found: dict[str, Any] = yaml.safe_load(rules)
        for group in found["groups"]:
            group.pop("interval", None)
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = _written(seconds_of(rule["for"]) / self.times)
                rule["expr"] = self._expression(rule["expr"])
        return yaml.safe_dump(found, sort_keys=False)

    def _expression(self, text: str) -> str:
        ranges = re.sub(
            rf"\[({_DURATION})(?::({_DURATION}))?\]",
            lambda found: f"[{':'.join(self._window(one) for one in found.groups() if one)}]",
            text,
        )
        return re.sub(
            rf"\boffset ({_DURATION})", lambda found: f"offset {self._window(found[1])}", ranges
        )

    def _window(self, duration: str) -> str:
        return _written(min(seconds_of(duration) / self.times, self.longest_seconds))


def _written(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    client: httpx.AsyncClient

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        answer = await self.client.get("/api/v1/query", params={"query": expression})
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    async def firing(self) -> set[str]:
        """What fires now, as `Name severity`; the heartbeat does not count."""
        answer = (await self.client.get("/api/v1/alerts")).json()
        return {
            f"{alert['labels']['alertname']} {alert['labels']['severity']}"
            for alert in answer["data"]["alerts"]
            if alert["state"] == "firing" and alert["labels"]["alertname"] != "Heartbeat"
        }

    async def ever_fired(self) -> set[str]:
        """The names of all that have fired since the start; the heartbeat is one."""
        rows = await self.ask(
            'count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))'
        )
        return {row["metric"]["alertname"] for row in rows}

    async def broken_rules(self) -> Sequence[str]:
        """Rules that could not be evaluated, or have not been yet."""
        groups = (await self.client.get("/api/v1/rules")).json()["data"]["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError') or rule['health']}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]


@asynccontextmanager
async def running_prometheus(
    folder: Path, targets: Mapping[str, str], *, pace: Pace
) -> AsyncIterator[Prometheus]:
    """Scrapes `targets` (job to host:port) with our rules at that pace."""
    program, port = require_tool("prometheus"), free_port()
    (folder / "rules").mkdir(parents=True)
    for path in RULES.glob("*.yml"):
        (folder / "rules" / path.name).write_text(pace.rewritten(path.read_text()))
    every = _written(pace.scrape_seconds)
    configuration = {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": _written(min(10.0, pace.scrape_seconds)),
            "evaluation_interval": every,
        },
        "rule_files": [str(folder / "rules" / "*.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    output = folder / "output.log"
    with output.open("wb") as stream:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    watchdog = at_our_end('kill -9 "$1"', process.pid)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:

            async def is_ready() -> bool:
                assert process.poll() is None, output.read_text()[-3000:]
                with suppress(httpx.HTTPError):
                    return (await client.get("/-/ready")).status_code == 200
                return False

            await eventually(is_ready, seconds=_START_SECONDS, what="Prometheus to be ready")
            yield Prometheus(client=client)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait, 10)
        watchdog.kill()
        watchdog.communicate()
