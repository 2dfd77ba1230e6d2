"""What `perennial flags` refuses it refuses in one line, before any work."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.scoring import rules_file
from services.scoring.domain.rules import read_default
from services.scoring.settings import ScoringSettings
from shared.errors import Misconfigured
from shared.settings import read


def run(*arguments: str, **environment: str) -> Result:
    result = CliRunner().invoke(
        app, ("flags", *arguments), env={"COLUMNS": "200", "NO_COLOR": "1"} | environment
    )
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def test_a_valid_file_is_told_apart_from_ours_entry_by_entry(file: Path) -> None:
    file.write_text(
        "[gone_silent]\nsilent_days = 21\n[segments.large.gone_silent]\nsilent_days = 14\n"
    )
    said = run("check", "--rules", str(file))
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        f"{file} is valid.",
        "  gone_silent.silent_days: 28 -> 21",
        "  segments.large.gone_silent.silent_days: 21 -> 14",
    ]
    told = run("check", "--rules", str(file), "--json").stdout
    assert '{"path": "gone_silent.silent_days", "shipped": 28, "file": 21}' in told


def test_a_file_that_says_nothing_changes_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert run("check", "--rules", str(file)).stdout.endswith("It changes nothing.\n")
    assert rules_file.read(file) == read_default()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[gone_silent]\nsilent_dayz = 21\n", "gone_silent.silent_dayz: unknown"),
        ("[gone_silent]\nsilent_days = -1\n", "gone_silent.silent_days: "),
        ("[gone_silent", "the file is not TOML"),
    ],
)
@pytest.mark.parametrize(("command", "code"), [("check", 1), ("preview", 2)])
def test_a_wrong_file_is_refused_by_path_and_reason(
    file: Path, content: str, says: str, command: str, code: int
) -> None:
    file.write_text(content)
    said = run(command, "--rules", str(file))
    assert (said.exit_code, said.stdout) == (code, "")
    assert said.stderr.startswith(f"perennial: {file}: ")
    assert says in said.stderr
    assert "Traceback" not in said.output


@pytest.mark.parametrize("command", ["check", "preview"])
def test_a_file_that_is_not_there_is_refused(file: Path, command: str) -> None:
    said = run(command, "--rules", str(file))
    assert said.exit_code == 2
    assert f"{file} cannot be read: No such file" in said.stderr


@pytest.mark.parametrize("options", [(), ("--all", "--reason", "gone_silent")])
def test_a_release_names_what_it_means(options: tuple[str, ...]) -> None:
    said = run("release", *options)
    assert said.exit_code == 2
    assert "either --all or --reason" in said.stderr


def test_a_release_of_an_unknown_kind_is_refused() -> None:
    assert run("release", "--reason", "boredom").exit_code == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("[gone_silent]\nsilent_days = 0\n", "gone_silent.silent_days: "),
    ],
)
def test_scoring_does_not_start_on_a_wrong_rules_file(
    file: Path, content: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PERENNIAL_RULES_FILE", str(file))
    with pytest.raises(Misconfigured) as refused:
        read(ScoringSettings)
    assert str(refused.value).startswith(f"PERENNIAL_RULES_FILE: {file}")
    assert says in str(refused.value)


def test_the_rules_in_force_are_those_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(ScoringSettings).rules == read_default()
    file.write_text("[gone_silent]\nsilent_days = 21\n")
    monkeypatch.setenv("PERENNIAL_RULES_FILE", str(file))
    assert read(ScoringSettings).rules.gone_silent.silent_days == 21
