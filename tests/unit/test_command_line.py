"""What the command line says of itself is true, and what it refuses it refuses before any work."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.importing.mapping import _EVENT_NAMES
from services.scoring.evaluation.protocol import Eligible, Plan
from services.scoring.evaluation.results import Measured, gate
from shared.account_cells import COLUMN_NAMES


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


def help_of(*command: str) -> str:
    """In one line, without the frame."""
    return re.sub(r"[\s│]+", " ", run(*command, "--help").output)


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        (("import", "events"), [*_EVENT_NAMES, "feature"]),
        (("import", "accounts"), list(COLUMN_NAMES)),
    ],
)
def test_the_fields_for_map_are_all_listed(command: tuple[str, ...], fields: list[str]) -> None:
    listed = help_of(*command).partition("Fields: ")[2]
    assert listed.startswith(", ".join(fields))


@pytest.mark.parametrize("command", [("train", "prior"), ("evaluate",)])
def test_the_columns_of_past_events_are_named(command: tuple[str, ...]) -> None:
    said = help_of(*command)
    columns = ("event_ts", "arrival_ts", "account_id", "user_id", "product", "event_type")
    assert [column for column in columns if column not in said] == []


@pytest.mark.parametrize("eligible", ["scored", "any"])
def test_the_gate_is_stated_with_the_limits_it_has(eligible: Eligible) -> None:
    said = help_of("evaluate")
    unknown = {"served": Measured(rows=1, accounts=1, base=None)}
    wanted = Plan(days=(), horizon_days=90, eligible=eligible, first_test=None, apart=False)
    lines = gate({"all": unknown, "users3": unknown}, wanted)
    assert not any(line.passed for line in lines)
    assert [f"{line.limit:g}" for line in lines if f" {line.limit:g}" not in said] == []


@pytest.mark.parametrize("command", [("demo",), ("import", "events"), ("import", "accounts")])
def test_a_flag_has_no_variant_that_says_no(command: tuple[str, ...]) -> None:
    assert "--no-" not in help_of(*command)


def test_each_scope_is_explained() -> None:
    said = help_of("keys", "create")
    for scope in ("events:write:", "accounts:write:", "backfill:", "erase:", "accounts:read:"):
        assert scope in said


@pytest.mark.parametrize("source", ["", "a b", "x" * 101, "caf\u00e9", "a\n"])
def test_a_source_that_cannot_be_a_name_is_refused(source: str) -> None:
    result = run("keys", "create", "--source", source)
    assert result.exit_code == 2
    assert "--source takes 1 to 100 letters" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a b",), "letters, digits"),
        (("app", "--type", "signup"), "theirs=ours"),
        (("app", "--type", "=login"), "type is empty"),
        (("app", "--type", f"signup={'x' * 101}"), "at most 100"),
    ],
)
def test_a_source_is_described_in_words_that_events_can_have(
    arguments: tuple[str, ...], says: str
) -> None:
    said = run("sources", "set", *arguments)
    assert said.exit_code == 2
    assert says in said.output


@pytest.mark.parametrize("command", [("erase", "list"), ("report", "--month", "2026-05")])
def test_what_is_set_wrong_is_named_once_wherever_it_is_read(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    wrong = {"DATABASE_URL": "postgresql://a/b", "DATABASE_URL_FILE": str(tmp_path / "url")}
    rules = {"PERENNIAL_RULES_FILE": str(tmp_path / "gone.toml")}
    found = CliRunner().invoke(app, command, env=wrong | rules)
    assert found.exit_code == 2
    assert "should not have happened" not in found.stderr
    assert found.stderr.count("perennial: ") == 1
