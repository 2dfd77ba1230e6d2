"""Real Kafka brokers (KRaft) as child processes of the tests: started, killed, frozen, restarted.

The jars come from Maven once (`deploy/kafka/pom.xml`). Everything listens on loopback only, keeps
its data in a folder of its own, and dies with the process that started it. The methods block for
seconds: inside a running event loop call them through `asyncio.to_thread`.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.processes import at_our_end, free_port

_KAFKA = Path(__file__).resolve().parent.parent / "deploy" / "kafka"
_TARGET = _KAFKA / "target"
_JARS = _TARGET / "dependency"
_CLUSTER_ID = "MPuTZYJjRuyq-r0ZN7rYDg"
_START_SECONDS = 40.0
_STOP_SECONDS = 15.0
_LEAN = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xss256k",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


class BrokerError(Exception):
    """A broker did not start or stop; the message holds the end of its output."""


def kafka_missing() -> str | None:
    """Why Kafka cannot run here, or None. Fetches nothing."""
    if shutil.which("java") is None:
        return "no `java` on the PATH (Kafka needs Java 17 or newer)"
    if not _jars_are_complete() and shutil.which("mvn") is None:
        return "no `mvn` on the PATH to fetch Kafka's jars (deploy/kafka/README.md)"
    return None


def fetch_jars() -> Path:
    """The folder with Kafka's jars; Maven brings them if they are not there yet.

    Several test processes may ask at once: a file lock lets one fetch, the others wait.
    """
    _TARGET.mkdir(exist_ok=True)
    with (_TARGET / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _jars_are_complete():
            # A folder left from another version would put two Kafkas on one class path.
            shutil.rmtree(_JARS, ignore_errors=True)
            _run(["mvn", "-q", "-B", "-f", str(_KAFKA / "pom.xml"), "dependency:copy-dependencies"])
            _complete_mark().write_text(_pom_digest())
    return _JARS


class KafkaBroker:
    """One broker (also its own controller, unless `voters` names several) in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        heap: str = "128m",
        node_id: int = 1,
        ports: tuple[int, int] | None = None,
        voters: str | None = None,
        settings: Sequence[str] = (),
        formatting: Sequence[str] = (),
    ) -> None:
        """`settings` override lines of its properties, `formatting` are options of the storage."""
        self._folder = folder
        self._formatting = formatting
        self._heap = heap
        self._port, self._controller_port = ports or (free_port(), free_port())
        self._properties = folder / "server.properties"
        self._output = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._jars = fetch_jars()
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            (_KAFKA / "server.properties").read_text(),
            f"node.id={node_id}",
            f"log.dirs={folder / 'data'}",
            f"listeners=CLIENT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller_port}",
            f"advertised.listeners=CLIENT://127.0.0.1:{self._port}",
            f"controller.quorum.voters={voters or f'{node_id}@127.0.0.1:{self._controller_port}'}",
            *settings,
        ]
        self._properties.write_text("\n".join(lines) + "\n")

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start, or start again on the same data and port; returns when the port is open."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start without waiting: the nodes of a cluster need each other to become ready."""
        if self._process is not None:
            raise BrokerError("the broker runs already")
        if not (self._folder / "data").exists():
            format_storage = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c"]
            _run([*self._java("64m"), *format_storage, str(self._properties), *self._formatting])
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._java(self._heap), "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # It cannot hit a stranger: the pid is not given away until we reap the broker.
        self._watchdog = at_our_end('kill -9 "$1"', self._process.pid)

    def wait_until_ready(self) -> None:
        """Return when clients can connect: Kafka opens its port when it is ready to serve."""
        process = self._running()
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._forget()
                raise BrokerError(f"Kafka ended at its start:\n{self._last_words()}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=0.5).close()
                return
            time.sleep(0.05)
        self.kill9()
        raise BrokerError(f"Kafka was not ready in {_START_SECONDS} s:\n{self._last_words()}")

    def kill9(self) -> None:
        """End it as a power cut would; `start` brings it back."""
        process = self._running()
        process.kill()
        process.wait(_STOP_SECONDS)
        self._forget()

    def terminate(self) -> None:
        """Ask it to shut down and wait until it has."""
        process = self._running()
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise BrokerError(f"Kafka did not shut down:\n{self._last_words()}") from None
        self._forget()

    def freeze(self) -> None:
        """Stop its clock: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it if it runs, without ceremony: its data is thrown away."""
        if self._process is not None:
            self.kill9()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _java(self, heap: str) -> list[str]:
        return ["java", f"-Xmx{heap}", *_LEAN, "-cp", f"{self._jars}/*"]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BrokerError("the broker does not run")
        return self._process

    def _forget(self) -> None:
        self._process = None
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None

    def _last_words(self) -> str:
        return self._output.read_text(errors="replace")[-2000:]


def kafka_cluster(folder: Path, *, nodes: int = 3) -> list[KafkaBroker]:
    """A started cluster of brokers with topics on up to three of them; the caller stops each."""
    ports = {node: (free_port(), free_port()) for node in range(1, nodes + 1)}
    voters = ",".join(f"{node}@127.0.0.1:{ports[node][1]}" for node in ports)
    brokers = [
        KafkaBroker(
            folder / f"node-{node}",
            node_id=node,
            ports=ports[node],
            voters=voters,
            settings=(f"offsets.topic.replication.factor={min(3, nodes)}",),
        )
        for node in ports
    ]
    try:
        for broker in brokers:
            broker.launch()
        for broker in brokers:
            broker.wait_until_ready()
    except BaseException:
        for broker in brokers:
            broker.stop()
        raise
    return brokers


def _pom_digest() -> str:
    return hashlib.sha256((_KAFKA / "pom.xml").read_bytes()).hexdigest()


def _complete_mark() -> Path:
    return _TARGET / "complete"


def _jars_are_complete() -> bool:
    return _complete_mark().exists() and _complete_mark().read_text() == _pom_digest()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise BrokerError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
