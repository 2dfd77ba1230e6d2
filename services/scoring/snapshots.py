"""Training rows from a file of events: what was known on a day, and who was gone 90 days later.

The protocol (scoring.md, section 7): a snapshot T every 28 days; its features see complete days
up to and with T, of events that had *arrived* by the end of T; an account takes part if it is
`scored` then; it is lost if no day in (T, T+90] has activity, whenever that became known. The
last snapshots, whose 90 days are not closed 14 days before the last arrival, are left out.

Events go through the same fold and the same indicators as in serving.
"""

import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain import features
from services.scoring.domain.activity import DayDelta, counts_as_activity, fold
from services.scoring.domain.features import Rows
from services.scoring.domain.indicators import (
    KEPT_DAYS,
    History,
    Indicators,
    State,
    extract,
)
from shared.errors import InvalidMessage
from shared.messages import AccountFields, UsageEvent

FIRST_SNAPSHOT: Final = date(2012, 1, 1)
SNAPSHOT_EVERY_DAYS: Final = 28
HORIZON_DAYS: Final = 90
SETTLING_DAYS: Final = 14
COLUMNS: Final = ("event_ts", "arrival_ts", "account_id", "user_id", "product", "event_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """Rows of all snapshots, ordered by day; the arrays are parallel.

    `rows` `(rows, features)`; `lost` `(rows,)`; `day` the ordinal of T; `account` an index that
    means nothing outside; `users_365` the distinct users of a year, for slices by size.
    """

    rows: Rows
    lost: NDArray[np.bool_]
    day: NDArray[np.int64]
    account: NDArray[np.int64]
    users_365: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Snapshots":
        return Snapshots(
            rows=self.rows[chosen],
            lost=self.lost[chosen],
            day=self.day[chosen],
            account=self.account[chosen],
            users_365=self.users_365[chosen],
        )

    @staticmethod
    def concatenate(parts: Sequence["Snapshots"]) -> "Snapshots":
        return Snapshots(
            rows=np.concatenate([part.rows for part in parts]),
            lost=np.concatenate([part.lost for part in parts]),
            day=np.concatenate([part.day for part in parts]),
            account=np.concatenate([part.account for part in parts]),
            users_365=np.concatenate([part.users_365 for part in parts]),
        )


def read_events(path: Path) -> list[UsageEvent]:
    """The events of a contributor-style CSV (plain or .gz), in the order of their arrival.

    Columns: `event_ts` and `arrival_ts` in epoch seconds, `account_id`, `user_id`, `product` (the
    feature), `event_type`. The file has no ids: equal rows are separate events, so the row's
    number is the id. Raises InvalidMessage on a column or a value that cannot be read.
    """
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise InvalidMessage("invalid_file", f"missing columns: {', '.join(sorted(missing))}")
        events = [_event(number, row) for number, row in enumerate(reader, start=1)]
    return sorted(events, key=lambda event: event.received_at)


def take_snapshots(events: Sequence[UsageEvent], first: date = FIRST_SNAPSHOT) -> Snapshots:
    """The training rows of events in the order of their arrival."""
    taken = [
        (day, account, one)
        for day, seen in _as_of_each(events, first)
        for account, one in seen
        if one.state is State.SCORED
    ]
    active = _active_days(events)
    index = {account: number for number, account in enumerate(sorted(active))}
    return Snapshots(
        rows=features.rows([one for _, _, one in taken]),
        lost=np.array([_is_lost(active[account], day) for day, account, _ in taken], np.bool_),
        day=np.array([day for day, _, _ in taken], np.int64),
        account=np.array([index[account] for _, account, _ in taken], np.int64),
        users_365=np.array([one.active_users_365 or 0 for _, _, one in taken], np.int64),
    )


def _event(number: int, row: Mapping[str, str]) -> UsageEvent:
    try:
        return UsageEvent(
            id=str(number),
            source="file",
            account=row["account_id"],
            user=row["user_id"] or None,
            type=row["event_type"],
            occurred_at=datetime.fromtimestamp(int(row["event_ts"]), UTC),
            received_at=datetime.fromtimestamp(int(row["arrival_ts"]), UTC),
            properties={"feature": row["product"]},
        )
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise InvalidMessage("invalid_file", f"row {number} cannot be read") from error


def _as_of_each(
    events: Sequence[UsageEvent], first: date
) -> Iterator[tuple[int, list[tuple[str, Indicators]]]]:
    if not events:
        return
    last = events[-1].received_at.toordinal()
    buckets: dict[str, dict[int, DayDelta]] = {}
    position = 0
    for day in range(first.toordinal(), last - SETTLING_DAYS - HORIZON_DAYS, SNAPSHOT_EVERY_DAYS):
        start = position
        while events[position].received_at.toordinal() <= day:
            position += 1
        _add(buckets, events[start:position])
        # As of the end of T: then T is the last complete day.
        now = datetime.combine(date.fromordinal(day), datetime.min.time(), UTC) + timedelta(days=1)
        names = sorted(buckets)
        histories = [_history(buckets[name], day) for name in names]
        known = [AccountFields()] * len(names)
        yield day, list(zip(names, extract(histories, known, now), strict=True))


def _add(buckets: dict[str, dict[int, DayDelta]], events: Iterable[UsageEvent]) -> None:
    for (account, day), delta in fold(events).items():
        days = buckets.setdefault(account, {})
        ordinal = day.toordinal()
        days[ordinal] = days[ordinal] + delta if ordinal in days else delta


def _history(buckets: Mapping[int, DayDelta], day: int) -> History:
    """As the store keeps it: the days of the last 400, and what was pruned as three numbers."""
    days = sorted(buckets)
    kept = [one for one in days if one > day - KEPT_DAYS]
    deltas = [buckets[one] for one in kept]
    return History(
        days=kept,
        events=[delta.events for delta in deltas],
        milliseconds=[delta.milliseconds for delta in deltas],
        users=[delta.users for delta in deltas],
        features=[delta.features for delta in deltas],
        first_active=days[0],
        last_active=days[-1],
        active_days_before=len(days) - len(kept),
    )


def _active_days(events: Iterable[UsageEvent]) -> dict[str, NDArray[np.int64]]:
    """Each account's active days over the whole file, ascending."""
    days: dict[str, set[int]] = {}
    for event in events:
        if counts_as_activity(event.type):
            days.setdefault(event.account, set()).add(event.occurred_at.toordinal())
    return {account: np.array(sorted(those), np.int64) for account, those in days.items()}


def _is_lost(active: NDArray[np.int64], day: int) -> bool:
    after = int(np.searchsorted(active, day, side="right"))
    return after == len(active) or int(active[after]) > day + HORIZON_DAYS
