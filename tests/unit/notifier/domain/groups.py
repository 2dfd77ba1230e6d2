"""Members and notices that are valid by default; a test states what matters."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from services.notifier.domain.decisions import ANYBODY, Decision, Hearer, Timing, decide
from services.notifier.domain.notice import Member, Notice, Told
from services.notifier.domain.policy import Mute, SuppressReason
from shared.messages import Band

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
A, B, C = (UUID(int=number) for number in (1, 2, 3))
ANNA, BEN = "anna@vendor.example", "ben@vendor.example"
TIMING = Timing()
SNOOZED = Mute(against=SuppressReason.SNOOZED, until=NOW + DAY)
SILENCED = Mute(against=SuppressReason.SILENCED, until=NOW + HOUR)
STATE = Told(severity=Band.AT_RISK, owner=ANNA, due_at=NOW + 3 * DAY)


def state(**changes: Any) -> Told:
    return msgspec.structs.replace(STATE, **changes)


def member(one: UUID = A, **changes: Any) -> Member:
    """Raised and visible; changes of what it tells go to its state."""
    of_state = {name: changes.pop(name) for name in Told.__struct_fields__ & changes.keys()}
    return replace(Member(id=one, state=state(**of_state), looks=str(one)), **changes)


def over(one: UUID = A, **changes: Any) -> Member:
    """Closed by the system an hour ago."""
    return member(one, **({"is_raised": False, "over_since": NOW - HOUR} | changes))


def closed(one: UUID = A, **changes: Any) -> Member:
    """By a person."""
    return over(one, **({"by_person": True} | changes))


def notice(*members: Member, **changes: Any) -> Notice:
    """That was told of these members, as they are, an hour ago."""
    told: Mapping[UUID, Told] = {
        one.id: msgspec.structs.replace(one.state, at=NOW - HOUR) for one in members
    }
    usual = Notice(
        account_id="acme",
        destination="email:anna@vendor.example",
        episode=int(bool(members)),
        known=frozenset(told),
        told=told,
        told_at=NOW - HOUR if members else None,
    )
    return replace(usual, **changes)


def threaded(*members: Member, **changes: Any) -> Notice:
    """As `notice`, in a place whose messages can be changed."""
    shown = {one.id: one.looks for one in members}
    return notice(*members, **({"thread": ("C1", "1.0"), "shown": shown} | changes))


def decision(
    told: Notice,
    *members: Member,
    hearer: Hearer = ANYBODY,
    at_once: bool = False,
    now: datetime = NOW,
) -> Decision:
    return decide(told, members, hearer, timing=TIMING, at_once=at_once, now=now)
