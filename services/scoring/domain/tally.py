"""From usage events to all that they add to the tables: day buckets, signals, sources' hours, and
who belongs to which account.

A tally holds sums, sets and earliest moments only, so it is exact, commutative and associative:
events may come in any order and in any batches, and the tables end the same. (It is not idempotent:
an event must be known to be new before it comes here.)

An event whose account we have found ourselves counts like any other, but says of nobody where he or
she belongs, or a guess would confirm itself; and the time that it has waited is no delay of ours.

A batch is thousands of events, each of which may cost a few microseconds in all. One pass over a
stream, in which no event outlives the next, takes a third less than several passes over a list
(measured): hence the one long loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as clock_time
from typing import Final, Generic, TypeAlias, TypeVar

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
from services.scoring.domain.evidence import Evidence, evidence_of
from services.scoring.domain.signals import Signal
from shared.messages import UsageEvent

MAX_DURATION_SECONDS: Final = 86_400
MAX_FEATURE_LENGTH: Final = 100

_SAYS_MORE: Final = NOT_ACTIVITY | signals.TYPES

_Bucket: TypeAlias = tuple[str, int]

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
    active: dict[AccountDay, dict[int, datetime]] = field(default_factory=dict)
    """By account and UTC day, whose activity it was, by the user's key, and when the last."""
    stated: dict[AccountDay, set[tuple[int, Evidence]]] = field(default_factory=dict)
    """By account and UTC day, of whom events that are no activity said that they belong to it."""
    group_calls: set[tuple[int, datetime, str]] = field(default_factory=set)
    """The user's key, when it was said that the user works for an account, and for which."""
    placed_in: set[str] = field(default_factory=set)
    """The accounts of events that were placed."""
    others_since: dict[AccountDay, datetime] = field(default_factory=dict)
    """Of buckets with placed events, when the first of the others was received, or `NEVER`."""

    def accounts(self) -> set[str]:
        return {name for name, _ in self.deltas}.union(self.idle_since, self.placed_in)

    def all_users(self) -> set[int]:
        return self.users.union(*(delta.users for delta in self.deltas.values()))

    def received_since(self, accounts: Iterable[str], placed_at: datetime) -> dict[str, datetime]:
        """By account, when its first event was received; one that was placed came at that time."""
        wanted = set(accounts)
        first = {name: moment for name, moment in self.idle_since.items() if name in wanted}
        for bucket, delta in self.deltas.items():
            name = bucket[0]
            if name in wanted:
                received = self.others_since.get(bucket, delta.first_received_at)
                if received < first.get(name, NEVER):
                    first[name] = received
        for name in wanted & self.placed_in:
            first.setdefault(name, placed_at)
        return first


def tally(events: Iterable[tuple[K, UsageEvent]]) -> Tally[K]:  # noqa: C901, PLR0912, PLR0915 - above
    """Each event with its key."""
    result = Tally[K]()
    # The users by name until the end: each is hashed once a day, not with each event.
    buckets: dict[_Bucket, tuple[DayDelta, dict[str, datetime]]] = {}
    placed: list[tuple[_Bucket, str | None, datetime]] = []
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
            if event.placed_by is None:
                _keep_first(result.idle_since, account, received)
            else:
                result.placed_in.add(account)
            continue
        moment = event.occurred_at
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
        bucket = (account, moment.toordinal())
        opened = buckets.get(bucket)
        if opened is None:
            opened = buckets[bucket] = (DayDelta(), {})
        day, users = opened
        day.events += 1
        day.sources.add(source)
        if user := event.user:
            if event.placed_by is None:
                last = users.get(user)
                if last is None or last < moment:
                    users[user] = moment
        else:
            day.userless += 1
        if event.placed_by is not None:
            placed.append((bucket, user, received))
        elif received < day.first_received_at:
            day.first_received_at = received
        if properties := event.properties:
            if "feature" in properties:
                _add_feature(day, properties["feature"])
            if kind == "session_end":
                day.milliseconds += _milliseconds(properties.get("duration_seconds"))
    _close(result, buckets, placed)
    result.events = count
    result.source_hours = {
        (source, datetime.combine(date.fromordinal(ordinal), clock_time(hour), UTC)): count
        for (ordinal, hour), counts in hours.items()
        for source, count in counts.items()
    }
    return result


def _close(
    result: Tally[K],
    buckets: Mapping[_Bucket, tuple[DayDelta, Mapping[str, datetime]]],
    placed: Iterable[tuple[_Bucket, str | None, datetime]],
) -> None:
    """Name the users by their keys and the days by their dates; `placed`: bucket, user, arrival.

    Of what was placed the bucket takes what an erasure must find there: the user, and since when.
    """
    for (account, ordinal), (day, users) in buckets.items():
        on = (account, date.fromordinal(ordinal))
        result.deltas[on] = day
        if users:
            active = result.active[on] = {user_key(name): at for name, at in users.items()}
            day.users = set(active)
    for (account, ordinal), user, received in placed:
        on = (account, date.fromordinal(ordinal))
        day = result.deltas[on]
        result.placed_in.add(account)
        result.others_since.setdefault(on, day.first_received_at)
        day.first_received_at = min(day.first_received_at, received)
        if user:
            day.users.add(user_key(user))


def _add_said(result: Tally[K], key: K, event: UsageEvent) -> bool:
    """Add what the event says beyond use; says whether it is activity as well."""
    if (signal := signals.signal_of(event)) is not None:
        result.signals.append((key, signal))
    if counts_as_activity(event.type):
        return True
    if event.user:
        user = user_key(event.user)
        result.users.add(user)
        if event.placed_by is None:
            _add_stated(result, user, event)
    return False


def _add_stated(result: Tally[K], user: int, event: UsageEvent) -> None:
    moment, evidence = event.occurred_at.astimezone(UTC), evidence_of(event.type)
    result.stated.setdefault((event.account, moment.date()), set()).add((user, evidence))
    if evidence is Evidence.GROUPED:
        result.group_calls.add((user, moment, event.account))


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
