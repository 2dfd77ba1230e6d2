"""PERENNIAL_PRODUCTION refuses what is fit for a try only, all of it at once and by name."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from services import production
from services.process import Service, read_settings
from shared.errors import Misconfigured
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, read
from tests.processes import clean_environment

_KEY = "kJ8-2mXq_v7RtYw0pLz4NbGdSc5HfAeU"
SOUND = {
    "PERENNIAL_PRODUCTION": "true",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9093,kafka-2:9093",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "ingest",
    "KAFKA_SASL_PASSWORD": _KEY,
    "DATABASE_URL": f"postgresql://perennial:{_KEY}@db/perennial?sslmode=verify-full",
    "PERENNIAL_USER_HASH_KEY": _KEY,
    "PERENNIAL_NOTIFIER_SECRET": _KEY,
    "PERENNIAL_SCORING_KEY": _KEY,
    "PERENNIAL_CONSOLE_SIGN_IN": "local",
}


def violations(monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str]) -> str:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    services = frozenset(Service)
    try:
        production.check(
            read(ProcessSettings),
            read(LogSettings),
            read(DatabaseSettings),
            needs_database=True,
            services=read_settings(services),
            environment=given,
        )
    except Misconfigured as error:
        return str(error)
    return ""


def test_a_sound_deployment_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert violations(monkeypatch, SOUND) == ""


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            dict.fromkeys((name for name in SOUND if name.startswith("KAFKA_")), ""),
            "KAFKA_BOOTSTRAP_SERVERS",
        ),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"PERENNIAL_USER_HASH_KEY": ""}, "PERENNIAL_USER_HASH_KEY"),
        ({"PERENNIAL_USER_HASH_KEY": "a" * 32}, "PERENNIAL_USER_HASH_KEY can be guessed"),
        ({"PERENNIAL_NOTIFIER_SECRET": ""}, "PERENNIAL_NOTIFIER_SECRET"),
        ({"PERENNIAL_SCORING_KEY": ""}, "PERENNIAL_SCORING_KEY"),
        ({"KAFKA_SASL_PASSWORD": "ingest"}, "KAFKA_SASL_PASSWORD can be guessed"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
        ({"DATABASE_URL": "postgresql://p:x9@db/p"}, "DATABASE_URL has no sslmode"),
        ({"DATABASE_URL": "postgresql://p:x9@db/p?sslmode=require"}, "DATABASE_URL has no sslmode"),
        ({"DATABASE_URL": "postgresql://p:x9@localhost,db/p"}, "DATABASE_URL has no sslmode"),
        ({"DATABASE_URL": "postgresql:///p?host=db"}, "DATABASE_URL has no sslmode"),
        ({"DATABASE_URL": "postgresql://p@/p", "PGHOST": "db"}, "DATABASE_URL has no sslmode"),
        (
            {"DATABASE_URL": "postgresql://perennial:perennial@db/p?sslmode=verify-full"},
            "the password in DATABASE_URL can be guessed",
        ),
        ({"PERENNIAL_CONSOLE_SIGN_IN": "open"}, "PERENNIAL_CONSOLE_SIGN_IN is open"),
        ({"PERENNIAL_CONSOLE_SIGN_IN": "auto"}, "PERENNIAL_CONSOLE_SIGN_IN is auto"),
        ({"INGEST_DOCS": "true"}, "INGEST_DOCS"),
        ({"SMTP_URL": "smtp://mail?starttls=never"}, "SMTP_URL"),
        ({"PERENNIAL_TESTING": "1"}, "PERENNIAL_TESTING"),
        ({"PERENNIAL_FAILPOINT": "scoring.after_commit:kill9:nth=3"}, "PERENNIAL_FAILPOINT"),
        ({"PERENNIAL_SWITCHED_OFF": "dedupe"}, "PERENNIAL_SWITCHED_OFF"),
    ],
)
def test_what_is_fit_for_a_try_only_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], named: str
) -> None:
    said = violations(monkeypatch, {**SOUND, **given})
    assert named in said
    # That alone, and not the secret.
    assert said.count("; ") == 0
    assert _KEY not in said


@pytest.mark.parametrize(
    "given",
    [
        {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092"},
        {"DATABASE_URL": "postgresql://p:x9@127.0.0.1:5432/p"},
        {"DATABASE_URL": "postgresql://p:x9@[::1]:5432/p"},
        {"DATABASE_URL": "postgresql:///p?host=/run/postgresql"},
        {"SMTP_URL": "smtp://localhost?starttls=never"},
    ],
)
def test_on_this_machine_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    assert violations(monkeypatch, {**SOUND, **given}) == ""


def test_a_private_network_may_be_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "DATABASE_URL": "postgresql://p:x9@db/p",
        "SMTP_URL": "smtp://mail?starttls=never",
    }
    assert violations(monkeypatch, {**SOUND, **plain}).count("PERENNIAL_ALLOW_PLAINTEXT") == 3
    allowed = {**SOUND, **plain, "PERENNIAL_ALLOW_PLAINTEXT": "true"}
    assert violations(monkeypatch, allowed) == ""


def test_the_process_names_all_that_is_wrong_and_ends_with_2(tmp_path: Path) -> None:
    environment = clean_environment() | {
        "PERENNIAL_PRODUCTION": "true",
        "PERENNIAL_TESTING": "1",
        "INGEST_DOCS": "true",
        "PERENNIAL_DATA_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "services", "up"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 2
    wrong = (
        "KAFKA_BOOTSTRAP_SERVERS",
        "DATABASE_URL",
        "PERENNIAL_TESTING",
        "PERENNIAL_USER_HASH_KEY",
        "PERENNIAL_NOTIFIER_SECRET",
        "PERENNIAL_SCORING_KEY",
        "INGEST_DOCS",
        "PERENNIAL_CONSOLE_SIGN_IN",
    )
    assert [name for name in wrong if name not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was started, no secret made
