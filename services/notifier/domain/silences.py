"""What nobody wants to hear of for a while: said by somebody, for a reason, until a moment."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import is_same, plain
from shared.messages import AccountFields

MAX_SILENCE: Final = timedelta(days=180)


class State(StrEnum):
    """Computed from its times, never stored."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


class Refused(StrEnum):
    """Why a silence is not taken."""

    MATCHES_ALL = "matches_all"
    NO_COMMENT = "no_comment"
    BACKWARDS = "backwards"
    PAST = "past"
    TOO_LONG = "too_long"


class Matchers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that are named must hold; what is left out holds for everything."""

    account: str | None = None
    owner: str | None = None
    segment: str | None = None
    reseller: str | None = None
    type: str | None = None
    reason: str | None = None

    @property
    def is_empty(self) -> bool:
        return self == Matchers()

    def match(self, subject: Intervention, fields: AccountFields) -> bool:
        return (
            self.account in (None, subject.account_id)
            and (self.owner is None or is_same(self.owner, subject.owner))
            and _is_of(self.segment, fields.segment)
            and _is_of(self.reseller, fields.reseller)
            and self.type in (None, subject.type.value)
            and self.reason in (None, subject.reason.value)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    id: UUID
    matchers: Matchers
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    created_at: datetime

    def state(self, now: datetime) -> State:
        if now < self.starts_at:
            return State.PENDING
        return State.ACTIVE if now < self.ends_at else State.EXPIRED


def why_not(silence: Silence, *, now: datetime) -> Refused | None:
    """Why it would not be taken; a silence of everything would be an outage of ours."""
    if silence.matchers.is_empty:
        return Refused.MATCHES_ALL
    if not silence.comment.strip():
        return Refused.NO_COMMENT
    if silence.ends_at <= silence.starts_at:
        return Refused.BACKWARDS
    if silence.ends_at <= now:
        return Refused.PAST
    if silence.ends_at - silence.starts_at > MAX_SILENCE:
        return Refused.TOO_LONG
    return None


def expired(silence: Silence, *, now: datetime) -> Silence | None:
    """Ended now; None where it is over already: what was, stays as it was."""
    if silence.state(now) is State.EXPIRED:
        return None
    starts_at = min(silence.starts_at, now)
    return replace(silence, starts_at=starts_at, ends_at=max(now, starts_at))


def silenced_until(
    silences: Iterable[Silence], subject: Intervention, fields: AccountFields, *, now: datetime
) -> datetime | None:
    """The end of the longest silence that holds for it now; None: none does."""
    return max(
        (
            one.ends_at
            for one in silences
            if one.state(now) is State.ACTIVE and one.matchers.match(subject, fields)
        ),
        default=None,
    )


def _is_of(wanted: str | None, known: str | None) -> bool:
    return wanted is None or (known is not None and plain(wanted) == plain(known))
