"""Perennial's own processes as children of the tests: started, killed, frozen, looked at.

They run what an operator runs (`perennial up`), with the environment alone to tell them apart.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import httpx

_START_SECONDS = 60.0
_STOP_SECONDS = 50.0


class ProcessFailed(Exception):
    """A process did not start or stop; the message holds the end of its output."""


def free_port() -> int:
    """A free loopback port that no other caller, of this or another test process, is given.

    Below the range the kernel gives to outgoing connections: a client that calls a dead server's
    port over and over would else one day be given that very port as its own end, connect to
    itself, and keep the server from coming back.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            # TCP's is for the server, now and after each of its deaths; UDP's says until the end
            # of this process that it is taken.
            with socket.socket(type=socket.SOCK_DGRAM) as mark:
                mark.bind(("127.0.0.1", port))
                mark.detach()
            return port


def at_our_end(command: str, argument: object) -> subprocess.Popen[bytes]:
    """A shell that runs `command`, its $1 the argument, when this process is gone, however it ends.

    Ctrl-C kills the processes of a parallel run, and nothing is torn down. The shell's standard
    input is a pipe from us: it closes when we die. (PR_SET_PDEATHSIG would do it when the starting
    *thread* ends, and tests start processes from threads.) Kill it where there is nothing to end.
    """
    return subprocess.Popen(
        ["sh", "-c", f"read -r _; {command}", "watchdog", str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


class PerennialProcess:
    """One `perennial up`; started again, it keeps its ports and its environment."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        """`environment` overrides; what the tests' own environment says of Perennial is dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / "output.log"
        self._arguments = arguments
        self.ports = {
            name: int(environment.get(name) or free_port())
            for name in ("INGEST_PORT", "SCORING_PORT", "NOTIFIER_PORT", "ADMIN_PORT")
        }
        self._environment = {
            **clean_environment(os.environ),
            "PERENNIAL_DATA_DIR": str(folder / "data"),
            "PERENNIAL_TESTING": "1",
            **{name: str(port) for name, port in self.ports.items()},
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def environment(self) -> dict[str, str]:
        return dict(self._environment)

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[f'{service.upper()}_PORT']}"

    def start(self, *, wait: bool = True, **environment: str) -> None:
        """`environment` overrides until it ends."""
        if self._process is not None:
            raise ProcessFailed("it runs already")
        with self._output.open("ab") as output:
            self._process = self._spawn(output, {**self._environment, **environment})
        # Asked, not killed: it may have a PostgreSQL to stop. Where it is frozen, it goes on first.
        self._watchdog = at_our_end('kill -TERM "$1"; kill -CONT "$1"', self._process.pid)
        if wait:
            self.wait_until_ready()

    def _spawn(self, output: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "services", "up", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        process = self._running()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._forget()
                raise ProcessFailed(f"it ended at its start:\n{self.output()[-3000:]}")
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url('admin')}/readyz", timeout=1).status_code == 200:
                    return
            time.sleep(0.05)
        self.kill9()
        raise ProcessFailed(f"not ready in {_START_SECONDS} s:\n{self.output()[-3000:]}")

    def terminate(self) -> int:
        """Ask it to stop; returns its exit code."""
        process = self._running()
        process.terminate()
        try:
            code = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise ProcessFailed(f"it did not stop:\n{self.output()[-3000:]}") from None
        self._forget()
        return code

    def kill9(self) -> None:
        process = self._running()
        process.kill()
        process.wait(10)
        self._forget()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def is_frozen(self) -> bool:
        """Whether it has been stopped (SIGSTOP), by us or by a failpoint of its own."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def stop(self) -> None:
        """End it if it runs, in whatever state."""
        if self._process is not None:
            self.kill9()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_well(self) -> bool:
        """Whether it has not ended, except by SIGKILL."""
        return self._process is None or self._process.poll() in (None, -signal.SIGKILL)

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def metric(self, name: str, labels: str = "") -> float:
        """The sum of a metric over its series that hold `labels` (`result="counted"`).

        0 where the process does not answer.
        """
        with suppress(httpx.HTTPError):
            text = httpx.get(f"{self.url('admin')}/metrics", timeout=2).text
            series = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
            return sum(float(value) for found, value in series if labels in found)
        return 0.0

    def run(self, *arguments: str) -> str:
        """Another command of the program in the same environment; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "services", *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=120,
        )
        if done.returncode != 0:
            raise ProcessFailed(
                f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
            )
        return done.stdout

    def _forget(self) -> None:
        self._process = None
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessFailed("it does not run")
        return self._process


def clean_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    ours = re.compile(r"(PERENNIAL|KAFKA|DATABASE|SLACK|SMTP|INGEST|SCORING|NOTIFIER|ADMIN)_")
    return {name: value for name, value in environment.items() if not ours.match(name)}
