"""The rows that were rejected, as a CSV file that can be corrected and imported by itself.

Importing the whole corrected file of events instead would count its good rows twice: its content
is new, so its rows get new ids.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from services.importing.errors import Unusable
from services.importing.mapping import OWN_PREFIX
from services.importing.rows import RowError

_COLUMNS = tuple(f"{OWN_PREFIX}{name}" for name in ("row", "line", "field", "code", "message"))


class Rejects:
    """An open file of rejects: the original columns and five of our own, which say why."""

    def __init__(
        self, path: Path, *, header: Sequence[str], delimiter: str, keep_bytes: int = 0
    ) -> None:
        self.path = path
        self._width = len(header)
        try:
            # surrogateescape gives back the bytes that were no UTF-8 as they came.
            self._file: IO[str] = path.open(
                "r+" if keep_bytes else "w",
                encoding="utf-8",
                errors="surrogateescape",
                newline="",
            )
            self._file.seek(keep_bytes)
            self._file.truncate()
        except OSError as error:
            raise Unusable(f"cannot write {path}: {error.strerror}") from error
        self._writer = csv.writer(self._file, delimiter=delimiter, lineterminator="\n")
        self._kept = [
            index for index, column in enumerate(header) if not column.startswith(OWN_PREFIX)
        ]
        if not keep_bytes:
            self._writer.writerow([*(header[index] for index in self._kept), *_COLUMNS])

    def write(self, errors: Iterable[RowError]) -> None:
        for error in errors:
            cells = error.cells or [""] * self._width
            why = (error.number, error.line, error.field, error.code, error.message)
            self._writer.writerow([*(cells[index] for index in self._kept), *why])

    def size(self) -> int:
        """The file's size in bytes, after everything so far is with the system."""
        self._file.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        self._file.close()
