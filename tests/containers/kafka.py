"""What the image `apache/kafka` does with its variables, done with the jars that the tests have.

The image turns them into server.properties by a class of Kafka's own (`KafkaDockerWrapper`), which
is in those jars: it is what runs here.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.brokers import fetch_jars
from tests.containers.processes import Container, ContainerFailed

_QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_SECONDS = 60
# Logging of the image's default: the wrapper copies it beside what it makes.
_LOG4J = """Configuration:
  Loggers:
    Root:
      level: WARN
"""


class KafkaContainer:
    """A broker as its variables say, which name addresses and folders of this run."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, dict(environment)
        self._defaults, self._mounted = folder / "defaults", folder / "mounted"
        # Empty at each start, as the tmpfs over the image's own is.
        self.configuration = folder / "config"

    def start(self) -> Container:
        for path in (self._defaults, self._mounted, self.configuration):
            path.mkdir(parents=True, exist_ok=True)
        for name in ("log4j2.yaml", "tools-log4j2.yaml"):
            (self._defaults / name).write_text(_LOG4J)
        for left in self.configuration.iterdir():
            left.unlink()
        environment = {"PATH": os.environ["PATH"], **self._environment}
        done = subprocess.run(
            [
                *self._java("-Xmx64m"), "kafka.docker.KafkaDockerWrapper", "setup",
                "--default-configs-dir", str(self._defaults),
                "--mounted-configs-dir", str(self._mounted),
                "--final-configs-dir", str(self.configuration),
            ],
            check=False, capture_output=True, text=True, env=environment, timeout=_SECONDS,
        )  # fmt: skip
        # The image's script goes on where the storage is formatted already.
        said = done.stdout + done.stderr
        if done.returncode != 0 and "already formatted" not in said:
            raise ContainerFailed(f"KafkaDockerWrapper: {said[-3000:]}")
        heap = shlex.split(self._environment.get("KAFKA_HEAP_OPTS", ""))
        return Container(
            self._folder,
            [*self._java(*heap), "kafka.Kafka", str(self.configuration / "server.properties")],
            environment,
        )

    def _java(self, *heap: str) -> list[str]:
        lean = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", _QUIET)
        return ["java", *heap, *lean, "-cp", f"{fetch_jars()}/*"]
