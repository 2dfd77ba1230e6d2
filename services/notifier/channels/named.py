"""Secrets by name in one variable: a JSON object.

The team file names webhooks and apprise targets; what must stay secret stands here.
"""

from collections.abc import Mapping

import msgspec
from pydantic import SecretStr

from shared.errors import Misconfigured


def read(variable: str, value: SecretStr | None) -> Mapping[str, tuple[SecretStr, ...]]:
    """Name -> its secrets, the first one current; raises Misconfigured without telling any."""
    if value is None:
        return {}
    try:
        found = msgspec.json.decode(value.get_secret_value(), type=dict[str, str | list[str]])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # The library's message could repeat a part of it.
        raise Misconfigured(
            f'{variable} must be {{"name": "secret"}} or {{"name": ["new", "old"]}}'
        ) from None
    return {
        name: tuple(map(SecretStr, [secrets] if isinstance(secrets, str) else secrets))
        for name, secrets in found.items()
    }
