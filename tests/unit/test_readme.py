"""The pages tell the truth where a machine can check it: settings, links, and what to type."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic.fields import FieldInfo

from services.__main__ import app
from shared.secret_files import is_secret
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "deploy").glob("**/*.md"))),
)  # fmt: skip
MODULES = ("shared", "services.ingest", "services.scoring", "services.notifier")


def fields() -> dict[str, FieldInfo]:
    """Every environment variable that a settings class reads."""
    found: dict[str, FieldInfo] = {}
    for name in MODULES:
        module = importlib.import_module(f"{name}.settings")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Settings):
                for field, info in kind.model_fields.items():
                    found.setdefault(field.upper(), info)
    return found


def rows() -> dict[str, str]:
    """Variable -> default, as the table of the README has them."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([A-Z][A-Z_]+)` \| (.+?) \|", page, re.MULTILINE))


def in_words(default: object) -> str:
    match default:
        case None:
            return "-"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
        case _:
            return f"`{default}`"


def test_every_settings_module_is_looked_at() -> None:
    paths = {path.relative_to(ROOT) for path in ROOT.glob("s*/**/settings.py")}
    assert {Path(*name.split("."), "settings.py") for name in MODULES} == paths


def test_the_readme_names_every_variable_with_its_default_and_no_other() -> None:
    assert rows() == {name: in_words(info.default) for name, info in fields().items()}


def test_the_readme_names_every_secret_that_may_be_a_file() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    rule = re.search(r"^Each of these is a secret.*?\.", page, re.MULTILINE | re.DOTALL)
    assert rule is not None
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", rule[0]))
    assert named == {name for name, info in fields().items() if is_secret(info)}


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    folder = (ROOT / page).parent
    assert [link for link in links if not (folder / link).exists()] == []


def complaints(line: str) -> Iterator[str]:
    """What a line of shell asks of `perennial` that it does not have; `a|b`: one of these."""
    said = re.search(r"(?:(?<!-n )(?<!lib/)\bperennial|tools) (?!-)([a-z].*)", line)
    words = shlex.split(re.split(r" \| |;|\) *\\?$", said[1])[0], comments=True) if said else []
    command: Any = typer.main.get_command(app)
    for before, word in zip(["", *words], words, strict=False):
        of_group = getattr(command, "commands", {})
        if word.startswith("--"):
            able = [command, *of_group.values()]
            known = {option for one in able for param in one.params for option in param.opts}
            if word.partition("=")[0] not in known | {"--help"}:
                yield f"{command.name} has no {word}"
        elif word == "..." or (of_group and before.startswith("--")):
            return
        elif of_group:
            for name in word.split("|"):
                if name not in of_group:
                    yield f"{command.name} has no command {name}"
            if word not in of_group:
                return
            command = of_group[word]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_to_type_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").split("\n") + re.findall(r"`([^`\n]+)`", text)
    wrong = [
        f"{line}: {why}"
        for line in lines
        if re.search(r"(^|/|tools |-- )(perennial|tools) [a-z]", line) and "`" not in line
        for why in complaints(line)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("perennial quarantine lose", "quarantine has no command lose"),
        (".venv/bin/perennial lag --jsn  # x", "lag has no --jsn"),
        ("docker compose run --rm tools keys made", "keys has no command made"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str, why: str) -> None:
    assert list(complaints(line)) == [why]


def test_links_within_the_readme_name_a_heading() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
