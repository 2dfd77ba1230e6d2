"""Settings: what is missing or wrong is named, what is secret is never shown."""

import traceback
from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from shared.errors import Misconfigured
from shared.settings import DatabaseSettings, LogSettings, ProcessSettings, Settings, read

_SECRET = "hunter2-hunter2"


class _Needed(Settings):
    perennial_needed: str
    perennial_count: int = Field(default=1, ge=1)
    perennial_secret: SecretStr = Field(default=SecretStr("x" * 32), min_length=32)


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERENNIAL_NEEDED", raising=False)
    with pytest.raises(Misconfigured, match=r"^PERENNIAL_NEEDED: Field required$"):
        read(_Needed)


def test_every_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERENNIAL_NEEDED", raising=False)
    monkeypatch.setenv("PERENNIAL_COUNT", "none")
    with pytest.raises(Misconfigured) as raised:
        read(_Needed)
    assert [part.split(":")[0] for part in str(raised.value).split("; ")] == [
        "PERENNIAL_NEEDED",
        "PERENNIAL_COUNT",
    ]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("ADMIN_PORT", "70000", ProcessSettings),
        ("ADMIN_PORT", "http", ProcessSettings),
        ("PERENNIAL_LOG_LEVEL", "loud", ProcessSettings),
        ("PERENNIAL_LOG_FORMAT", "xml", ProcessSettings),
        ("PERENNIAL_PREPARE", "perhaps", ProcessSettings),
        ("PERENNIAL_USER_HASH_KEY", "short", ProcessSettings),
        ("PERENNIAL_TOPIC_PREFIX", "a/b", LogSettings),
        ("KAFKA_SESSION_TIMEOUT_MS", "10", LogSettings),
        ("KAFKA_REQUEST_TIMEOUT_MS", "5s", LogSettings),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, kind: type[Settings]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=f"^{name}: "):
        read(kind)


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMIN_PORT", "KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    assert read(ProcessSettings).admin_port == 9100
    assert read(LogSettings).kafka_bootstrap_servers is None
    assert read(DatabaseSettings).database_url is None


def test_a_secret_that_is_refused_is_not_in_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERENNIAL_NEEDED", "x")
    monkeypatch.setenv("PERENNIAL_SECRET", _SECRET)  # too short
    with pytest.raises(Misconfigured) as raised:
        read(_Needed)
    assert isinstance(raised.value.__cause__, ValidationError)
    assert _SECRET not in "".join(traceback.format_exception(raised.value))


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "DATABASE_URL": "postgresql://perennial:hunter2@db/perennial",
        "PERENNIAL_USER_HASH_KEY": "hunter2-" * 8,
        "PERENNIAL_SCORING_KEY": "prn_live_hunter2",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    for settings in (read(DatabaseSettings), read(ProcessSettings)):
        for shown in (repr(settings), str(settings), settings.model_dump_json()):
            assert "hunter2" not in shown
    stored = read(DatabaseSettings).database_url
    assert stored is not None
    assert stored.get_secret_value() == secrets["DATABASE_URL"]


def test_a_secret_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://perennial: hunter2 @db/perennial \r\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(file))
    monkeypatch.setenv("DATABASE_URL", "")
    settings = read(DatabaseSettings)
    assert settings.database_url is not None
    # The end of the line goes, and nothing else.
    assert (
        settings.database_url.get_secret_value() == "postgresql://perennial: hunter2 @db/perennial "
    )
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "cannot be read: No such file", id="no file"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b" \n\n", "is empty", id="blank"),
        pytest.param(b"hunter2-\xff" * 8, "no UTF-8", id="no text"),
        pytest.param(b"hunter2-" * 200_000, "larger than any secret", id="too large"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("PERENNIAL_NEEDED", "x")
    monkeypatch.setenv("PERENNIAL_SECRET_FILE", str(file))
    with pytest.raises(Misconfigured, match=f"^PERENNIAL_SECRET_FILE: .*{said}") as raised:
        read(_Needed)
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


def test_a_secret_that_is_given_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PERENNIAL_USER_HASH_KEY", _SECRET * 4)
    monkeypatch.setenv("PERENNIAL_USER_HASH_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("PERENNIAL_SCORING_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(Misconfigured) as raised:
        read(ProcessSettings)
    first, second = str(raised.value).split("; ")
    assert first.startswith("PERENNIAL_USER_HASH_KEY and PERENNIAL_USER_HASH_KEY_FILE")
    assert second.startswith("PERENNIAL_SCORING_KEY_FILE: ")
    assert _SECRET not in str(raised.value)


def test_a_secret_of_a_file_keeps_the_rules_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(_SECRET)  # too short
    monkeypatch.setenv("PERENNIAL_USER_HASH_KEY_FILE", str(file))
    with pytest.raises(Misconfigured, match=r"^PERENNIAL_USER_HASH_KEY: ") as raised:
        read(ProcessSettings)
    assert _SECRET not in "".join(traceback.format_exception(raised.value))


def test_only_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADMIN_PORT_FILE", str(tmp_path / "absent"))
    assert read(ProcessSettings).admin_port == 9100


_SASL = {"KAFKA_SASL_USERNAME": "scoring", "KAFKA_SASL_PASSWORD": _SECRET}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"KAFKA_SECURITY_PROTOCOL": "TLS"}, ["KAFKA_SECURITY_PROTOCOL: "], id="none"),
        pytest.param(
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            ["KAFKA_SASL_USERNAME is needed", "KAFKA_SASL_PASSWORD is needed"],
            id="nobody signs in",
        ),
        pytest.param(_SASL, ["KAFKA_SASL_USERNAME is of no use"], id="sign-in in plain text"),
        pytest.param(
            {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_CA_FILE": "/ca", **_SASL},
            ["KAFKA_CA_FILE is of no use"],
            id="an authority without TLS",
        ),
        pytest.param(
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_CERTIFICATE_FILE": "/chain"},
            ["KAFKA_CERTIFICATE_FILE and KAFKA_KEY_FILE"],
            id="a certificate without its key",
        ),
        pytest.param(
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_BOOTSTRAP_SERVERS": ""},
            ["KAFKA_BOOTSTRAP_SERVERS is not set"],
            id="the embedded log would be taken",
        ),
    ],
)
def test_half_of_what_kafka_needs_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], named: list[str]
) -> None:
    for name, value in {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9093", **given}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as raised:
        read(LogSettings)
    assert all(name in str(raised.value) for name in named)
    assert _SECRET not in str(raised.value)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read(LogSettings).kafka_session_timeout_ms = 1  # type: ignore[misc]
