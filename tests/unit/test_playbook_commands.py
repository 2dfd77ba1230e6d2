"""What `perennial playbooks` and `perennial team` say without a database."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.__main__ import app
from services.notifier import playbook_files

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "services" / "notifier" / "playbooks"


def run(*arguments: str, **environment: str) -> Result:
    result = CliRunner().invoke(
        app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"} | environment
    )
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def test_the_playbooks_in_force_are_listed_in_the_order_they_are_tried() -> None:
    lines = run("playbooks", "list").stdout.splitlines()
    names = [line.split()[0] for line in lines[1:]]
    assert names == [one.name for one in playbook_files.read(playbook_files.built_in()).ordered]
    assert lines[-1].endswith("everything else")
    told = json.loads(run("playbooks", "list", "--json").stdout)
    assert [one["name"] for one in told] == names


def test_those_of_the_setting_are_in_force(file: Path) -> None:
    file.write_text("playbooks:\n- {name: mine, title: Mine}\n")
    listed = run("playbooks", "list", PERENNIAL_PLAYBOOKS=str(file.parent)).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["PLAYBOOK", "mine"]
    file.write_text("playbooks:\n- {name: mine}\n")
    said = run("playbooks", "list", PERENNIAL_PLAYBOOKS=str(file.parent))
    assert said.exit_code == 2
    assert said.stderr == "perennial: PERENNIAL_PLAYBOOKS: mine.yaml:2: title is missing\n"


def test_a_playbook_is_shown_with_its_tasks_and_steps() -> None:
    shown = run("playbooks", "show", "business_review").stdout
    assert "business_review, version 1: Business review before the renewal." in shown
    assert "For: renewal_due\n" in shown
    assert "(120 days before notice, else day 1)" in shown
    assert "Unacknowledged after 2 working days: manager is told." in shown
    assert run("playbooks", "show", "nothing").exit_code == 1


def test_a_valid_file_is_compared_with_what_is_in_force(file: Path) -> None:
    file.write_text("playbooks:\n- {name: mine, title: Mine, match: {type: land}}\n")
    said = run("playbooks", "check", str(file))
    assert said.exit_code == 0
    assert said.stdout.startswith(f"{file} is valid: 2 playbooks.\n  mine: new\n")
    assert "  expansion: gone\n" in said.stdout


def test_a_change_without_a_new_version_is_pointed_at(tmp_path: Path) -> None:
    for name, content in playbook_files.built_in().items():
        (tmp_path / name).write_bytes(content)
    changed = tmp_path / "60-expansion.yaml"
    changed.write_text(changed.read_text().replace("title: Up-sell", "title: Sell"))
    said = run("playbooks", "check", str(tmp_path)).stdout
    assert "  expansion: changed: tasks, but its version is the same: raise it\n" in said
    assert run("playbooks", "check", str(PACK)).stdout.endswith("They are the ones in force.\n")


@pytest.mark.parametrize(
    ("command", "code"), [(("playbooks", "check"), 1), (("playbooks", "preview"), 2)]
)
def test_a_wrong_file_is_refused_by_line(file: Path, command: tuple[str, ...], code: int) -> None:
    file.write_text("playbooks:\n- {name: mine, title: x, owner: boss}\n- {name: x}\n")
    said = run(*command, str(file))
    assert (said.exit_code, said.stdout) == (code, "")
    assert said.stderr.splitlines() == [
        f"perennial: {file} is refused",
        "mine.yaml:2: unknown owner rule 'boss'; known: owner, deputy, manager, lead, reseller",
        "mine.yaml:3: title is missing",
    ]


def test_a_team_file_is_checked(file: Path) -> None:
    example = ROOT / "deploy" / "team.example.yaml"
    said = run("team", "check", str(example))
    assert said.exit_code == 0
    assert "is valid: 4 people, 2 teams, 3 assignment rules, 2 resellers." in said.stdout
    assert "cs-desk@vendor.example is not among the people" in said.stdout
    file.write_text("fallback: {}\n")
    said = run("team", "check", str(file))
    assert said.exit_code == 1
    assert "mine.yaml:1: owner is missing" in said.stderr


@pytest.mark.parametrize("command", [("playbooks", "check"), ("team", "check")])
def test_a_file_that_is_not_there_is_refused(file: Path, command: tuple[str, ...]) -> None:
    said = run(*command, str(file))
    assert said.exit_code == 2
    assert f"{file} cannot be read: No such file" in said.stderr
