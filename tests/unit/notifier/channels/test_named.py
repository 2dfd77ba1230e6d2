"""Secrets by name, never repeated in an error."""

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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"crm": hunter2}', id="no JSON"),
        pytest.param('{"crm": {"secret": "hunter2"}}', id="another shape"),
        pytest.param('["hunter2"]', id="a list"),
        pytest.param('{"crm": "hunter2\udc80"}', id="half a character"),
    ],
)
def test_what_is_wrong_is_named_and_not_told(text: str) -> None:
    with pytest.raises(Misconfigured, match=VARIABLE) as caught:
        values(text)
    assert "hunter2" not in str(caught.value)
