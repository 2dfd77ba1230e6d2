"""A CSV file as records: streamed, plain or gzipped, one broken row never costs another.

Delimiter `,` `;` or tab, as the header has it; UTF-8, with or without BOM; quotes as in RFC 4180.
"""

import csv
import gzip
import hashlib
import io
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from services.importing.errors import Unusable

_CHUNK = 1 << 20
_MAX_LINE = 1 << 20  # ingest takes 64 KiB an item; without a limit, a binary file is one line
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a first pass over the whole file tells."""

    fingerprint: str
    """SHA-256 of the decompressed content, in hex."""
    lines: int


class Record(NamedTuple):
    """One row; `number` counts rows from 1 without the header, `line` lines from 1.

    Bytes that are no UTF-8 are lone surrogates in `cells` (surrogateescape). Where the row could
    not be taken apart, `cells` is empty and `broken` says why.
    """

    number: int
    line: int
    cells: list[str]
    broken: str | None = None


def survey(path: Path) -> Survey:
    """Read the file once to its end; raises Unusable: a cut file is found before a row is sent."""
    digest, lines, last = hashlib.sha256(), 0, b""
    with open_content(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk
    if not last:
        raise Unusable(f"{path} is empty: its first line must name the columns")
    return Survey(fingerprint=digest.hexdigest(), lines=lines + (0 if last.endswith(b"\n") else 1))


@contextmanager
def open_content(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed if it is gzip, whatever its name; raises Unusable."""
    try:
        with path.open("rb") as plain:
            start = plain.read(2)
            plain.seek(0)
            if start in {b"\xff\xfe", b"\xfe\xff"}:
                raise Unusable(f"{path} is UTF-16: save it as UTF-8")
            if start != b"\x1f\x8b":
                yield plain
                return
            with gzip.GzipFile(fileobj=plain) as unpacked:
                yield io.BufferedReader(unpacked, _CHUNK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unusable(f"{path} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise Unusable(f"cannot read {path}: {error.strerror or error}") from error


class CsvFile:
    """An open CSV file: its header, then its records."""

    def __init__(self, stream: IO[bytes], *, name: str) -> None:
        self._lines = _Lines(stream)
        first = self._lines.peek()
        self.delimiter = _delimiter(first)
        # strict: a quote in the wrong place is an error instead of a guess.
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        try:
            header = next(self._reader, [])
        except csv.Error as error:
            raise Unusable(f"{name}: the header cannot be read: {error}") from error
        self.header = [column.strip() for column in header]
        if any("\udc80" <= sign <= "\udcff" for column in header for sign in column):
            raise Unusable(f"{name}: the header is not UTF-8")
        if not any(self.header):
            raise Unusable(f"{name}: the first line must name the columns")
        named = [column for column in self.header if column]
        if twice := sorted({column for column in named if named.count(column) > 1}):
            raise Unusable(f"{name}: the header names {', '.join(twice)} more than once")

    def records(self) -> Iterator[Record]:
        """Every row but blank lines, in the file's order."""
        lines, reader, width = self._lines, self._reader, len(self.header)
        number = 0
        while True:
            line = lines.begin()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                # A stray quote has swallowed the lines that follow: only its own line is lost.
                number += 1
                yield Record(number, line, [], f"a quote or a line break is misplaced ({error})")
                lines.retry_after_first()
                continue
            if cells is None:
                return
            if not cells:
                continue
            number += 1
            if lines.overlong:
                yield Record(number, line, [], f"the row is longer than {_MAX_LINE} bytes")
            elif len(cells) != width:
                yield Record(
                    number, line, [], f"the row has {len(cells)} columns, the header {width}"
                )
            else:
                yield Record(number, line, cells)


@contextmanager
def open_csv(path: Path) -> Iterator[CsvFile]:
    with open_content(path) as stream:
        yield CsvFile(stream, name=str(path))


class _Lines:
    """Physical lines for the CSV reader, which can be read again after a broken one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._again: deque[tuple[str, bool]] = deque()
        self._taken: list[tuple[str, bool]] = []
        self._next_line = 1
        self.overlong = False

    def begin(self) -> int:
        """Forget the lines of the record before; returns the number of the line that comes."""
        self._next_line += len(self._taken)
        self._taken.clear()
        self.overlong = False
        return self._next_line

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
