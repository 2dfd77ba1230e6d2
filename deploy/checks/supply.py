"""What our images are made of: bills of materials, and known vulnerabilities of what is locked.

`sbom` writes a bill (CycloneDX) of each lock file, valid by CycloneDX's own schema.

`audit` asks pip-audit. Where that reaches no advisories, it skips every package and says "No known
vulnerabilities found". So it must first find those of a version that has them, and the number of
packages that it audited must be the number that is locked.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]

LOCKS: Final = {
    "ingest": "requirements-ingest.txt",
    "scoring": "requirements-scoring.txt",
    "notifier": "requirements-notifier.txt",
    "notifier-apprise": "requirements-notifier-apprise.txt",
    "tools": "requirements-tools.txt",
}
"""Image -> what it installs."""

FINE, FOUND, NOT_AUDITED = 0, 1, 3

_SPECIFICATION: Final = "1.6"
_KNOWN_TO_BE_VULNERABLE: Final = "jinja2==2.4.1"


class Wrong(Exception):
    """A bill is not what its lock file says, or not valid."""


def locked(lock: Path) -> dict[str, str]:
    """Name -> version of what a lock file holds."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    pins = [line.split()[0].split("==") for line in lines if "==" in line and line[0].isalnum()]
    return {name.partition("[")[0]: version for name, version in pins}


def bill(tools: Path, service: str, lock: Path, folder: Path) -> Path:
    """The bill of one image; raises Wrong where it names other packages than the lock file."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    path = folder / f"perennial-{service}.cdx.json"
    with TemporaryDirectory() as own:
        # cyclonedx-py does not know a license that is a word, as our pyproject.toml has it.
        project = Path(own) / "pyproject.toml"
        project.write_text(f'[project]\nname = "perennial-{service}"\nversion = "{version}"\n')
        _run(
            [
                *(tools / "python", "-W", "ignore", tools / "cyclonedx-py", "requirements", lock),
                *("--pyproject", project, "--output-reproducible"),
                *("--sv", _SPECIFICATION, "--of", "JSON", "-o", path),
            ]
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    for component in content["components"]:
        # The line of the lock file, once more: its hashes have a place of their own.
        component.pop("description", None)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    named = {component["name"]: component["version"] for component in content["components"]}
    if named != locked(lock):
        raise Wrong(f"{path.name} and {lock.name} do not name the same packages")
    return path


def validate(tools: Path, paths: Sequence[Path]) -> None:
    (schema,) = tools.parent.glob(
        f"lib/python*/site-packages/cyclonedx/schema/_res/bom-{_SPECIFICATION}.*schema.json"
    )
    _run(
        [
            *(tools / "check-jsonschema", "--schemafile", schema),
            *("--base-uri", schema.as_uri()),
            *paths,
        ]
    )


def has_advisories(pip_audit: Path) -> bool:
    """Whether pip-audit reaches a source that knows what is known."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text(_KNOWN_TO_BE_VULNERABLE + "\n")
        answer = _ask(pip_audit, path, "--no-deps")
    return any(one.get("vulns") for one in answer)


def audit(pip_audit: Path, lock: Path) -> tuple[int, list[str]]:
    """How many packages were really looked at, and what was found."""
    answer = _ask(pip_audit, lock, "--require-hashes", "--strict")
    audited = [one for one in answer if "vulns" in one]
    return len(audited), [
        f"{one['name']} {one['version']}: {found['id']}, fixed in"
        f" {', '.join(found.get('fix_versions') or ['no version'])}"
        for one in audited
        for found in one["vulns"]
    ]


def _ask(pip_audit: Path, requirements: Path, *options: str) -> list[dict[str, Any]]:
    """Its `dependencies`; empty where it gave up."""
    done = subprocess.run(
        [
            *(pip_audit, "--requirement", requirements),
            *("--disable-pip", "--format", "json", "--progress-spinner", "off"),
            *options,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return found


def make_bills(tools: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        paths = [bill(tools, image, ROOT / lock, folder) for image, lock in LOCKS.items()]
        validate(tools, paths)
    except Wrong as problem:
        sys.stderr.write(f"{problem}\n")
        return FOUND
    for path, lock in zip(paths, LOCKS.values(), strict=True):
        sys.stdout.write(f"{path.name}: {len(locked(ROOT / lock))} packages\n")
    return FINE


def audit_all(tools: Path, *, where_possible: bool) -> int:
    pip_audit = tools / "pip-audit"
    if not has_advisories(pip_audit):
        sys.stderr.write(
            "NOT AUDITED: no source of advisories is reached from here. Nothing is known about the"
            f" vulnerabilities of {len(LOCKS)} lock files; run `make audit` where there is one.\n"
        )
        return FINE if where_possible else NOT_AUDITED
    problems = 0
    for name in LOCKS.values():
        lock = ROOT / name
        expected = len(locked(lock))
        count, findings = audit(pip_audit, lock)
        if count != expected:
            findings.append(f"{expected - count} packages were not audited")
        problems += len(findings)
        sys.stdout.write(f"{name}: {count} of {expected} packages audited\n")
        sys.stdout.writelines(f"  {line}\n" for line in findings)
    return FOUND if problems else FINE


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"{Path(command[0]).name}: {done.stdout}{done.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, default=ROOT / ".venv-checks" / "bin")
    commands = parser.add_subparsers(dest="command", required=True)
    sbom = commands.add_parser("sbom")
    sbom.add_argument("--folder", type=Path, default=ROOT / "build" / "sbom")
    commands.add_parser("audit").add_argument(
        "--where-possible", action="store_true", help="exit 0 where no advisories are reached"
    )
    options = parser.parse_args()
    tools = options.tools.absolute()
    if options.command == "sbom":
        return make_bills(tools, options.folder)
    return audit_all(tools, where_possible=options.where_possible)


if __name__ == "__main__":
    sys.exit(main())
