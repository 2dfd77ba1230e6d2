"""Each image's lock file holds what its service imports as it starts."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTED = ("services/__main__.py", "services/process.py", "services/probe.py")
OPTIONAL = {"shared/otlp.py"}
"""Imported only where the extra `traces` is installed."""


def locked(service: str) -> set[str]:
    text = (ROOT / f"requirements-{service}.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))


@cache
def distributions() -> dict[str, set[str]]:
    """Of each package that can be imported, who brings it, as lock files write names."""
    return {
        package: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
        for package, names in packages_distributions().items()
    }


def imported(path: Path) -> Iterator[str]:
    """The packages that a module imports as it is imported itself."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.Import(names=names):
                yield from (one.name.partition(".")[0] for one in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]


def modules(service: str) -> Iterator[Path]:
    for folder in (f"services/{service}", "shared"):
        yield from (ROOT / folder).rglob("*.py")
    yield from (ROOT / name for name in STARTED)


@pytest.mark.parametrize("service", ["ingest", "scoring", "notifier"])
def test_the_lock_of_an_image_has_what_its_service_imports(service: str) -> None:
    known = locked(service)
    missing = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in modules(service)
        if str(path.relative_to(ROOT)) not in OPTIONAL
        for package in imported(path)
        if package in distributions() and not distributions()[package] & known
    }
    assert missing == set()


def test_an_image_without_what_a_service_imports_would_be_noticed() -> None:
    foreign = {package for path in modules("notifier") for package in imported(path)}
    assert {"jinja2", "sqlalchemy", "uvicorn"} <= foreign & set(distributions())
    assert "jinja2" not in locked("ingest")


@pytest.mark.parametrize("service", ["ingest", "scoring", "notifier"])
def test_the_image_for_commands_has_all_that_the_services_have(service: str) -> None:
    assert locked(service) <= locked("tools")
