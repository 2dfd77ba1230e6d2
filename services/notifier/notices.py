"""Turns the state of an intervention into deliveries: for each destination a reason, or why not.

Called after every change, in its transaction, with the intervention locked: what counts is what
each destination was told last, so it does not matter how often, or why, somebody asks.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import store
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.policy import (
    NotifyReason,
    SuppressReason,
    still_wanted,
    why_notify,
)
from services.notifier.settings import is_mail_address
from services.notifier.tables import deliveries, destinations

SLACK = "slack"
EMAIL = "email"
CHANNELS = (SLACK, EMAIL)
SLACK_DESTINATION = "slack:webhook"
_WAITING = ("pending", "sending")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One place a message goes to, such as `email:anna@example.com`."""

    channel: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Where an owner is reached; which channels there are is the operator's choice."""

    slack: bool
    email: bool
    fallback_owner: str

    def of(self, owner: str) -> Sequence[Route]:
        found = []
        if self.slack:
            found.append(Route(channel=SLACK, destination=SLACK_DESTINATION))
        if self.email:
            # An owner without a usable address must not mean that nobody is told.
            address = owner if is_mail_address(owner) else self.fallback_owner
            found.append(_mail(address))
        return found

    def reach(self, owner: str, destination: str) -> bool:
        """Whether a message about work of `owner` belongs to `destination`."""
        known = [route.destination for route in self.of(owner)]
        return destination in known or destination == _mail(self.fallback_owner).destination

    def fallback_of(self, destination: str) -> Route | None:
        """Who is told instead where `destination` refuses; None at the end of the chain.

        Slack has none: whoever has e-mail too is told there anyway.
        """
        fallback = _mail(self.fallback_owner)
        if not destination.startswith(f"{EMAIL}:") or destination == fallback.destination:
            return None
        return fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided, for the counters."""

    queued: tuple[tuple[str, NotifyReason], ...] = ()
    suppressed: tuple[SuppressReason, ...] = ()

    def plus(self, other: "Decided") -> "Decided":
        return Decided(
            queued=self.queued + other.queued, suppressed=self.suppressed + other.suppressed
        )


def address_of(destination: str) -> str:
    return destination.partition(":")[2]


async def decide(
    connection: AsyncConnection, subject: Intervention, *, routes: Routes, account_lost: bool
) -> Decided:
    """Queue what each destination must be told now; store what is suppressed with its reason."""
    told = await store.read_told(connection, subject.id)
    waiting = set(
        await connection.scalars(
            select(deliveries.c.destination).where(
                deliveries.c.intervention_id == subject.id, deliveries.c.state.in_(_WAITING)
            )
        )
    )
    found = routes.of(subject.owner)
    if not found and why_notify(subject, None) is not None:
        nowhere = Route(channel="none", destination="none")
        return await _suppress(
            connection, subject, nowhere, NotifyReason.FIRST, SuppressReason.NO_DESTINATION
        )
    decided = Decided()
    for route in found:
        if route.destination in waiting:
            continue
        mine = told.get(route.destination)
        elsewhere = next((told[other] for other in told if other != route.destination), None)
        reason = why_notify(subject, mine, told_elsewhere=elsewhere)
        if reason is None:
            continue
        against = still_wanted(subject, mine, reason=reason, account_lost=account_lost)
        if against is not None:
            decided = decided.plus(await _suppress(connection, subject, route, reason, against))
        elif await queue(connection, subject, route, reason):
            decided = decided.plus(Decided(queued=((route.channel, reason),)))
    return decided


async def queue(
    connection: AsyncConnection, subject: Intervention, route: Route, reason: NotifyReason
) -> bool:
    """Store a delivery; False where one waits already. The intervention is locked by the caller."""
    # By version, not by time or number: what was decided at this version, and failed, is not
    # decided again before something has happened to the intervention.
    key = f"notice:{subject.id}:{route.destination}:{subject.version}"
    await connection.execute(
        insert(destinations)
        .values(destination=route.destination, channel=route.channel)
        .on_conflict_do_nothing()
    )
    return await _insert(connection, subject, route, reason, key=key, state="pending")


async def _suppress(
    connection: AsyncConnection,
    subject: Intervention,
    route: Route,
    reason: NotifyReason,
    against: SuppressReason,
) -> Decided:
    # Once per flag and reason: a flag that is updated every hour must not fill the page.
    told_about = "\0".join((subject.seen.flag_id, str(subject.seen.episode), reason, against))
    digest = hashlib.sha256(told_about.encode()).hexdigest()[:24]
    key = f"suppressed:{subject.id}:{route.destination}:{digest}"
    stored = await _insert(
        connection, subject, route, reason, key=key, state="cancelled", against=against
    )
    return Decided(suppressed=(against,)) if stored else Decided()


async def _insert(
    connection: AsyncConnection,
    subject: Intervention,
    route: Route,
    reason: NotifyReason,
    *,
    key: str,
    state: str,
    against: SuppressReason | None = None,
) -> bool:
    values: dict[str, object] = {
        "id": delivery_id(key),
        "dedupe_key": key,
        "intervention_id": subject.id,
        "account_id": subject.account_id,
        "channel": route.channel,
        "destination": route.destination,
        "reason": reason.value,
        "state": state,
    }
    if against is not None:
        values |= {"suppress_reason": against.value, "ended_at": func.now()}
    result = await connection.execute(insert(deliveries).values(**values).on_conflict_do_nothing())
    return result.rowcount == 1


def delivery_id(dedupe_key: str) -> UUID:
    """The same decision has the same id for ever, and with it the same Message-ID."""
    return uuid5(NAMESPACE_URL, f"perennial:{dedupe_key}")


def _mail(address: str) -> Route:
    return Route(channel=EMAIL, destination=f"{EMAIL}:{address.lower()}")
