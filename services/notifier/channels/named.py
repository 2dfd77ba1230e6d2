"""Secrets by name in one variable: a JSON object, or the path of a file that holds one.

The team file names webhooks and apprise targets; what must stay secret stands here.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from pydantic import SecretStr

from shared.errors import Misconfigured

_MOST_BYTES = 1_048_576


def read(variable: str, value: SecretStr | None) -> Mapping[str, tuple[SecretStr, ...]]:
    """Name -> its secrets, the first one current; raises Misconfigured without telling any.

    Reads a file where the value is none itself: call it at start, off the loop.
    """
    if value is None:
        return {}
    text = value.get_secret_value().strip()
    try:
        raw = text.encode() if text.startswith("{") else _file(Path(text))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{variable}: the file cannot be read") from error
    try:
        found = msgspec.json.decode(raw, type=dict[str, str | list[str]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The library's message could repeat a part of it.
        raise Misconfigured(
            f'{variable} must be {{"name": "secret"}} or {{"name": ["new", "old"]}}, or a file'
        ) from None
    return {
        name: tuple(map(SecretStr, [secrets] if isinstance(secrets, str) else secrets))
        for name, secrets in found.items()
    }


def _file(path: Path) -> bytes:
    with path.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("larger than any list of secrets")
    return content
