"""From usage events to day buckets: what an account did on one UTC day, in sums and sets.

A bucket holds integers and sets only, so folding is exact, commutative and associative: events
may come in any order and in any batches, and the bucket ends the same. (Folding is not
idempotent: an event must be known to be new before it comes here.)
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, TypeAlias

from shared.messages import UsageEvent

NOT_ACTIVITY: Final = frozenset(
    {
        "alias",
        "cancellation_requested",
        "cancellation_withdrawn",
        "feedback",
        "goal_metric",
        "group",
        "identify",
        "payment_failed",
        "payment_succeeded",
        "plan_changed",
        "seat_added",
        "seat_removed",
        "support_ticket",
    }
)
"""Types that happen to an account without anybody using the product (wire.md, section 1)."""

SYSTEM_PREFIX: Final = "$"
MAX_DURATION_SECONDS: Final = 86_400
MAX_FEATURE_LENGTH: Final = 100
NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""When the first event of a bucket without events was received."""

AccountDay: TypeAlias = tuple[str, date]


@dataclass(slots=True, kw_only=True)
class DayDelta:
    """What some events add to one account's UTC day.

    `milliseconds` is an integer, so that sums are exact whatever their order. `users` are the
    keys of `user_key`. The sets are distinct per day; the store keeps them sorted.
    `first_received_at` is of the event that came first, whatever its order.
    """

    events: int = 0
    milliseconds: int = 0
    userless: int = 0
    users: set[int] = field(default_factory=set)
    features: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    first_received_at: datetime = NEVER


def fold(events: Iterable[UsageEvent]) -> dict[AccountDay, DayDelta]:
    """One delta per account and UTC day; events that are no activity leave no trace."""
    days: dict[AccountDay, DayDelta] = {}
    account, ordinal = "", 0
    day = DayDelta()
    for event in events:
        kind = event.type
        if kind in NOT_ACTIVITY or kind.startswith(SYSTEM_PREFIX):
            continue
        moment = event.occurred_at
        if moment.tzinfo is not UTC:
            moment = moment.astimezone(UTC)
        # Intake groups them: mostly the bucket is that of the event before.
        if moment.toordinal() != ordinal or event.account != account:
            account, ordinal = event.account, moment.toordinal()
            key = (account, moment.date())
            day = days.get(key) or days.setdefault(key, DayDelta())
        day.events += 1
        day.sources.add(event.source)
        if event.received_at < day.first_received_at:  # noqa: PLR1730 - half of what min() costs
            day.first_received_at = event.received_at
        if event.user:
            day.users.add(user_key(event.user))
        else:
            day.userless += 1
        if properties := event.properties:
            if "feature" in properties:
                _add_feature(day, properties["feature"])
            if kind == "session_end":
                day.milliseconds += _milliseconds(properties.get("duration_seconds"))
    return days


def counts_as_activity(event_type: str) -> bool:
    """Does this type show that somebody used the product? Unknown types do."""
    return event_type not in NOT_ACTIVITY and not event_type.startswith(SYSTEM_PREFIX)


@lru_cache(maxsize=1 << 16)  # A user comes back many times; SHA-256 costs as much as all the rest.
def user_key(user: str) -> int:
    """The hashed user (`u1:...`) as a signed 64-bit integer: what PostgreSQL's bigint holds."""
    return int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], "big", signed=True)


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
