"""docker-compose.yml, read: its services, for the tests to check and to run."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.containers.dockerfile import ROOT

COMPOSE: Final = ROOT / "docker-compose.yml"
OURS: Final = "perennial-"
_SPAN: Final = re.compile(r"(\d+)(s|m)")
_UNITS: Final = {"s": 1, "m": 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    source: str
    """A volume's name, or a path inside the repository (`./...`)."""
    target: str
    read_only: bool
    copies: bool = True
    """Whether an empty volume takes over what the image has there, with its owner."""

    @property
    def is_path(self) -> bool:
        return self.source.startswith("./")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    """What the files of `env_file` set that are there."""
    depends_on: dict[str, str]
    mounts: list[Mount]
    ports: list[str]
    health: list[str] | None
    health_seconds: float
    """How long it may take until it is healthy."""
    grace_seconds: float
    raw: dict[str, Any] = field(repr=False)

    @property
    def is_ours(self) -> bool:
        return self.image.startswith(OURS)

    @property
    def build(self) -> str | None:
        """SERVICE of deploy/Dockerfile."""
        return self.raw["build"]["args"]["SERVICE"] if "build" in self.raw else None

    @property
    def is_one_shot(self) -> bool:
        return self.raw.get("restart") == "no"

    @property
    def profiles(self) -> list[str]:
        found: list[str] = self.raw.get("profiles", [])
        return found


def document(path: Path = COMPOSE) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def services(*, own: dict[str, str] | None = None) -> dict[str, Service]:
    """By name; `own`: what a user's perennial.env would set."""
    return {name: _service(name, raw, own or {}) for name, raw in document()["services"].items()}


def seconds(span: str) -> float:
    return float(sum(int(n) * _UNITS[unit] for n, unit in _SPAN.findall(span)))


def _service(name: str, raw: dict[str, Any], own: dict[str, str]) -> Service:
    health = raw.get("healthcheck", {})
    waits = ("start_period", "interval", "timeout")
    return Service(
        name=name,
        image=raw["image"],
        command=raw.get("command", []),
        environment=raw.get("environment", {}),
        files=_env_files(raw.get("env_file", []), own),
        depends_on={
            other: wanted["condition"] for other, wanted in raw.get("depends_on", {}).items()
        },
        mounts=[_mount(one) for one in raw.get("volumes", [])],
        ports=raw.get("ports", []),
        health=_test(health["test"]) if health else None,
        health_seconds=sum(seconds(health.get(wait, "60s")) for wait in waits),
        grace_seconds=seconds(raw.get("stop_grace_period", "10s")),
        raw=raw,
    )


def _test(test: list[str]) -> list[str]:
    kind, *command = test
    assert kind in {"CMD", "CMD-SHELL"}, kind
    return command if kind == "CMD" else ["sh", "-c", *command]


def _mount(entry: str | dict[str, Any]) -> Mount:
    if isinstance(entry, dict):
        return Mount(
            source=entry["source"],
            target=entry["target"],
            read_only=entry.get("read_only", False),
            copies=not entry.get("volume", {}).get("nocopy", False),
        )
    source, target, *options = entry.split(":")
    return Mount(source=source, target=target, read_only="ro" in options)


def _env_files(files: list[dict[str, Any]], own: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        if file.get("required", True):
            lines = (ROOT / file["path"]).read_text().splitlines()
            pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
            found |= {name: value for name, _, value in pairs}
        else:
            found |= own
    return found
