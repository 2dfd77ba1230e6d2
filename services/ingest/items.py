"""One item of a request as it came, before anybody looked inside."""

from dataclasses import dataclass
from typing import TypeAlias

import msgspec


@dataclass(frozen=True, slots=True)
class Parsed:
    """An item of a body that only the standard library could read."""

    value: object
    size: int


Item: TypeAlias = msgspec.Raw | bytes | Parsed
