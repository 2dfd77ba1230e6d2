"""Kafka as production has it, TLS and sign-in: it works, and who is refused learns why."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType

import pytest

from services.opened_log import open_log
from shared.errors import Misconfigured
from shared.log import Log, LogRefused, LogUnavailable, Record
from shared.log.topics import TOPICS
from shared.settings import LogSettings
from tests.certificates import certificate_for
from tests.contract.log.reading import SOON, append, eventually, new_topic, numbered, take, values
from tests.processes import clean_environment
from tests.secure_kafka import SecureKafka, password_of

# The library leaves the socket of a start that is cancelled in its sign-in to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport.__del__:pytest.PytestUnraisableExceptionWarning"
)

Given = Mapping[str, str | Path | None]


def opened(
    kafka: SecureKafka, principal: str = "admin", changes: Given = MappingProxyType({})
) -> AbstractAsyncContextManager[Log]:
    """As a service opens it by its settings."""
    given = {
        "kafka_bootstrap_servers": kafka.bootstrap_servers,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_username": principal,
        "kafka_sasl_password": password_of(principal),
        "kafka_ca_file": kafka.authority,
        "perennial_topic_prefix": "security.",
        **changes,
    }
    return open_log(LogSettings.model_validate(given), None)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A certificate of somebody else."""
    certificate_for("IP:127.0.0.1", tmp_path)
    return tmp_path / "chain.pem"


async def test_it_appends_and_consumes_by_tls_and_scram(secure_kafka: SecureKafka) -> None:
    async with opened(secure_kafka) as log:
        topic = await new_topic(log)
        await append(log, topic, numbered(5))
        async with log.consume([topic], group="secured") as member, log.follow(topic) as follower:
            assert values(await take(member, 5)) == ["0", "1", "2", "3", "4"]
            assert values(await take(follower, 5)) == ["0", "1", "2", "3", "4"]
        assert await log.ping()
        assert await log.check_topics([]) == []


async def test_it_signs_in_without_tls_too(secure_kafka: SecureKafka) -> None:
    async with opened(
        secure_kafka,
        changes={
            "kafka_bootstrap_servers": secure_kafka.plain_servers,
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_ca_file": None,
        },
    ) as log:
        await append(log, await new_topic(log), numbered(1))


Wrong = Callable[[SecureKafka, Path], Given]
WRONG: Mapping[str, tuple[Wrong, str]] = {
    "another authority": (lambda _, other: {"kafka_ca_file": other}, "KAFKA_CA_FILE: "),
    "the system's authorities": (lambda *_: {"kafka_ca_file": None}, "KAFKA_CA_FILE: "),
    "another name": (
        lambda kafka, _: {
            "kafka_bootstrap_servers": kafka.bootstrap_servers.replace("127.0.0.1", "localhost")
        },
        "KAFKA_BOOTSTRAP_SERVERS: the certificate of localhost",
    ),
    "a wrong password": (
        lambda *_: {"kafka_sasl_password": "hunter2-of-nobody"},
        "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: ",
    ),
    "an unknown user": (
        lambda *_: {"kafka_sasl_username": "nobody"},
        "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: ",
    ),
    "a mechanism that is off": (
        lambda *_: {"kafka_sasl_mechanism": "PLAIN"},
        "KAFKA_SASL_MECHANISM, KAFKA_SECURITY_PROTOCOL: ",
    ),
    "no sign-in at the brokers": (
        lambda kafka, _: {
            "kafka_bootstrap_servers": kafka.broker.bootstrap_servers,
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_ca_file": None,
        },
        "KAFKA_SASL_MECHANISM, KAFKA_SECURITY_PROTOCOL: ",
    ),
}


