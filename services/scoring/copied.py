"""What `COPY ... TO STDOUT (FORMAT binary)` sends, as vectors: no Python object for any row.

Every field has a fixed width and is never NULL, so that all rows are equally long and numpy reads
them in place; where texts are asked for, they come last. Format:
https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format").
"""

import struct
from typing import Final, TypeAlias

import asyncpg
import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.usage import Integers

Rows: TypeAlias = NDArray[np.void]
"""Rows by the names of their fields; numbers in the byte order of the network."""

_SECONDS: Final = 120
_HEADER_BYTES: Final = 19  # A signature, and two empty words.
_LENGTH: Final = struct.Struct(">i")
_TRAILER_BYTES: Final = 2  # -1 where the next row would say how many fields it has.

# A row that ends in a list of bigint is laid out in cells of 12 bytes, the size of an element
# (its length, 8, then its value). A row starts where a cell begins with the number of fields and
# the length of the first, both 8, and the next but one has the length of the fourth, 8 again, in
# its place. No other cell can: `test_copied.py`.
_CELL_BYTES: Final = 12
_DAY: Final = np.dtype(
    {
        "names": [
            "key",
            "day",
            "events",
            "milliseconds",
            "sources",
            "features",
            "has_members",
            "members",
        ],
        "formats": [">i8", ">i4", ">i4", ">i8", ">i8", ">i8", ">i2", ">i4"],
        "offsets": [6, 18, 26, 34, 46, 58, 70, 88],
        "itemsize": 96,
    }
)
_DAY_CELLS: Final = _DAY.itemsize // _CELL_BYTES
DAY_FIELDS: Final = 8
DAY_LIST: Final = (
    "least(cardinality(d.users), 1)::int2,"
    " CASE WHEN cardinality(d.users) = 0 THEN '{0}' ELSE d.users END"
)
"""The last two fields of a day: an empty list has no elements to align, so it is sent as [0]."""


def layout(**widths: str) -> np.dtype[np.void]:
    """The rows of a COPY: the name of each field with its type, as numpy writes it (`i8`, `f8`)."""
    fields: list[tuple[str, str]] = [("_fields", ">i2")]
    for name, width in widths.items():
        fields += [(f"_{name}", ">i4"), (name, f">{width}")]
    return np.dtype(fields)


async def fetch(connection: asyncpg.Connection, query: str, *arguments: object) -> bytes:
    """The rows of the query, as COPY sends them, without its header and trailer."""
    content = bytearray()

    async def keep(part: bytes) -> None:
        content.extend(part)

    await connection.copy_from_query(
        query, *arguments, output=keep, format="binary", timeout=_SECONDS
    )
    return bytes(memoryview(content)[_HEADER_BYTES:-_TRAILER_BYTES])


def rows(content: bytes, expected: np.dtype[np.void]) -> Rows:
    """The rows in what `fetch` has brought, in place."""
    found: Rows = np.frombuffer(content, expected)
    if len(found) and found["_fields"][-1] != len(expected.names or ()) // 2:
        raise ValueError("the rows are not laid out as expected: a NULL, or another type")
    return found


def days_with_members(content: bytes) -> tuple[Rows, Integers, Integers]:
    """Days with a list each: their rows `(days,)`; of each member the row's index, and the value.

    Fields: key int8, day int4, events int4, milliseconds, sources and features int8, then
    `DAY_LIST`.
    """
    count = len(content) // _CELL_BYTES
    if not content:
        nothing = np.empty(0, np.int64)
        return np.empty(0, _DAY), nothing, nothing
    words = np.frombuffer(content, ">i2").reshape(count, _CELL_BYTES // 2)
    starts = np.flatnonzero(words[: count - _DAY_CELLS + 1, 0] == DAY_FIELDS)
    starts = starts[(words[starts, 1] == 0) & (words[starts, 2] == 8) & (words[starts + 2, 4] == 8)]
    steps = (_CELL_BYTES,)
    found: Rows = np.ndarray((count - _DAY_CELLS + 1,), _DAY, content, strides=steps)[starts]
    sizes = found["members"].astype(np.int64)
    if int(sizes.sum()) + _DAY_CELLS * len(found) != count:
        raise ValueError("the days are not laid out as expected: a NULL, or another type")
    owner = np.repeat(np.arange(len(found)), sizes)
    place = np.arange(len(owner)) + _DAY_CELLS * (owner + 1)
    real = found["has_members"][owner] != 0
    values = np.ndarray((count,), ">i8", content, offset=_CELL_BYTES - 8, strides=steps)
    return found, owner[real], values[place[real]].astype(np.int64)


def rows_with_texts(
    content: bytes, expected: np.dtype[np.void], texts: int
) -> tuple[Rows, list[list[str]]]:
    """Rows whose last fields are `texts` texts of any length: the other fields as `rows` finds
    them, and each text's column.
    """
    fixed = bytearray()
    found: list[list[str]] = [[] for _ in range(texts)]
    known: dict[bytes, str] = {}
    start, width = 0, expected.itemsize
    while start < len(content):
        end = start + width
        fixed += content[start:end]
        for column in found:
            (size,) = _LENGTH.unpack_from(content, end)
            end += _LENGTH.size + size
            text = content[end - size : end]
            # Many rows have the same: one object for all of them.
            column.append(known.get(text) or known.setdefault(text, text.decode()))
        start = end
    whole: Rows = np.frombuffer(fixed, expected)
    if (whole["_fields"] != len(expected.names or ()) // 2 + texts).any():
        raise ValueError("the rows are not laid out as expected: a NULL, or another type")
    return whole, found
