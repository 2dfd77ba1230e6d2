"""Secrets by name: from the variable itself or from a file, never repeated in an error."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.notifier.channels import named
from shared.errors import Misconfigured

VARIABLE = "PERENNIAL_WEBHOOK_SECRETS"


def values(text: str | None) -> dict[str, list[str]]:
    found = named.read(VARIABLE, None if text is None else SecretStr(text))
    return {name: [one.get_secret_value() for one in ones] for name, ones in found.items()}


def test_one_secret_or_the_new_and_the_old() -> None:
    assert values('{"crm": "a", "bi": ["new", "old"]}') == {"crm": ["a"], "bi": ["new", "old"]}
    assert values(None) == {}
    assert values("{}") == {}


def test_a_file_may_hold_them(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text('{"crm": "a"}')
    assert values(str(file)) == {"crm": ["a"]}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"crm": hunter2}', id="no JSON"),
        pytest.param('{"crm": {"secret": "hunter2"}}', id="another shape"),
        pytest.param('["hunter2"]', id="a list is taken for a file"),
        pytest.param("hunter2\0", id="no path"),
        pytest.param("/nowhere/hunter2", id="no file"),
    ],
)
def test_what_is_wrong_is_named_and_not_told(text: str) -> None:
    with pytest.raises(Misconfigured, match=VARIABLE) as caught:
        values(text)
    assert "hunter2" not in str(caught.value)


def test_an_endless_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_bytes(b"x" * 2_000_000)
    with pytest.raises(Misconfigured):
        values(str(file))