@pytest.mark.parametrize(("wrong", "named"), WRONG.values(), ids=WRONG.keys())
async def test_who_is_refused_learns_which_setting_it_is(
    secure_kafka: SecureKafka, other: Path, wrong: Wrong, named: str, logged: Callable[[], str]
) -> None:
    async with opened(secure_kafka, changes=wrong(secure_kafka, other)) as log:
        with pytest.raises(LogRefused) as refused:
            await log.check_topics(TOPICS)
        assert str(refused.value).startswith(named)

        async def is_named() -> bool:
            try:
                await log.append("usage-events", [Record(key=b"k", value=b"v")], deadline=SOON)
            except LogUnavailable as error:
                return named in str(error)
            return False

        # Whoever asks is told, not only the log's first line.
        await eventually(is_named)
    assert "log.refused" in logged()
    for text in (str(refused.value), repr(refused.value), logged()):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kafka_security_protocol": "PLAINTEXT"}, id="in plain text to TLS"),
        pytest.param({"kafka_security_protocol": "SSL"}, id="without sign-in"),
    ],
)
async def test_what_may_be_a_broker_that_ends_is_away_with_a_hint(
    secure_kafka: SecureKafka, changes: dict[str, str | Path | None]
) -> None:
    changes |= {"kafka_sasl_username": None, "kafka_sasl_password": None}
    if changes["kafka_security_protocol"] == "PLAINTEXT":
        changes["kafka_ca_file"] = None
    async with opened(secure_kafka, changes=changes) as log:
        with pytest.raises(LogUnavailable, match="KAFKA_SECURITY_PROTOCOL") as raised:
            await log.check_topics(TOPICS)
        assert not isinstance(raised.value, LogRefused)


async def test_a_topic_that_may_not_be_seen_is_not_called_missing(
    secure_kafka: SecureKafka,
) -> None:
    async with opened(secure_kafka) as log:
        topic = await new_topic(log)
    async with opened(secure_kafka, "stranger") as log:
        with pytest.raises(LogRefused, match=f"may not describe security.{topic}"):
            await log.append(topic, numbered(1), deadline=SOON)


@pytest.mark.parametrize("prepare", ["true", "false"])
def test_a_service_with_a_wrong_password_ends_and_says_so(
    secure_kafka: SecureKafka, tmp_path: Path, prepare: str
) -> None:
    environment = clean_environment() | {
        **secure_kafka.settings_of("ingest"),
        "PERENNIAL_DATA_DIR": str(tmp_path),
        "PERENNIAL_PREPARE": prepare,
        "ADMIN_PORT": "0",
        "INGEST_PORT": "0",
    }
    password = tmp_path / "password"
    password.write_text("hunter2-of-nobody\n")
    environment["KAFKA_SASL_PASSWORD_FILE"] = str(password)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "services", "up", "--service", "ingest"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert time.monotonic() - started < 30
    assert done.returncode == 2
    assert "KAFKA_SASL_PASSWORD" in done.stderr.splitlines()[-1]
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    certificate_for("DNS:client", tmp_path)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:hunter2", "-out", str(locked)]
    subprocess.run([*command, "-in", str(tmp_path / "key.pem")], check=True, capture_output=True)
    empty = tmp_path / "empty.pem"
    empty.touch()
    return {
        "chain": tmp_path / "chain.pem",
        "key": tmp_path / "key.pem",
        "locked": locked,
        "empty": empty,
        "absent": tmp_path / "absent.pem",
    }


@pytest.mark.parametrize(
    ("authority", "certificate", "key", "named"),
    [
        ("absent", None, None, "KAFKA_CA_FILE: .*No such file"),
        ("empty", None, None, "KAFKA_CA_FILE: .*empty.pem"),
        ("key", None, None, "KAFKA_CA_FILE: .*key.pem"),
        ("chain", "absent", "key", "KAFKA_CERTIFICATE_FILE: .*No such file"),
        ("chain", "chain", "absent", "KAFKA_KEY_FILE: .*No such file"),
        ("chain", "key", "chain", "KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE"),
        ("chain", "chain", "locked", "KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE.*passphrase"),
    ],
)
async def test_files_that_cannot_be_used_are_named(
    files: dict[str, Path], authority: str, certificate: str | None, key: str | None, named: str
) -> None:
    settings = LogSettings.model_validate(
        {
            "kafka_bootstrap_servers": "127.0.0.1:1",
            "kafka_security_protocol": "SSL",
            "kafka_ca_file": files[authority],
            "kafka_certificate_file": None if certificate is None else files[certificate],
            "kafka_key_file": None if key is None else files[key],
        }
    )
    with pytest.raises(Misconfigured, match=named):
        await asyncio.to_thread(asyncio.run, _open(settings))


async def _open(settings: LogSettings) -> None:
    async with open_log(settings, None):
        pass


def test_the_environment_of_these_tests_names_no_kafka() -> None:
    assert not [name for name in os.environ if name.startswith("KAFKA_")]
