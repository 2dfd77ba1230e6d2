"""Digests: what is open, once a day or a week, for who has the work and for who leads them.

Order of effects: the digest's row and its delivery in one transaction, so that however many
replicas there are, and however often they start anew, each person gets one per kind and local date.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import queue
from services.notifier.composing import (
    Decided,
    DeliveryKind,
    Place,
    Planned,
)
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.digests import DigestKind, Slot, leads_of, reports_of, slots
from services.notifier.domain.interventions import Status
from services.notifier.domain.people import Person, Roster
from services.notifier.domain.policy import NotifyReason
from services.notifier.metrics import NotifierMetrics
from services.notifier.routes import reach_by_mail
from services.notifier.situations import Desk
from services.notifier.tables import digests, interventions
from shared import database
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.messages import Band
from shared.watchdog import Loop

_EVERY_SECONDS = 20.0

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Sees to it that each digest is sent when it is due; several may run."""

    engine: AsyncEngine
    desk: Desk
    metrics: NotifierMetrics
    clock: Clock
    wake: Callable[[], None]

    async def run(self, stop: asyncio.Event, *, loop: Loop) -> None:
        while not stop.is_set():
            try:
                await self.look_once()
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("digests.away", cause=type(error).__name__)
            loop.progressed()
            await stopped_within(stop, _EVERY_SECONDS)

    async def look_once(self) -> int:
        """Queue the digests that are due now; says how many."""
        now = self.clock()
        roster = self.desk.staff.roster()
        async with self.engine.connect() as connection:
            open_of = await _open_by_owner(connection)
        sent = 0
        for address in sorted(open_of.keys() | leads_of(roster)):
            sent += await self._see_to(roster.person(address), roster, open_of, now=now)
        if sent:
            self.wake()
        return sent

    async def _see_to(
        self, person: Person, roster: Roster, open_of: Mapping[str, int], *, now: datetime
    ) -> int:
        place = reach_by_mail(person.address, roster, self.desk.ways)
        if place is None:
            return 0
        reports = reports_of(person.address, roster)
        found = slots(
            person,
            calendar_of(person),
            mode=person.mode_at(place.channel),
            leads=bool(reports),
            now=now,
        )
        sent = 0
        for slot in found:
            whose = reports if slot.kind is DigestKind.TEAM else {person.address.lower()}
            count = sum(open_of.get(one, 0) for one in whose)
            sent += await self._once(person, place, slot, count, now=now)
        return sent

    async def _once(
        self, person: Person, place: Place, slot: Slot, count: int, *, now: datetime
    ) -> bool:
        recipient = person.address.lower()
        async with self.engine.begin() as connection:
            row = digests.c
            stored = await connection.scalar(
                insert(digests)
                .values(
                    recipient=recipient,
                    kind=slot.kind.value,
                    local_date=slot.local_date,
                    items=count,
                    at=now,
                )
                .on_conflict_do_nothing()
                .returning(row.recipient)
            )
            if stored is None or not count:
                return False
            name = f"{slot.kind.value}:{recipient}"
            planned = Planned(
                kind=DeliveryKind.DIGEST,
                dedupe_key=f"digest:{name}:{slot.local_date.isoformat()}",
                group_key=f"digest:{name}",
                channel=place.channel,
                destination=place.destination,
                recipient=recipient,
                reason=NotifyReason.DIGEST,
                due_at=now,
                subject={"digest": slot.kind.value},
            )
            queued = await queue.put(connection, planned)
        self.metrics.digest_late.set(max(0.0, (now - slot.at).total_seconds()))
        if queued:
            self.metrics.decided(Decided(queued=((place.channel, NotifyReason.DIGEST),)))
        return queued


async def _open_by_owner(connection: AsyncConnection) -> Mapping[str, int]:
    """By address in lower case; what is held out bothers nobody, unless it is critical."""
    row = interventions.c
    is_critical = row.severity == Band.CRITICAL.value
    owner = func.lower(row.owner)
    rows = await connection.execute(
        select(owner.label("owner"), func.count().label("n"))
        .where(row.status != Status.CLOSED.value, or_(~row.held_out, is_critical))
        .group_by(owner)
    )
    return {found.owner: found.n for found in rows}
