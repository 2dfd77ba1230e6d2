"""`perennial secrets init`: what a deployment must keep secret, made once and never shown."""

import json
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.process import CONSOLE_SOURCE
from shared.clock import system_clock
from shared.credentials import KeyRing, Scope, record_of

PASSWORDS = [f"postgres_{role}.password" for role in ("owner", "scoring", "notifier", "backup")]
URLS = [name.replace(".password", ".url") for name in PASSWORDS]
ALL = {
    "user_hash.key", "notifier.key", "scoring.key", *PASSWORDS, *URLS,
    "postgres_superuser.password", "grafana.password",
}  # fmt: skip


def init(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["secrets", "init", str(folder), *options])


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_each_secret_is_a_file_that_its_user_alone_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert init(folder).exit_code == 0
    found = contents(folder)
    assert set(found) == ALL
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(set(found.values())) == len(ALL)
    # 36 random bytes are 48 letters of base64.
    for name in ("user_hash.key", "notifier.key", *PASSWORDS, "grafana.password"):
        assert len(found[name]) == 48, name


def test_a_url_holds_the_role_and_the_password_of_its_file(tmp_path: Path) -> None:
    init(tmp_path, "--postgres", "db.example:6543", "--database", "churn")
    url = make_url((tmp_path / "postgres_scoring.url").read_text())
    assert (url.username, url.host, url.port, url.database) == (
        "perennial_scoring", "db.example", 6543, "churn",
    )  # fmt: skip
    assert url.password == (tmp_path / "postgres_scoring.password").read_text()


def test_the_consoles_key_reads_accounts_and_nothing_else(tmp_path: Path) -> None:
    init(tmp_path)
    secret = (tmp_path / "scoring.key").read_text()
    now, ring = system_clock(), KeyRing()
    ring.put(record_of(secret, source=CONSOLE_SOURCE, scopes=[Scope.ACCOUNTS_READ], now=now))  # type: ignore[arg-type]
    found = ring.check(secret, now=now)
    assert not isinstance(found, str)
    assert found.scopes == ("accounts:read",)


def test_a_second_time_makes_only_what_is_missing(tmp_path: Path) -> None:
    assert set(json.loads(init(tmp_path, "--json").output)["made"]) == ALL
    before = contents(tmp_path)
    assert json.loads(init(tmp_path, "--json").output)["made"] == []
    assert contents(tmp_path) == before
    (tmp_path / "postgres_owner.url").unlink()
    assert json.loads(init(tmp_path, "--json").output)["made"] == ["postgres_owner.url"]
    assert contents(tmp_path) == before


def test_no_secret_is_ever_printed(tmp_path: Path) -> None:
    said = "".join(init(tmp_path, *options).output for options in ((), (), ("--json",)))
    assert [name for name, secret in contents(tmp_path).items() if secret in said] == []


@pytest.mark.parametrize("address", ["postgres", ":5432", "postgres:", "postgres:first"])
def test_an_address_without_host_or_port_is_refused_before_anything_is_made(
    tmp_path: Path, address: str
) -> None:
    refused = init(tmp_path / "secrets", "--postgres", address)
    assert refused.exit_code == 2
    assert "--postgres is host:port" in refused.output
    assert not (tmp_path / "secrets").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = init(tmp_path / "file" / "secrets")
    assert refused.exit_code == 1
    assert str(tmp_path / "file") in refused.output
    assert "Traceback" not in refused.output


def test_the_version_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "NO_COLOR": "1"})
    said = CliRunner().invoke(app, ["--version"])
    assert said.exit_code == 0
    assert said.output.startswith("perennial 0.")
