"""What somebody of ours feels about an account: beside the risk, never mixed into it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.notifier.domain.refusals import Refusal

MAX_SENTIMENT = timedelta(days=366)


class Mood(StrEnum):
    GOOD = "good"
    NEUTRAL = "neutral"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentiment:
    """Holds until it expires, or somebody says otherwise."""

    id: UUID
    account_id: str
    mood: Mood
    note: str
    by: str
    at: datetime
    expires_at: datetime


def why_not_said(said: Sentiment) -> Refusal | None:
    if said.mood is Mood.BAD and not said.note:
        return Refusal.NOTE_MISSING
    if said.expires_at <= said.at:
        return Refusal.PAST
    if said.expires_at - said.at > MAX_SENTIMENT:
        return Refusal.TOO_LONG
    return None
