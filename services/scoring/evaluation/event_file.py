"""Events from a CSV file (plain or .gz), in the order of their arrival.

Two kinds are read. With `event_ts` (and `arrival_ts`) in epoch seconds, as a product exports them;
or with `date` (YYYYMMDD or YYYY-MM-DD), as ledgers of purchases are. `account_id` is needed;
`user_id`, `product` (the feature) and `event_type` are read where they are there. A file has no
ids: equal rows are separate events, so a row's number is its id.
"""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

from shared.errors import PerennialError
from shared.messages import UsageEvent

SOURCE: Final = "file"

# The clock of the replay starts before the first event and ends after the last one.
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_NOON: Final = timedelta(hours=12)


class UnusableFile(PerennialError):
    """The file cannot be evaluated as it is; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFile:
    """What a file holds; `events` in the order of their arrival, never empty.

    `has_arrivals` False: nobody knows when the events were received, they count as received
    `lag` after they happened. `has_times` False: only the day is known.
    """

    events: tuple[UsageEvent, ...]
    has_arrivals: bool
    has_times: bool
    lag: timedelta
    sha256: str


def read_events(path: Path, *, lag: timedelta = timedelta(0)) -> EventFile:
    """The events of a file; raises UnusableFile with the column or the row that is wrong."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as raw:
            while block := raw.read(1 << 20):
                digest.update(block)
        with _open(path) as file:
            reader = csv.DictReader(file)
            columns = {name.strip() for name in reader.fieldnames or () if name}
            read = _row_reader(columns, lag)
            events = [_event(number, row, read) for number, row in enumerate(reader, start=1)]
    except (OSError, EOFError, zlib.error) as error:
        raise UnusableFile(f"{path} cannot be read: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableFile(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not events:
        raise UnusableFile(f"{path} has no events: a header and nothing below it")
    return EventFile(
        events=tuple(sorted(events, key=lambda event: event.received_at)),
        has_arrivals="arrival_ts" in columns and "event_ts" in columns,
        has_times="event_ts" in columns,
        lag=lag,
        sha256=digest.hexdigest(),
    )


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


_Times = Callable[[Mapping[str, str]], tuple[datetime, datetime]]


def _row_reader(columns: set[str], lag: timedelta) -> _Times:
    """How a row says when it happened and when it was received."""
    if "account_id" not in columns:
        raise UnusableFile("missing column: account_id")
    if {"event_ts", "arrival_ts"} <= columns:
        return lambda row: (_epoch(row["event_ts"]), _epoch(row["arrival_ts"]))
    if "event_ts" in columns:
        return lambda row: _with_lag(_epoch(row["event_ts"]), lag)
    if "date" in columns:
        return lambda row: _with_lag(_day(row["date"]), lag)
    raise UnusableFile("missing column: event_ts (epoch seconds; beside it arrival_ts), or date")


def _event(number: int, row: Mapping[str, str], read: _Times) -> UsageEvent:
    try:
        occurred_at, received_at = read(row)
        account = row["account_id"].strip()
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise UnusableFile(f"row {number} cannot be read: {error}") from error
    if not account:
        raise UnusableFile(f"row {number} has no account_id")
    if not _EARLIEST < min(occurred_at, received_at) <= max(occurred_at, received_at) < _LATEST:
        raise UnusableFile(f"row {number}: a time is not between 1971 and 2200 (epoch seconds?)")
    product = row.get("product")
    return UsageEvent(
        id=str(number),
        source=SOURCE,
        account=account,
        user=row.get("user_id") or None,
        type=row.get("event_type") or "activity",
        occurred_at=occurred_at,
        received_at=received_at,
        properties={"feature": product} if product else {},
    )


def _with_lag(occurred_at: datetime, lag: timedelta) -> tuple[datetime, datetime]:
    return occurred_at, occurred_at + lag


def _epoch(text: str) -> datetime:
    return datetime.fromtimestamp(int(text), UTC)


def _day(text: str) -> datetime:
    # Noon: the day is known, the hour is not.
    form = "%Y-%m-%d" if "-" in text else "%Y%m%d"
    return datetime.strptime(text.strip(), form).replace(tzinfo=UTC) + _NOON
