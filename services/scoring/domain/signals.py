"""From usage events to signals: what happened to an account without anybody using the product.

What an event's properties say is checked here; what they do not say, or say wrongly, never makes an
event unreadable: the signal is left out, or has no subject or value.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from typing import Final, NamedTuple

from services.scoring.domain.activity import user_key
from services.scoring.domain.usage import SignalKind
from shared.messages import UsageEvent

SEVERE: Final = 3.0
"""A ticket of this severity or more is severe: high or urgent, of low, normal, high, urgent."""

_SEVERITIES: Final[Mapping[str, float]] = {
    "low": 1.0,
    "minor": 1.0,
    "trivial": 1.0,
    "normal": 2.0,
    "medium": 2.0,
    "moderate": 2.0,
    "high": 3.0,
    "major": 3.0,
    "urgent": 4.0,
    "critical": 4.0,
    "severe": 4.0,
    "blocker": 4.0,
    "highest": 4.0,
    "lowest": 1.0,
}
_MOST_SEVERE: Final = 4
# sev1, S1, P1, priority 1: here the smallest number is the worst.
_GRADE: Final = re.compile(r"(?:s|p|sev|prio|severity|priority)[ _-]?([0-5])", re.ASCII)
_CLOSED: Final = frozenset({"closed", "solved", "resolved", "done", "completed"})
_SCALES: Final[Mapping[str, tuple[SignalKind, int, int]]] = {
    "nps": (SignalKind.FEEDBACK_NPS, 0, 10),
    "csat": (SignalKind.FEEDBACK_CSAT, 1, 5),
    "ces": (SignalKind.FEEDBACK_CES, 1, 7),
}
_MAX_NAME: Final = 200


class _Said(NamedTuple):
    """What the properties say: kind, subject and value of the signal."""

    kind: SignalKind
    subject: int | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One signal; None where it has no user, subject or value."""

    account: str
    occurred_at: datetime
    received_at: datetime
    kind: SignalKind
    user: int | None
    subject: int | None
    value: float | None


def signal_of(event: UsageEvent) -> Signal | None:
    """What the event says beyond use, if anything."""
    read = _READERS.get(event.type)
    said = None if read is None else read(event.properties)
    if said is None:
        return None
    return Signal(
        account=event.account,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        kind=said.kind,
        user=user_key(event.user) if event.user else None,
        subject=said.subject,
        value=said.value,
    )


def subject_key(name: str) -> int:
    """The name of a ticket, milestone or metric as a signed 64-bit integer."""
    return int.from_bytes(
        blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


def severity_rank(severity: object) -> float | None:
    """1 (low) to 4 (urgent); a plain number is a rank already, above 4 as severe as 4."""
    if isinstance(severity, str):
        word = severity.strip().lower()
        if grade := _GRADE.fullmatch(word):
            return float(max(1, min(_MOST_SEVERE, _MOST_SEVERE + 1 - int(grade[1]))))
        if word in _SEVERITIES:
            return _SEVERITIES[word]
        severity = float(word) if word.isascii() and word.isdigit() else None
    rank = _number(severity)
    if rank is None or rank < 0:
        return None
    return min(rank, float(_MOST_SEVERE))


def _ticket(properties: Mapping[str, object]) -> _Said:
    state = properties.get("state")
    is_closed = isinstance(state, str) and state.strip().lower() in _CLOSED
    subject = _subject(properties.get("ticket_id"))
    if is_closed:
        return _Said(SignalKind.TICKET_CLOSED, subject)
    severity = severity_rank(properties.get("severity"))
    return _Said(SignalKind.TICKET_OPENED, subject, severity)


def _cancellation(properties: Mapping[str, object]) -> _Said:
    return _Said(SignalKind.CANCELLATION_REQUESTED, None, _day(properties.get("effective_on")))


def _feedback(properties: Mapping[str, object]) -> _Said | None:
    scale, score = properties.get("scale"), _number(properties.get("score"))
    known = _SCALES.get(scale.strip().lower()) if isinstance(scale, str) else None
    if known is None or score is None:
        return None
    kind, lowest, highest = known
    return _Said(kind, None, score) if lowest <= score <= highest else None


def _milestone(properties: Mapping[str, object]) -> _Said:
    return _Said(SignalKind.MILESTONE, _subject(properties.get("milestone")))


def _metric(properties: Mapping[str, object]) -> _Said | None:
    metric, value = _subject(properties.get("metric")), _number(properties.get("value"))
    if metric is None or value is None:
        return None
    return _Said(SignalKind.GOAL_METRIC, metric, value)


def _always(kind: SignalKind) -> Callable[[Mapping[str, object]], _Said]:
    return lambda _properties: _Said(kind)


_READERS: Final[Mapping[str, Callable[[Mapping[str, object]], _Said | None]]] = {
    "cancellation_requested": _cancellation,
    "cancellation_withdrawn": _always(SignalKind.CANCELLATION_WITHDRAWN),
    "feedback": _feedback,
    "goal_metric": _metric,
    "onboarding_milestone": _milestone,
    "payment_failed": _always(SignalKind.PAYMENT_FAILED),
    "payment_succeeded": _always(SignalKind.PAYMENT_SUCCEEDED),
    "support_ticket": _ticket,
}
TYPES: Final = frozenset(_READERS)
"""The types of events that may be signals."""


def _number(value: object) -> float | None:
    # A bool is an int to Python; an int of 400 digits is no float.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _subject(name: object) -> int | None:
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name) if abs(name) < 10**_MAX_NAME else ""
    if not isinstance(name, str):
        return None
    name = name.strip()
    return subject_key(name) if 1 <= len(name) <= _MAX_NAME else None


def _day(text: object) -> float | None:
    """The ordinal of an ISO date, also where a time of day follows."""
    if not isinstance(text, str):
        return None
    try:
        return float(date.fromisoformat(text.strip()[:10]).toordinal())
    except ValueError:
        return None
