"""Times as CSV files write them, to times as the wire takes them. Strict: no guess moves a day."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from services.importing.errors import Unusable

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_BASIC_DATE = re.compile(r"(19|20)\d{6}", re.ASCII)
_ISO = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<clock>\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)"
    r" ?(?P<offset>Z|UTC|[+-]\d{2}(?::?\d{2})?)?)?",
    re.IGNORECASE | re.ASCII,
)
_TOO_LARGE = 100_000_000_000_000


class TimeForm(StrEnum):
    """How a column writes its times; decided once for the column, never value by value."""

    EPOCH = "epoch seconds or milliseconds"
    BASIC_DATE = "YYYYMMDD"
    ISO = "an ISO date or an RFC 3339 time"


def recognise(values: Iterable[str], *, column: str, zone: ZoneInfo | None) -> TimeForm:
    """The form of a column from its first values; raises Unusable where it would be a guess."""
    filled = [value for value in map(str.strip, values) if value]
    if filled and all(_is_basic_date(value) for value in filled):
        return TimeForm.BASIC_DATE
    if filled and _NUMBER.fullmatch(filled[0]):
        return TimeForm.EPOCH
    if zone is None:
        for value in filled:
            match = _ISO.fullmatch(value)
            if match and match["clock"] and not match["offset"]:
                raise Unusable(
                    f"column {column}: {value!r} has no offset from UTC;"
                    " say what it means with --timezone UTC or --timezone Europe/Paris"
                )
    return TimeForm.ISO


def wire_time(value: str, form: TimeForm, zone: ZoneInfo | None) -> str | int | float:
    """What the wire takes for this cell; raises ValueError with the reason.

    A date without a time is midnight in `zone`, by default in UTC.
    """
    if form is TimeForm.EPOCH:
        return _epoch(value)
    if form is TimeForm.BASIC_DATE:
        if not _is_basic_date(value):
            raise ValueError("is not a YYYYMMDD date as the rows before")
        value = f"{value[:4]}-{value[4:6]}-{value[6:]}"
    match = _ISO.fullmatch(value)
    if match is None:
        raise ValueError("is neither an RFC 3339 time nor an ISO date nor epoch seconds")
    day, clock, offset = match.groups()
    if clock is None:
        moment = datetime.fromisoformat(day).replace(tzinfo=zone or UTC)
    elif offset is None:
        if zone is None:
            raise ValueError("has no offset from UTC (see --timezone)")
        moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=zone)
    else:
        offset = "+00:00" if offset.upper() in {"Z", "UTC"} else offset
        moment = datetime.fromisoformat(f"{day}T{clock}{offset}")
    try:
        return moment.astimezone(UTC).isoformat()
    except OverflowError as error:
        raise ValueError("is out of range") from error


def _epoch(value: str) -> int | float:
    if not _NUMBER.fullmatch(value):
        raise ValueError("is not a number of epoch seconds or milliseconds as the rows before")
    number = float(value) if "." in value else int(value)
    if number >= _TOO_LARGE:
        raise ValueError("is too large for epoch milliseconds (microseconds?)")
    return number


def _is_basic_date(value: str) -> bool:
    if not _BASIC_DATE.fullmatch(value):
        return False
    try:
        datetime(int(value[:4]), int(value[4:6]), int(value[6:]), tzinfo=UTC)
    except ValueError:
        return False
    return True
