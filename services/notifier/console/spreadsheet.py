"""Lists as CSV that a spreadsheet opens as it is meant.

UTF-8 with a byte order mark, commas, lines ended by CR LF: without the mark Excel takes UTF-8 for
the machine's old code page; LibreOffice, Numbers and Google Sheets take it either way.
"""

import csv
import io
import re
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Final, TypeAlias

MARK: Final = b"\xef\xbb\xbf"
Cell: TypeAlias = str | int | float | Decimal | date | datetime | None

_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet may take for the start of a formula."""
_ANOTHER_CELL: Final = re.compile(r"(;[\s\"]*)(?=[=+\-@])")


def lines(rows: Iterable[Iterable[Cell]]) -> bytes:
    """Rows as bytes of the file, without the mark."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(
        [_written(one) for one in row] for row in rows
    )
    return text.getvalue().encode()


def defused(text: str) -> str:
    """Text that stays text: an apostrophe goes before what would be computed.

    Also where blanks go before it: some programs cut them off before they look. And after a
    semicolon, at which Excel begins another cell in countries whose decimal sign is the comma.
    """
    kept = _ANOTHER_CELL.sub(r"\1'", text)
    return f"'{kept}" if kept.startswith(_STARTS) or kept.lstrip().startswith(_STARTS) else kept


def _written(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case str():
            return defused(cell)
        case datetime() | date():
            return cell.isoformat()
    return str(cell)
