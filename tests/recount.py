"""What intake must have stored of some events: counted the plain way, and read from the tables."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias

import asyncpg

from services.scoring.domain.signals import subject_key
from services.scoring.domain.usage import SignalKind
from shared.messages import UsageEvent

Day: TypeAlias = tuple[int, int, int, tuple[int, ...], tuple[str, ...], tuple[str, ...], datetime]
"""Events, milliseconds, userless; users, features and sources, sorted; first arrival."""
Signal: TypeAlias = tuple[str, datetime, int, int | None, int | None, float | None, datetime]
"""Account, moment, kind, user, subject, value, arrival."""

Membership: TypeAlias = tuple[date | None, date | None, date | None, date]
"""The first day of a `group` call, of an `identify` call, of anything else; the last of all."""

_NO_ACTIVITY = {"payment_failed", "support_ticket", "feedback", "group", "identify"}
_STATED = ("group", "identify")


@dataclass(slots=True)
class Stored:
    days: dict[tuple[str, date], Day] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    received: dict[tuple[str, datetime], int] = field(default_factory=dict)
    """By source and hour."""
    memberships: dict[tuple[int, str], Membership] = field(default_factory=dict)
    """By user and account."""
    group_calls: set[tuple[int, datetime, str]] = field(default_factory=set)
    """User, moment, account."""
    last_active: dict[tuple[int, str], datetime] = field(default_factory=dict, compare=False)
    """By user and account, for `behind`."""

    def behind(self, expected: "Stored") -> set[timedelta]:
        """How much earlier than expected each user's last activity in an account stands."""
        assert self.last_active.keys() == expected.last_active.keys()
        return {at - self.last_active[one] for one, at in expected.last_active.items()}


def recounted(events: Iterable[UsageEvent]) -> Stored:
    """Each event once, the first of its deliveries; types that the tests send."""
    seen, stored = set(), Stored()
    by_day: dict[tuple[str, date], list[UsageEvent]] = {}
    for event in events:
        stated = (event.client_at or event.received_at).astimezone(UTC).date()
        account = "" if event.placed_by else event.account
        if (identity := (event.source, event.id, account, stated)) in seen:
            continue
        seen.add(identity)
        hour = event.received_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        stored.received[event.source, hour] = stored.received.get((event.source, hour), 0) + 1
        if (signal := _signal(event)) is not None:
            stored.signals.append(signal)
        if event.type not in _NO_ACTIVITY:
            day = event.occurred_at.astimezone(UTC).date()
            by_day.setdefault((event.account, day), []).append(event)
        if event.user and not event.placed_by:
            _learn(stored, _key(event.user), event)
    stored.days = {key: _day(those) for key, those in by_day.items()}
    stored.signals.sort(key=repr)
    return stored


def _learn(stored: Stored, user: int, event: UsageEvent) -> None:
    one, moment = (user, event.account), event.occurred_at.astimezone(UTC)
    known = stored.memberships.get(one)
    firsts: list[date | None] = list(known[:3]) if known else [None, None, None]
    place = _STATED.index(event.type) if event.type in _STATED else 2
    firsts[place] = min(firsts[place] or date.max, moment.date())
    last = max(known[3] if known else date.min, moment.date())
    stored.memberships[one] = (firsts[0], firsts[1], firsts[2], last)
    if event.type == "group":
        stored.group_calls.add((user, moment, event.account))
    if event.type not in _NO_ACTIVITY:
        stored.last_active[one] = max(stored.last_active.get(one, moment), moment)


def _day(events: list[UsageEvent]) -> Day:
    durations = [
        event.properties.get("duration_seconds") for event in events if event.type == "session_end"
    ]
    return (
        len(events),
        sum(round(one * 1000) for one in durations if isinstance(one, int | float)),
        sum(event.user is None for event in events),
        tuple(sorted({_key(event.user) for event in events if event.user})),
        tuple(sorted({str(e.properties["feature"]) for e in events if "feature" in e.properties})),
        tuple(sorted({event.source for event in events})),
        min(event.received_at for event in events),
    )


def _signal(event: UsageEvent) -> Signal | None:
    said = event.properties
    what: tuple[SignalKind, int | None, float | None]
    match event.type:
        case "payment_failed":
            what = (SignalKind.PAYMENT_FAILED, None, None)
        case "support_ticket":
            what = (SignalKind.TICKET_OPENED, subject_key(str(said["ticket_id"])), 3.0)
        case "feedback":
            what = (SignalKind.FEEDBACK_NPS, None, float(str(said["score"])))
        case _:
            return None
    kind, subject, value = what
    user = _key(event.user) if event.user else None
    return (event.account, event.occurred_at, int(kind), user, subject, value, event.received_at)


def _key(user: str) -> int:
    return int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], "big", signed=True)


async def read_stored(connection: asyncpg.Connection) -> Stored:
    days = await connection.fetch(
        "SELECT account_id, day, events, milliseconds, userless, users, features, sources,"
        " first_received_at FROM scoring.account_day"
    )
    signals = await connection.fetch(
        "SELECT account_id, occurred_at, kind, user_key, subject, value, received_at"
        " FROM scoring.signals"
    )
    received = await connection.fetch(
        "SELECT source, hour, sum(events)::bigint FROM scoring.source_hours GROUP BY 1, 2"
    )
    memberships = await connection.fetch(
        "SELECT user_key, account_id, grouped_on, identified_on, active_on, last_on, last_active_at"
        " FROM scoring.memberships"
    )
    calls = await connection.fetch(
        "SELECT user_key, stated_at, account_id FROM scoring.group_calls"
    )
    return Stored(
        days={
            (row[0], row[1]): (*row[2:5], tuple(row[5]), tuple(row[6]), tuple(row[7]), row[8])
            for row in map(tuple, days)
        },
        signals=sorted((tuple(row) for row in signals), key=repr),
        received={(row[0], row[1]): row[2] for row in received},
        memberships={(row[0], row[1]): tuple(row)[2:6] for row in memberships},
        group_calls={tuple(row) for row in calls},
        last_active={(row[0], row[1]): row[6] for row in memberships if row[6] is not None},
    )
