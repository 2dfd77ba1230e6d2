"""The file that remembers how far an unfinished import came; gone when the import has ended."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.importing.errors import Unusable


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Rows up to `done` are settled, with these counts."""

    file: str
    done: int
    accepted: int
    rejected: int
    warnings: dict[str, int]
    rejects_path: str | None = None
    rejects_bytes: int = 0
    """Size of the file of rejects when this was written: what lies beyond is written again."""


class Journal:
    """One import: the same content to the same server in the same reading and under the same key.

    Another key may be another source, for which these are other events: it begins anew.
    """

    def __init__(self, folder: Path, *, identity: Mapping[str, str]) -> None:
        name = hashlib.sha256(msgspec.json.encode(sorted(identity.items()))).hexdigest()[:32]
        self._path = folder / f"{name}.json"

    def load(self) -> Entry | None:
        """None where there is none; one that cannot be read only costs time."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Entry)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def save(self, entry: Entry) -> None:
        unfinished = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(msgspec.json.encode(entry))
            unfinished.replace(self._path)
        except OSError as error:
            raise Unusable(
                f"cannot keep the import's progress in {self._path.parent}: {error.strerror}"
            ) from error

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
