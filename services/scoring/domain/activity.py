"""Day buckets: what an account did on one UTC day, in sums and sets."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final, TypeAlias

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


def counts_as_activity(event_type: str) -> bool:
    """Does this type show that somebody used the product? Unknown types do."""
    return event_type not in NOT_ACTIVITY and not event_type.startswith(SYSTEM_PREFIX)


@lru_cache(maxsize=1 << 16)  # A user comes back many times; SHA-256 costs as much as all the rest.
def user_key(user: str) -> int:
    """The hashed user (`u1:...`) as a signed 64-bit integer: what PostgreSQL's bigint holds."""
    return int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], "big", signed=True)
