"""Ways to reach a person. A channel sends one message once and says how it ended; it never retries.

`delivery.py` alone decides what follows from a failure.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Protocol
from uuid import UUID

from services.notifier.domain.attempts import Failure
from services.notifier.domain.policy import NotifyReason
from shared.errors import PerennialError
from shared.messages import Band, FlagReason, Reason, ValueAtRisk


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a person must learn; each channel puts it into its own form."""

    delivery_id: UUID
    intervention_id: UUID
    created_at: datetime
    to: str
    """The address of a person, where the channel has one."""
    why: NotifyReason
    account_id: str
    account_name: str
    reason: FlagReason
    severity: Band
    summary: str
    owner: str
    due_at: datetime
    zone: tzinfo
    url: str
    """The account's page; percent-encoded, so that it is inert in every format."""
    risk: float | None
    value_at_risk: ValueAtRisk | None
    renewal_date: date | None
    reasons: tuple[Reason, ...]
    plain: bool = False
    """Whether the rich form was refused: send bare text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The other side has taken the message over."""

    provider_id: str | None = None


class DeliveryError(PerennialError):
    """A destination did not take a message."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.detail}")
        self.failure = failure


class Channel(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def pace(self) -> timedelta:
        """The least time between two messages to one destination."""
        ...

    async def send(self, message: Message) -> Receipt:
        """Hand the message over once; raises DeliveryError, nothing else."""
        ...
