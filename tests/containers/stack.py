"""docker-compose.yml run without an engine: its commands, environment, order and health checks.

Each service has a loopback address of its own, where a container would have one of its network, and
so keeps its ports. In what the file says, the name of a service becomes its address, a path that is
mounted the folder of its volume; nothing else is changed. Ours run from the sources; Kafka and
PostgreSQL as their images start them. What has no image here is left out: `LEFT_OUT`.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.containers import compose, dockerfile
from tests.containers.compose import Service
from tests.containers.kafka import KafkaContainer
from tests.containers.postgres import PostgresContainer, tools
from tests.containers.processes import Container, ContainerFailed

LEFT_OUT: Final = {"prometheus", "alertmanager", "grafana"}
ELSEWHERE: Final = {"mail"}
"""The test answers for it, at its address."""

_STATE: Final = "/var/lib/perennial"
_HERE: Final = re.compile(r"\b(0\.0\.0\.0|127\.0\.0\.1|localhost)\b")
_COMMAND_SECONDS: Final = 90
_END_SECONDS: Final = 120


class Stack:
    """The services of the file; `own`: what a user's perennial.env would set."""

    def __init__(self, folder: Path, *, own: Mapping[str, str]) -> None:
        self.services = compose.services(own=dict(own))
        self._folder = folder
        net = f"127.{random.randrange(20, 250)}.{random.randrange(256)}"
        self.addresses = {name: f"{net}.{10 + n}" for n, name in enumerate(self.services)}
        self.started: list[str] = []
        """In the order in which they were: those that have ended too."""
        self._running: dict[str, Container] = {}
        self._outputs: dict[str, Path] = {}
        self._databases: dict[str, PostgresContainer] = {}
        self._healthy: set[str] = set(ELSEWHERE)
        self._completed: set[str] = set()
        file = dockerfile.read()
        self._images = {
            service.build: dockerfile.settings_of(file, SERVICE=service.build)
            for service in self.services.values()
            if service.build
        }

    def up(self) -> None:
        """As `docker compose up --wait`: in the order of `depends_on`, until all are well."""
        for service in self.services.values():
            if not service.profiles and service.name not in LEFT_OUT | ELSEWHERE:
                self._bring(service)
                if not service.is_one_shot:
                    self._wait_healthy(service)

    def run(self, name: str, *arguments: str) -> str:
        """As `docker compose run --rm`: what its command, or `arguments`, says."""
        service = self.services[name]
        said = arguments or service.command
        done = subprocess.run(
            self._command(service, said) if service.is_ours else self._words(service, said),
            check=False,
            capture_output=True,
            text=True,
            env=self._environment(service),
            cwd=dockerfile.ROOT,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise ContainerFailed(f"{name} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def execute(self, name: str, *arguments: str) -> str:
        """As `docker compose exec`; in a database alone."""
        service = self.services[name]
        done = self._databases[name].execute(self._words(service, arguments))
        if done.returncode != 0:
            raise ContainerFailed(f"{name} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop(self, name: str) -> tuple[int, float]:
        """Its exit code, and the seconds it took; fails beyond its `stop_grace_period`."""
        self._healthy.discard(name)
        container = self._running.pop(name)
        try:
            return container.stop(self.services[name].grace_seconds)
        finally:
            container.end()

    def start(self, name: str) -> None:
        """Again, until it is healthy."""
        self._begin(self.services[name])
        self._wait_healthy(self.services[name])

    def down(self) -> dict[str, tuple[int, float]]:
        """In the reverse of the order they were started in."""
        return {name: self.stop(name) for name in list(reversed(self._running))}

    def end(self) -> None:
        for container in self._running.values():
            container.end()

    def why_unhealthy(self, name: str) -> str | None:
        """What the health check of a running service says, unless all is well."""
        service = self.services[name]
        if name == "kafka":
            return self._why_no_kafka(service)
        test = service.health
        if service.is_ours:
            assert service.build is not None
            image = self._images[service.build]
            test = image.health
        assert test is not None, f"{name} has no health check"
        done = subprocess.run(
            [self._program(test[0]), *(self._translated(service, one) for one in test[1:])],
            check=False,
            capture_output=True,
            text=True,
            env=self._environment(service),
            cwd=dockerfile.ROOT,
            timeout=30,
        )
        return None if done.returncode == 0 else done.stdout + done.stderr or "unhealthy"

    def words(self, name: str) -> list[str]:
        """The service's command, for this run."""
        return self._words(self.services[name], self.services[name].command)

    def url(self, name: str) -> str:
        """Of its first port as it is published, without the way from 127.0.0.1 to the container."""
        return f"http://{self.addresses[name]}:{self.services[name].ports[0].rpartition(':')[2]}"

    def output(self, name: str) -> str:
        return self._outputs[name].read_text(errors="replace")

    def volume(self, name: str) -> Path:
        path = self._folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _bring(self, service: Service) -> None:
        if service.name in self.started or service.name in LEFT_OUT | ELSEWHERE:
            return
        for name, condition in service.depends_on.items():
            other = self.services[name]
            self._bring(other)
            match condition:
                case "service_completed_successfully":
                    self._wait_completed(other)
                case "service_healthy":
                    self._wait_healthy(other)
                case _:
                    assert condition == "service_started"
        self._begin(service)

    def _begin(self, service: Service) -> None:
        name, folder = service.name, self._folder / service.name
        self.started.append(name)
        if service.is_ours:
            self._running[name] = Container(
                folder,
                self._command(service, service.command),
                self._environment(service),
                cwd=dockerfile.ROOT,
                stop_signal=self._images[service.build].stop_signal if service.build else "SIGTERM",
            )
        elif name == "kafka":
            kafka = KafkaContainer(folder, environment=self._environment(service, image={}))
            self._running[name] = kafka.start()
        elif name == "postgres":
            scripts = [
                dockerfile.ROOT / mount.source
                for mount in service.mounts
                if mount.target.startswith("/docker-entrypoint-initdb.d/")
            ]
            database = self._databases.setdefault(
                name,
                PostgresContainer(
                    self.volume("postgres"),
                    environment=self._environment(service, image={}),
                    scripts=scripts,
                    command=service.command,
                    address=self.addresses[name],
                ),
            )
            self._running[name] = database.start()
        else:
            raise AssertionError(f"nothing stands for {name}")
        self._outputs[name] = self._running[name].output

    def _wait_healthy(self, service: Service) -> None:
        if service.name in self._healthy:
            return
        container = self._running[service.name]
        deadline = time.monotonic() + service.health_seconds
        while (why := self.why_unhealthy(service.name)) is not None:
            if not container.is_running():
                raise container.failed(f"{service.name} ended at its start")
            if time.monotonic() > deadline:
                raise container.failed(f"{service.name} did not become healthy: {why}")
            time.sleep(0.2)
        self._healthy.add(service.name)

    def _wait_completed(self, service: Service) -> None:
        if service.name in self._completed:
            return
        container = self._running.pop(service.name)
        try:
            if container.wait(_END_SECONDS) != 0:
                raise container.failed("it failed")
        finally:
            container.end()
        self._completed.add(service.name)

    def _why_no_kafka(self, service: Service) -> str | None:
        """The script asks a broker which requests it knows; so does any client as it connects."""
        assert service.health is not None
        script = service.health[-1]
        assert "/opt/kafka/bin/kafka-broker-api-versions.sh --bootstrap-server " in script
        asked = self._translated(service, script.partition("--bootstrap-server ")[2].split()[0])
        program = (
            "import asyncio, sys\n"
            "from aiokafka.admin import AIOKafkaAdminClient\n"
            "async def ask():\n"
            "    client = AIOKafkaAdminClient(bootstrap_servers=sys.argv[1])\n"
            "    await client.start()\n"
            "    await client.close()\n"
            "asyncio.run(ask())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, asked], check=False, capture_output=True, text=True
        )
        return None if done.returncode == 0 else done.stderr

    def _command(self, service: Service, arguments: Sequence[str]) -> list[str]:
        assert service.build is not None
        entry = self._images[service.build].entrypoint
        assert entry == ["perennial"], "the entry point is the console script of pyproject.toml"
        return [sys.executable, "-m", "services", *self._words(service, arguments)]

    def _words(self, service: Service, arguments: Sequence[str]) -> list[str]:
        return [self._translated(service, one) for one in arguments]

    def _environment(
        self, service: Service, *, image: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        if image is None:
            image = self._images[service.build].environment if service.build else {}
        said = {**image, **service.files, **service.environment}
        # Where programs are is this machine's affair.
        place = {"PATH": f"{tools()}:{os.environ['PATH']}", "PYTHONPATH": str(dockerfile.ROOT)}
        hosts = {
            name: self.addresses[value]
            for name, value in said.items()
            if name.endswith("HOST") and value in self.addresses
        }
        words = {name: self._translated(service, value) for name, value in said.items()}
        return {**words, **hosts, **place}

    def _translated(self, service: Service, text: str) -> str:
        mounts = {mount.target: mount for mount in service.mounts}
        for target in sorted([*mounts, _STATE], key=len, reverse=True):
            if target in text:
                return text.replace(target, str(self._host_path(service, mounts.get(target))))
        if text != service.files.get("PERENNIAL_CONSOLE_URL"):  # that is how people reach it
            text = _HERE.sub(self.addresses[service.name], text)
        for name, address in self.addresses.items():
            text = re.sub(rf"(?<![\w.-]){name}(?=:\d)", address, text)
        return text

    def _host_path(self, service: Service, mount: compose.Mount | None) -> Path:
        if mount is None:  # what is in the image itself, and read-only
            return self._folder / service.name / "image"
        if mount.is_path:
            return dockerfile.ROOT / mount.source
        return self.volume(mount.source)

    @staticmethod
    def _program(name: str) -> str:
        if name == "python":
            return sys.executable
        return shutil.which(name, path=f"{tools()}:{os.environ['PATH']}") or name
