"""Ways to reach a person. A channel sends one message once and says how it ended; it never retries.

`delivery.py` alone decides what follows from a failure.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Protocol
from uuid import UUID

from services.notifier.domain.attempts import Failure
from services.notifier.domain.flags import Kind, WorkReason
from services.notifier.domain.interventions import Status
from services.notifier.domain.policy import NotifyReason
from shared.errors import PerennialError
from shared.messages import Band, OutcomeKind, Reason, ValueAtRisk
from shared.traceparent import Traceparent


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One intervention as a message shows it."""

    intervention_id: UUID
    version: int
    account_id: str
    account_name: str
    type: Kind
    reason: WorkReason
    severity: Band
    status: Status
    summary: str
    owner: str
    due_at: datetime
    zone: tzinfo
    """The owner's, else the account's."""
    url: str
    """Percent-encoded, so that it is inert in every format."""
    risk: float | None = None
    value_at_risk: ValueAtRisk | None = None
    renewal_date: date | None = None
    reasons: tuple[Reason, ...] = ()
    is_news: bool = True
    """What the message is about; others stand beside it."""
    acknowledged_by: str | None = None
    snoozed_until: datetime | None = None
    recovered: bool = False
    outcome: OutcomeKind | None = None
    next_task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """Where the other side keeps a conversation: Slack's channel id and `ts` of its parent."""

    channel: str
    ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a person must learn; each channel puts it into its own form."""

    delivery_id: UUID
    created_at: datetime
    to: str
    """The address at the channel: of a person, of a Slack channel, the name of a webhook."""
    why: NotifyReason
    items: tuple[Item, ...]
    """The most urgent first; of several accounts in a digest or a summary; empty only in a test."""
    url: str
    """The console's page of it all."""
    root: UUID
    """The same for all messages of one conversation."""
    more: int = 0
    """Items that were left out."""
    thread: Thread | None = None
    """Where the conversation stands; None: this message begins one."""
    edit: bool = False
    """Its parent is to show this state; nothing is posted."""
    mention: str | None = None
    """The recipient's id at the channel, where they must be called by name."""
    text: str = ""
    """What there is to say beyond the items, by us, never from outside."""
    unsubscribe_url: str | None = None
    traceparent: Traceparent | None = None
    """Where it came from, for machines."""
    plain: bool = False
    """Whether the rich form was refused: send bare text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The other side has taken the message over."""

    provider_id: str | None = None
    thread: Thread | None = None


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

    @property
    def edits(self) -> bool:
        """Whether it can keep a message that is there current (`Message.edit`)."""
        ...

    async def send(self, message: Message) -> Receipt:
        """Hand the message over once; raises DeliveryError, nothing else."""
        ...
