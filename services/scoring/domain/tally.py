"""From usage events to all that they add to the tables: day buckets, signals, sources' hours.

A tally holds sums, sets and earliest moments only, so it is exact, commutative and associative:
events may come in any order and in any batches, and the tables end the same. (It is not idempotent:
an event must be known to be new before it comes here.)

A batch is thousands of events, each of which may cost a few microseconds in all. One pass over a
stream, in which no event outlives the next, takes a third less than several passes over a list
(measured): hence the one long loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as clock_time
from typing import Final, Generic, TypeVar

from services.scoring.domain import signals
from services.scoring.domain.activity import (
    NEVER,
    NOT_ACTIVITY,
    SYSTEM_PREFIX,
    AccountDay,
    DayDelta,
    counts_as_activity,
    user_key,
)
from services.scoring.domain.signals import Signal
from shared.messages import UsageEvent

MAX_DURATION_SECONDS: Final = 86_400
MAX_FEATURE_LENGTH: Final = 100

_SAYS_MORE: Final = NOT_ACTIVITY | signals.TYPES

K = TypeVar("K")


@dataclass(slots=True, kw_only=True)
class Tally(Generic[K]):
    """What some events add. `K` is whatever tells an event from others."""

    events: int = 0
    """Of every kind."""
    deltas: dict[AccountDay, DayDelta] = field(default_factory=dict)
    """By account and UTC day; events that are no activity leave no trace here."""
    signals: list[tuple[K, Signal]] = field(default_factory=list)
    source_hours: Mapping[tuple[str, datetime], int] = field(default_factory=dict)
    """Live events by source and hour of arrival."""
    users: set[int] = field(default_factory=set)
    """Of events that are no activity."""
    idle_since: dict[str, datetime] = field(default_factory=dict)
    """By account, when the first event that is no activity was received."""
    backfilled_since: dict[str, datetime] = field(default_factory=dict)
    """By account, when the first event of loaded history was received."""

    def all_users(self) -> set[int]:
        return self.users.union(*(delta.users for delta in self.deltas.values()))

    def received_since(self, accounts: Iterable[str]) -> dict[str, datetime]:
        """By account, when its first event was received."""
        wanted = set(accounts)
        first = {name: moment for name, moment in self.idle_since.items() if name in wanted}
        for (name, _), delta in self.deltas.items():
            if name in wanted and delta.first_received_at < first.get(name, NEVER):
                first[name] = delta.first_received_at
        return first


def tally(events: Iterable[tuple[K, UsageEvent]]) -> Tally[K]:  # noqa: C901, PLR0912 - above
    """Each event with its key."""
    result = Tally[K]()
    # The users by name until the end: each is hashed once a day, not with each event.
    buckets: dict[tuple[str, int], tuple[DayDelta, set[str]]] = {}
    hours: dict[tuple[int, int], dict[str, int]] = {}
    in_hour: dict[str, int] = {}
    ordinal, hour = 0, 0
    count = 0
    for key, event in events:
        count += 1
        kind, account, source = event.type, event.account, event.source
        received = event.received_at
        if received.tzinfo is not UTC:
            received = received.astimezone(UTC)
        # History that is loaded in an hour is not what the source sends in one.
        if event.backfill:
            _keep_first(result.backfilled_since, account, received)
        else:
            # Mostly that of the event before.
            if received.hour != hour or received.toordinal() != ordinal:
                ordinal, hour = received.toordinal(), received.hour
                in_hour = hours.setdefault((ordinal, hour), {})
            in_hour[source] = in_hour.get(source, 0) + 1
        if (kind in _SAYS_MORE or kind[:1] == SYSTEM_PREFIX) and not _add_said(result, key, event):
            _keep_first(result.idle_since, account, received)
            continue
        moment = event.occurred_at
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
        bucket = (account, moment.toordinal())
        opened = buckets.get(bucket)
        if opened is None:
            opened = buckets[bucket] = (DayDelta(), set())
        day, users = opened
        day.events += 1
        day.sources.add(source)
        if received < day.first_received_at:  # noqa: PLR1730 - half of what min() costs
            day.first_received_at = received
        if user := event.user:
            users.add(user)
        else:
            day.userless += 1
        if properties := event.properties:
            if "feature" in properties:
                _add_feature(day, properties["feature"])
            if kind == "session_end":
                day.milliseconds += _milliseconds(properties.get("duration_seconds"))
    for (account, ordinal), (day, users) in buckets.items():
        day.users = set(map(user_key, users))
        result.deltas[account, date.fromordinal(ordinal)] = day
    result.events = count
    result.source_hours = {
        (source, datetime.combine(date.fromordinal(ordinal), clock_time(hour), UTC)): count
        for (ordinal, hour), counts in hours.items()
        for source, count in counts.items()
    }
    return result


def _add_said(result: Tally[K], key: K, event: UsageEvent) -> bool:
    """Add what the event says beyond use; says whether it is activity as well."""
    if (signal := signals.signal_of(event)) is not None:
        result.signals.append((key, signal))
    if counts_as_activity(event.type):
        return True
    if event.user:
        result.users.add(user_key(event.user))
    return False


def _keep_first(moments: dict[str, datetime], account: str, received: datetime) -> None:
    if received < moments.get(account, NEVER):
        moments[account] = received


def _add_feature(day: DayDelta, feature: object) -> None:
    if isinstance(feature, str):
        feature = feature.strip()
        if 1 <= len(feature) <= MAX_FEATURE_LENGTH:
            day.features.add(feature)


def _milliseconds(duration: object) -> int:
    """A duration in seconds as milliseconds; 0 where it is none (ingest has warned of it)."""
    # A bool is an int to Python; NaN fails both comparisons.
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        return 0
    return round(duration * 1000) if 0 <= duration <= MAX_DURATION_SECONDS else 0
