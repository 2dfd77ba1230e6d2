"""A child process that stands for a container: its output kept, stopped by the image's signal."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.processes import at_our_end


class ContainerFailed(Exception):
    """It did not do what it should; the message holds the end of its output."""


class Container:
    """One process; `account`: user and group, where it is not to be ours."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        cwd: Path = Path("/"),
        account: tuple[int, int] | None = None,
        stop_signal: str = "SIGTERM",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / "output.log"
        self._stop_signal = signal.Signals[stop_signal]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=cwd,
                user=account[0] if account else None,
                group=account[1] if account else None,
                extra_groups=[] if account else None,
                start_new_session=True,
            )
        # To the whole group: what the process has started goes with it.
        self._watchdog = at_our_end('kill -TERM "-$1"', self.process.pid)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failed(f"it did not end in {seconds:g} s") from None

    def stop(self, seconds: float) -> tuple[int, float]:
        """As an engine does; returns the exit code and the seconds it took.

        Raises ContainerFailed where it would have been killed.
        """
        started = time.monotonic()
        self.process.send_signal(self._stop_signal)
        code = self.wait(seconds)
        return code, time.monotonic() - started

    def end(self) -> None:
        """In whatever state it is."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self._watchdog.kill()
        self._watchdog.communicate()

    def failed(self, why: str) -> ContainerFailed:
        said = self.output.read_text(errors="replace")[-3000:]
        return ContainerFailed(f"{shlex.join(map(str, self.process.args))}: {why}\n{said}")  # type: ignore[arg-type]
