"""What a delivery says is decided when it is sent: each kind of delivery has its composer.

`delivery.py` claims, asks the composer, sends, and lets the composer write down what came of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier.channels import Message, Receipt
from services.notifier.domain.attempts import Failure
from services.notifier.domain.policy import NotifyReason, SuppressReason
from shared.traceparent import Traceparent


class DeliveryKind(StrEnum):
    """What a delivery is: who composes it, and when it is not wanted any more."""

    NOTICE = "notice"
    """An account's open interventions, to one destination."""
    UPDATE = "update"
    """The message that a notice began with is kept current."""
    STEP = "step"
    """An escalation of one intervention, to somebody else."""
    DIGEST = "digest"
    SUMMARY = "summary"
    """Many new interventions at once, or what quiet hours held back, as one message."""
    OUTAGE = "outage"
    """A destination, or a whole channel, is broken: told to somebody who can mend it."""
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A delivery that is decided. Written once per `dedupe_key`, for ever."""

    kind: DeliveryKind
    dedupe_key: str
    group_key: str
    """At most one of a group waits for a destination: a newer decision joins it, as it is composed
    when it is sent."""
    channel: str
    destination: str
    recipient: str
    """The person whose preferences and hours hold; empty for a shared destination."""
    reason: NotifyReason
    due_at: datetime
    urgent: bool = False
    priority: float = 0.0
    account_id: str | None = None
    intervention_id: UUID | None = None
    subject: Mapping[str, Any] = field(default_factory=dict)
    """What else its composer must know, as JSON."""
    tried: tuple[str, ...] = ()
    """Destinations that refused it before it came to this one."""
    traceparent: str | None = None
    """Of what it tells; None: of whatever has it stored."""
    received_at: datetime | None = None
    """When what caused it arrived, where it was decided as that was taken in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery in the hands of one sender until the lease ends."""

    id: UUID
    claim: UUID
    kind: DeliveryKind
    group_key: str
    channel: str
    destination: str
    recipient: str
    reason: NotifyReason
    urgent: bool
    priority: float
    account_id: str | None
    intervention_id: UUID | None
    subject: Mapping[str, Any]
    tried: tuple[str, ...]
    """Destinations that refused it before: this one is a fallback, wanted whoever it belongs to."""
    attempt: int
    plain: bool
    threadless: bool
    failures: int
    """Of the destination, in a row."""
    is_broken: bool
    """The destination refused us before, and this is not the time to try whether it still does."""
    channel_failures: int
    """Of the whole channel, in a row; above 0 this is the one message that tries it."""
    lease_lost: bool
    """The sender before us claimed it and was not heard of again."""
    may_be_known: bool
    """An attempt before this one may have been taken, although nobody heard so."""
    waited: timedelta
    """Since it was due."""
    received_at: datetime | None = None
    took: timedelta | None = None
    """From then until it was decided."""
    traceparent: Traceparent | None = None
    """Of what it was first wanted for."""
    links: tuple[Traceparent, ...] = ()
    """Of what joined it while it waited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message can go, such as `email:anna@example.com`, and whose hours hold there."""

    channel: str
    destination: str
    recipient: str


def address_of(destination: str) -> str:
    return destination.partition(":")[2]


class Fallbacks(Protocol):
    """Who is told instead."""

    def after(self, held: Claimed) -> Place | None:
        """Where a delivery goes on that is given up; None at the end of the chain."""
        ...

    def admin(self, broken: str) -> Place | None:
        """Who hears that `broken`, a destination or a channel, does not take messages any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided, for the counters."""

    queued: tuple[tuple[str, NotifyReason], ...] = ()
    suppressed: tuple[SuppressReason, ...] = ()

    def plus(self, other: "Decided") -> "Decided":
        return Decided(
            queued=self.queued + other.queued, suppressed=self.suppressed + other.suppressed
        )


class Composer(Protocol):
    """One kind of delivery. `lock` comes first in every transaction that writes."""

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        """Take the locks of what the delivery is about (lock order: `agenda` first)."""
        ...

    async def compose(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        """The message as of now, or why it is not wanted any more. Reads only."""
        ...

    async def accepted(
        self,
        connection: AsyncConnection,
        held: Claimed,
        message: Message,
        receipt: Receipt,
        *,
        now: datetime,
    ) -> Decided:
        """The destination has taken it: write what it was told, and decide what has changed.

        Decisions of its group that came while it was under way have joined it unseen.
        """
        ...

    async def ended(
        self,
        connection: AsyncConnection,
        held: Claimed,
        why: SuppressReason | Failure,
        *,
        now: datetime,
    ) -> Decided:
        """It was not sent, or nobody knows, and will not be unless a person asks for it again.

        A Failure: it goes on to its fallback, where there is one, right after this.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StandAlone:
    """Composer of a kind of which nothing is remembered, and on which nothing hangs."""

    what: Callable[[AsyncConnection, Claimed, datetime], Awaitable[Message | SuppressReason]]

    async def lock(self, connection: AsyncConnection, held: Claimed) -> None:
        pass

    async def compose(
        self, connection: AsyncConnection, held: Claimed, *, now: datetime
    ) -> Message | SuppressReason:
        return await self.what(connection, held, now)

    async def accepted(self, *_told: object, now: datetime) -> Decided:  # noqa: ARG002
        return Decided()

    async def ended(self, *_untold: object, now: datetime) -> Decided:  # noqa: ARG002
        return Decided()
