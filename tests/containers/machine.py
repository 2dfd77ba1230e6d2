"""How this machine reaches Debian's mirror and the package index, lent to a chroot at run time.

A build in an engine gets it from the engine's configuration; none of it is in the repository.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NEEDED: Final = ("debootstrap", "unshare", "chroot")
_SOURCES: Final = Path("/etc/apt")
_LENT: Final = "run/machine"
"""The folder in the chroot that holds what is lent."""
_UNSAFE: Final = "etc/dpkg/dpkg.cfg.d/99machine"
_BUNDLES: Final = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_PASSED: Final = re.compile(r"(?i)(https?|no)_proxy|PIP_(?!FIND_LINKS|CERT|CACHE).*")


def missing() -> str | None:
    """Why no clean Debian can be made here, or None."""
    absent = [name for name in _NEEDED if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)} on the PATH"
    if os.geteuid() != 0:
        return "a chroot needs root"
    alone = ["unshare", "--mount", "true"]
    if subprocess.run(alone, check=False, capture_output=True).returncode != 0:
        return "no mount namespace of one's own (unshare --mount)"
    if not _stanzas():
        return "no sources of Debian in /etc/apt"
    return None


def mirror() -> str:
    """Of Debian itself, as apt here is told."""
    return next(address for address, suite in _stanzas() if "security" not in suite)


def lend(root: Path, *, suite: str) -> dict[str, str]:
    """Tell apt and pip in the chroot what they are told here; returns what goes by variables."""
    lent = root / _LENT
    lent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"deb {address} {name} main"
        for address, name in dict.fromkeys(_stanzas())
        if name.startswith(suite)
    ]
    # Files of a stage may be those of the stage before it: replaced, never written into.
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")
    for left in (root / "etc/apt/sources.list.d").glob("*"):
        left.unlink()
    config = _said("apt-config", "dump", "Acquire")
    (root / "etc/apt/apt.conf.d/99machine").write_text(config)
    # As Debian's own images have it: what is thrown away need not survive a power cut.
    (root / _UNSAFE).write_text("force-unsafe-io\n")
    for name in ("resolv.conf", "hosts"):
        (root / "etc" / name).unlink(missing_ok=True)
        shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    environment = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
    environment |= _pip_configuration()
    bundle = next((os.environ[name] for name in _BUNDLES if name in os.environ), None)
    bundle = environment.pop("PIP_CERT", bundle)
    if bundle and Path(bundle).is_file():
        shutil.copyfile(bundle, lent / "ca.crt")
        environment["PIP_CERT"] = f"/{_LENT}/ca.crt"
    return environment


def take_back(root: Path) -> None:
    """What was lent is not part of what was built."""
    shutil.rmtree(root / _LENT, ignore_errors=True)
    lent = ("etc/apt/apt.conf.d/99machine", "etc/apt/sources.list", "etc/resolv.conf", _UNSAFE)
    for name in lent:
        (root / name).unlink(missing_ok=True)


@contextmanager
def lent_to(root: Path, *, suite: str) -> Iterator[dict[str, str]]:
    try:
        yield lend(root, suite=suite)
    finally:
        take_back(root)


def _stanzas() -> list[tuple[str, str]]:
    """(address, suite) of Debian's own archives, from both forms of apt's sources."""
    found: list[tuple[str, str]] = []
    for path in (_SOURCES / "sources.list", *(_SOURCES / "sources.list.d").glob("*.list")):
        text = path.read_text() if path.exists() else ""
        found += re.findall(r"^deb (?:\[[^]]*\] )?(\S+/debian\S*) (\S+) .*main", text, re.MULTILINE)
    for path in (_SOURCES / "sources.list.d").glob("*.sources"):
        for stanza in path.read_text().split("\n\n"):
            said = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", stanza, re.MULTILINE))
            if "main" in said.get("Components", "") and "/debian" in said.get("URIs", ""):
                found += [
                    (address, suite)
                    for address in said["URIs"].split()
                    for suite in said["Suites"].split()
                ]
    return found


def _pip_configuration() -> dict[str, str]:
    """What pip's files say, as its variables."""
    found = re.findall(r"^(?:global|install)\.([a-z-]+)='(.*)'$", _said("pip", "config", "list"),
                       re.MULTILINE)  # fmt: skip
    return {
        f"PIP_{name.upper().replace('-', '_')}": value
        for name, value in found
        if name not in ("find-links", "cache-dir")
    }


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
