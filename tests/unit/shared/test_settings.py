"""Settings: what is missing or wrong is named, what is secret is never shown."""

import traceback

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


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        read(LogSettings).kafka_session_timeout_ms = 1  # type: ignore[misc]
