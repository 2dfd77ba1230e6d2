"""Lists as PostgreSQL reads arrays of them, in text.

The driver asks of each element of an array whether it is a list, and encodes it by itself: for the
columns of thousands of rows that takes several times as long (measured).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

MOMENT: Final = "timestamptz 'epoch' + {} * interval '1 microsecond'"
"""One of `moments` as a moment again: exact up to the year 2255, as it goes through a double."""


def integers(numbers: Iterable[int]) -> str:
    return f"{{{str(list(numbers))[1:-1]}}}"


def texts(values: Sequence[str]) -> str:
    if not values:
        return "{}"
    between = '","'
    joined = between.join(values)
    # Two marks between each and the next: any more are within one.
    if "\\" in joined or joined.count('"') > 2 * (len(values) - 1):
        joined = between.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return f'{{"{joined}"}}'


def moments(values: Iterable[datetime]) -> str:
    return integers(microseconds(values))


def microseconds(values: Iterable[datetime]) -> list[int]:
    """Since 1970."""
    return [(value - _EPOCH) // _MICROSECOND for value in values]
