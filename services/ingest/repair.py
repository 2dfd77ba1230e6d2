"""Text and numbers that JSON writers send although nothing can store them."""

import math
import re
from dataclasses import dataclass

from services.ingest.results import Code
from shared.errors import InvalidMessage

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL (PostgreSQL's text and jsonb refuse it) and halves of surrogate pairs (UTF-8 has none)."""


def is_storable(text: str) -> bool:
    if text.isascii():  # Nearly all is, and this is a tenth of the search.
        return "\0" not in text
    return _UNSTORABLE.search(text) is None


@dataclass(slots=True, kw_only=True)
class Repair:
    """Walks a decoded value: replaces what cannot be stored, and remembers that it did."""

    max_depth: int
    text: bool = False
    number: bool = False

    def value(self, value: object, depth: int) -> object:
        """`value` with `depth` levels around it; raises InvalidMessage where it goes too deep."""
        match value:
            case str():
                return self.string(value)
            case float() if not math.isfinite(value):
                self.number = True
                return None
            case dict():
                return self.object(value, depth)
            case list():
                self._check(depth)
                return [self.value(part, depth + 1) for part in value]
            case _:
                return value

    def object(self, value: dict[str, object], depth: int) -> dict[str, object]:
        self._check(depth)
        return {self.string(key): self.value(part, depth + 1) for key, part in value.items()}

    def string(self, text: str) -> str:
        if _UNSTORABLE.search(text) is None:
            return text
        self.text = True
        return _UNSTORABLE.sub("\ufffd", text)

    def _check(self, depth: int) -> None:
        if depth >= self.max_depth:
            raise InvalidMessage(Code.TOO_DEEP, f"it has more than {self.max_depth} levels")
