"""A CSV file as rows: streamed, and one broken row never costs another.

Delimiter `,` `;` or tab, as the header has it; UTF-8, with or without BOM; quotes as in RFC 4180.
"""

import csv
from collections import Counter, deque
from collections.abc import Iterator
from typing import IO, NamedTuple

from shared.errors import PerennialError

_MAX_LINE = 1 << 20  # ingest takes 64 KiB an item; without a limit, a binary file is one line
_DELIMITERS = (",", ";", "\t")
_SHOWN_COLUMNS = 5
_SHOWN_LENGTH = 50


class UnusableHeader(PerennialError):
    """The first line does not name the columns as it must."""


class CsvRow(NamedTuple):
    """One row; `number` counts rows from 1 without the header, `line` lines from 1.

    Where a row takes several lines, `line` is its first. Bytes that are no UTF-8 are lone
    surrogates in `cells` (surrogateescape). Where the row could not be taken apart, `cells` is
    empty and `broken` says why.
    """

    number: int
    line: int
    cells: list[str]
    broken: str | None = None


class CsvTable:
    """An open CSV file: its header, then its rows."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Reads the header; raises UnusableHeader."""
        self._lines = _Lines(stream)
        first = self._lines.peek()
        self.delimiter = _delimiter(first)
        # strict: a quote in the wrong place is an error instead of a guess.
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise UnusableHeader(f"the header cannot be read: {error}") from error
        self.header_text = self._lines.taken
        self.header = [column.strip() for column in header]
        if any("\udc80" <= sign <= "\udcff" for column in header for sign in column):
            raise UnusableHeader("the header is not UTF-8")
        if not any(self.header):
            raise UnusableHeader("the first line must name the columns")
        named = Counter(column for column in self.header if column)
        if twice := sorted(column for column, count in named.items() if count > 1):
            shown = ", ".join(column[:_SHOWN_LENGTH] for column in twice[:_SHOWN_COLUMNS])
            raise UnusableHeader(f"the header names {shown} more than once")

    @property
    def row_text(self) -> str:
        """The lines of the row that `rows` gave last, as they stand in the file."""
        return self._lines.taken

    def rows(self) -> Iterator[CsvRow]:
        """Every row but blank lines, in the file's order."""
        lines, reader, width = self._lines, self._reader, len(self.header)
        number = 0
        while True:
            line = lines.begin()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                # A stray quote has swallowed the lines that follow: only its own line is lost.
                lines.retry_after_first()
                number += 1
                yield CsvRow(number, line, [], f"a quote or a line break is misplaced ({error})")
                continue
            if cells is None:
                return
            if not cells:
                continue
            number += 1
            if lines.overlong:
                yield CsvRow(number, line, [], f"the row is longer than {_MAX_LINE} bytes")
            elif len(cells) != width:
                yield CsvRow(
                    number, line, [], f"the row has {len(cells)} columns, the header {width}"
                )
            else:
                yield CsvRow(number, line, cells)


class _Lines:
    """Physical lines for the CSV reader, which can be read again after a broken one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._again: deque[tuple[str, bool]] = deque()
        self._taken: list[tuple[str, bool]] = []
        self._next_line = 1
        self.overlong = False

    def begin(self) -> int:
        """Forget the lines of the row before; returns the number of the line that comes."""
        self._next_line += len(self._taken)
        self._taken.clear()
        self.overlong = False
        return self._next_line

    @property
    def taken(self) -> str:
        return "".join(text for text, _ in self._taken)

    def retry_after_first(self) -> None:
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]

    def peek(self) -> str:
        """The first line with something on it, which will be read again; empty at the end."""
        while (line := self._read()) is not None:
            text = line[0].removeprefix("\ufeff")
            if text.strip():
                self._again.append((text, line[1]))
                return text
            self._next_line += 1
        return ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if line is None:
            raise StopIteration
        self._taken.append(line)
        if line[1]:
            self.overlong = True
        return line[0]

    def _read(self) -> tuple[str, bool] | None:
        raw = self._stream.readline(_MAX_LINE)
        if not raw:
            return None
        overlong = len(raw) == _MAX_LINE and not raw.endswith(b"\n")
        if overlong:
            while (rest := self._stream.readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                pass
            raw = raw[:80]
        return raw.decode("utf-8", "surrogateescape"), overlong


def _delimiter(header: str) -> str:
    unquoted = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=unquoted.count)
