"""The limit: what Kafka's own ProducerPerformance does with the same records, without any HTTP."""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.brokers import fetch_jars

_TOOLS = "org.apache.kafka:kafka-tools"
_TOOL = "org.apache.kafka.tools.ProducerPerformance"


class LimitFailed(Exception):
    """ProducerPerformance could not be fetched or run; the message holds the end of its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    records_per_second: float
    records_per_cpu_second: float
    """Its start (the JVM, the first connection) not counted, as the service's is not."""
    cpu_seconds: float
    start_cpu_seconds: float


def measure_limit(
    folder: Path, payloads: Sequence[bytes], *, bootstrap_servers: str, topic: str, records: int
) -> Limit:
    """acks=all and zstd as the service; the payloads are records that the service wrote."""
    file = folder / "payloads"
    file.write_bytes(b"\n".join(payloads))
    command = [
        *("java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{_fetch_tools()}/*:{fetch_jars()}/*"),
        *(_TOOL, "--bootstrap-server", bootstrap_servers, "--topic", topic),
        *("--throughput", "-1", "--payload-file", str(file), "--num-records"),
    ]
    properties = ["acks=all", "compression.type=zstd", "batch.size=262144", "linger.ms=5"]
    ending = ["--command-property", *properties]
    start_cpu, _, _ = _run([*command, "1", *ending])
    cpu, seconds, output = _run([*command, str(records), *ending])
    rate = re.findall(r"([\d.]+) records/sec", output)
    return Limit(
        records_per_second=float(rate[-1]) if rate else records / seconds,
        records_per_cpu_second=records / (cpu - start_cpu),
        cpu_seconds=cpu,
        start_cpu_seconds=start_cpu,
    )


def kafka_version() -> str:
    jar = next(fetch_jars().glob("kafka-clients-*.jar"))
    return jar.stem.removeprefix("kafka-clients-")


def _fetch_tools() -> Path:
    """The one jar that a broker does not need, beside its own."""
    folder = fetch_jars().parent / "tools"
    version = kafka_version()
    if not (folder / f"kafka-tools-{version}.jar").exists():
        _run(
            [
                *("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_TOOLS}:{version}"),
                f"-DoutputDirectory={folder}",
            ]
        )
    return folder


def _run(command: Sequence[str]) -> tuple[float, float, str]:
    """CPU-seconds, seconds, output."""
    before, started = os.times(), time.monotonic()
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    seconds, after = time.monotonic() - started, os.times()
    if done.returncode != 0:
        raise LimitFailed(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, seconds, done.stdout
