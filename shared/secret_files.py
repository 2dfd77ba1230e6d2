"""Secrets as files: each setting X that is a secret may be given as X_FILE instead.

A file is not inherited by child processes and not shown by `docker inspect` or `/proc`. It is read
once, at start: who changes it restarts the process.
"""

import os
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from shared.errors import Misconfigured

SUFFIX = "_FILE"
_MOST_BYTES = 1_048_576


class SecretFiles(PydanticBaseSettingsSource):
    """Reads the files that the environment names; raises Misconfigured naming each wrong one."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        if not is_secret(field):
            return None, field_name, False
        return secret_from(field_name.upper(), os.environ), field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        problems: list[str] = []
        for name, field in self.settings_cls.model_fields.items():
            try:
                value, _, _ = self.get_field_value(field, name)
            except Misconfigured as problem:
                problems.append(str(problem))
            else:
                if value is not None:
                    found[name] = value
        if problems:
            raise Misconfigured("; ".join(problems))
        return found


def is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def is_given(variable: str, environment: Mapping[str, str]) -> bool:
    return bool(environment.get(variable) or environment.get(variable + SUFFIX))


def secret_from(variable: str, environment: Mapping[str, str]) -> str | None:
    """What the file that `<variable>_FILE` names holds, without the newline at its end."""
    path = environment.get(variable + SUFFIX)
    if not path:
        return None
    if environment.get(variable):
        raise Misconfigured(
            f"{variable} and {variable}{SUFFIX} are two ways to say one thing: set one of them"
        )
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - it may be a pipe, too
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise Misconfigured(f"{variable}{SUFFIX}: the file cannot be read: {why}") from None
    if len(content) > _MOST_BYTES:
        raise Misconfigured(f"{variable}{SUFFIX}: the file is larger than any secret")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Without `from None` the bytes would be in the traceback.
        raise Misconfigured(f"{variable}{SUFFIX}: the file is no UTF-8 text") from None
    if not text.strip():
        raise Misconfigured(f"{variable}{SUFFIX}: the file is empty")
    return text
