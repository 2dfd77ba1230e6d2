"""The pages tell the truth where a machine can check it: settings, and links into the code."""

import importlib
import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
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


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_links_within_the_readme_name_a_heading() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
