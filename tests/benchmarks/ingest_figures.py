"""What a process has used, as Linux counts it."""

import os
import re
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Of all its threads, in user and kernel mode, since it was started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family_seconds(pid: int) -> float:
    """The same of a process and its children, those that have ended included."""
    path = Path(f"/proc/{pid}")
    children = (path / f"task/{pid}/children").read_text().split()
    fields = (path / "stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[13]) + int(fields[14])) / _TICKS
    for process in (pid, *map(int, children)):
        with suppress(FileNotFoundError):
            seconds += cpu_seconds(process)
    return seconds


def rss_mib(pid: int) -> float:
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """The most memory it ever held."""
    return _status_mib(pid, "VmHWM")


def _status_mib(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
