"""Where the service's time goes under load: functions by py-spy, machine code by perf.

py-spy takes samples by the clock, so on a machine that others use as well a function that was
pushed aside looks slow; perf counts the processor's time alone, but knows no Python function.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

_SAMPLES_PER_SECOND = 499
_TOP = 45
_IDLE = "_worker  concurrent/futures/thread.py"
"""A thread that waits for work; the profiler takes it for busy."""


def profiler_missing() -> str | None:
    if _py_spy() or shutil.which("perf"):
        return None
    return "no profiler: `pip install py-spy`, or Debian's linux-perf"


def profile(folder: Path, pid: int, *, seconds: float, load: Callable[[], object]) -> str:
    """What takes the most time while `load` runs (once for each profiler), as text."""
    whole = str(max(1, round(seconds)))
    found: list[str] = []
    if tool := _py_spy():
        stacks = folder / "stacks"
        options = ["--format", "raw", "--rate", str(_SAMPLES_PER_SECOND), "--duration", whole]
        command = [tool, "record", "--pid", str(pid), *options, "--output", str(stacks)]
        _beside(command, load)
        found.append(_by_function(stacks.read_text()))
    if shutil.which("perf"):
        data = str(folder / "perf.data")
        options = ["-q", "-e", "cpu-clock", "-F", str(_SAMPLES_PER_SECOND), "-p", str(pid)]
        _beside(["perf", "record", *options, "-o", data, "--", "sleep", whole], load)
        found += [_perf_report(data, "dso", lines=8), _perf_report(data, "symbol,dso", lines=_TOP)]
    return "\n\n".join(found)


def _perf_report(data: str, order: str, *, lines: int) -> str:
    done = subprocess.run(
        ["perf", "report", "-i", data, "--stdio", "--no-children", "--sort", order],
        check=True,
        capture_output=True,
        text=True,
    )
    report = [line for line in done.stdout.splitlines() if line.strip() and line[0] != "#"]
    return "\n".join(report[:lines])


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("py-spy")


def _beside(command: list[str], load: Callable[[], object]) -> None:
    profiler = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    load()
    _, errors = profiler.communicate(timeout=60)
    if profiler.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {errors.decode(errors='replace')[-2000:]}")


def _by_function(stacks: str) -> str:
    """Of collapsed stacks (`a;b;c 17`): own time by package, and by function, in percent."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0].replace(" (", "  ") for frame in stack.split(";")]
        if frames[-1].endswith(_IDLE):
            continue
        own[frames[-1]] += int(count)
        packages[_package(frames[-1])] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = own.total()
    lines = [f"{count / total:6.1%}  {name}" for name, count in packages.most_common(12)]
    lines += ["", f"{'own':>6} {'all':>6}  function"]
    lines += [
        f"{count / total:6.1%} {whole[frame] / total:6.1%}  {frame}"
        for frame, count in own.most_common(_TOP)
    ]
    return "\n".join(lines)


def _package(frame: str) -> str:
    path = frame.rpartition("  ")[2].split("/")
    return "/".join(path[:2]) if path[0] in {"services", "shared"} else path[0]
