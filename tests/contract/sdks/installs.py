"""What is not in the development lock: the Node SDKs, and the second CloudEvents for Python.

Each is brought at first use, by a lock file of its own with hashes, into a folder that git ignores.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
NODE = _HERE / "node"
_CLOUDEVENTS = _HERE / "python" / "cloudevents2.txt"
CLOUDEVENTS2 = _HERE / "python" / ".cloudevents2"
_OLDEST_NODE = 18
_LIMIT_SECONDS = 300.0


def require_node(
    folder: Path = NODE, *, what: str = "the Node SDKs", oldest: int = _OLDEST_NODE
) -> None:
    """Skip loudly where it cannot run; fail where the run must be complete (CI=true)."""
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    lock, modules = folder / "package-lock.json", folder / "node_modules"
    missing = _why_no_node(oldest) or _install(lock, modules, command, folder=folder)
    if missing is not None:
        _go_without(f"{what}: {missing}")


def require_cloudevents2() -> None:
    """As `require_node`."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locked = ["--require-hashes", "--no-deps", "--requirement", str(_CLOUDEVENTS)]
    command = [*pip, *locked, "--target", str(CLOUDEVENTS2)]
    missing = _install(_CLOUDEVENTS, CLOUDEVENTS2, command, folder=_HERE)
    if missing is not None:
        _go_without(f"CloudEvents 2 for Python: {missing}")


def _go_without(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run here: {what}", pytrace=False)
    pytest.skip(f"SKIPPED {what}")


def _why_no_node(oldest: int) -> str | None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return f"no `node` and `npm` on the PATH (Node {oldest} or newer)"
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    if int(version.stdout.lstrip("v").partition(".")[0]) < oldest:
        return f"Node {oldest} or newer is needed, not {version.stdout.strip()}"
    return None


def _install(lock: Path, target: Path, command: list[str], *, folder: Path) -> str | None:
    """Run `command` unless what it installed of this very lock is there; why that failed, or None.

    Several test processes may ask at once: a file lock lets one install, the others wait.
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    mark = target / ".installed"
    with target.with_name(f"{target.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == digest:
            return None
        shutil.rmtree(target, ignore_errors=True)
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=folder, timeout=_LIMIT_SECONDS
        )
        if done.returncode == 0:
            mark.write_text(digest)
            return None
    return f"{' '.join(command[:2])} ended with {done.returncode}: {done.stderr[-1000:]}"
