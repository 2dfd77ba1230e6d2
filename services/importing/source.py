"""The file to import: plain or gzipped, surveyed once, then read as CSV."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from services.importing.errors import Unusable
from shared.csv_table import CsvTable, UnusableHeader

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a first pass over the whole file tells."""

    fingerprint: str
    """SHA-256 of the decompressed content, in hex."""
    lines: int


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


@contextmanager
def open_csv(path: Path) -> Iterator[CsvTable]:
    with open_content(path) as stream:
        try:
            table = CsvTable(stream)
        except UnusableHeader as error:
            raise Unusable(f"{path}: {error}") from error
        yield table
