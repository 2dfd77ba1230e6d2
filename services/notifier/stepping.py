"""One step of a person, as one transaction.

Order of effects: 1 the account is locked, and whose work it is decides who may, 2 intervention or
sentiment, 3 timeline and audit, 4 outcome, 5 the look, which stores deliveries, 6 the request's
key. Counters and senders hear of it after the commit. A step that comes again with its key answers
what it answered, and writes nothing.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import audit, looks, request_keys, store, taking, tasks
from services.notifier.composing import Decided
from services.notifier.domain.access import Viewer
from services.notifier.domain.calendar import Calendar, calendar_of
from services.notifier.domain.interventions import Intervention, Status
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.steps import Result
from services.notifier.domain.tasks import Task
from services.notifier.metrics import NotifierMetrics
from services.notifier.request_keys import Request
from services.notifier.situations import Desk
from services.notifier.store import Entry
from services.notifier.taking import Locked, Staff
from shared.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """The step was refused; the intervention as it is now, None where there is none."""

    refusal: Refusal
    intervention: Intervention | None = None


Changed: TypeAlias = Intervention | NotTaken


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a step is taken: an intervention whose account is locked."""

    locked: Locked
    current: Intervention
    tasks: Sequence[Task]

    @property
    def connection(self) -> AsyncConnection:
        return self.locked.connection

    @property
    def now(self) -> datetime:
        return self.locked.now

    @property
    def calendar(self) -> Calendar:
        """The owner's."""
        return calendar_of(self.locked.roster.person(self.current.owner))

    def may(self, viewer: Viewer, owner: str | None = None) -> bool:
        """Whether they may take a step on it; `owner`: of the part that it is about."""
        fallback = {self.locked.roster.fallback_owner}
        owners = {self.current.owner, owner or self.current.owner}
        return any(viewer.may_act_on(one, fallback=fallback) for one in owners)

    def task(self, number: int) -> Task | None:
        """Of the present episode."""
        return next((one for one in self.tasks if one.number == number), None)


Step: TypeAlias = Callable[[Place], Result]
Whose: TypeAlias = Callable[[Place], str | None]
"""Who besides the intervention's owner may take the step: the owner of a task."""
Follow: TypeAlias = Callable[[Place, Intervention], Awaitable[Mapping[str, str]]]
"""Writes what belongs to a step besides the intervention; what the timeline tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepping:
    engine: AsyncEngine
    staff: Staff
    desk: Desk
    metrics: NotifierMetrics
    clock: Clock
    wake: Callable[[], None]
    """Called after each commit."""

    async def change(
        self,
        intervention_id: UUID,
        entry: Entry,
        step: Step,
        *,
        follow: Follow,
        by: Viewer,
        key: str | None,
        whose: Whose | None = None,
    ) -> Changed:
        """Take the step and tell of it as `entry`, unless it was taken by that key before."""
        now = self.clock()
        async with self.engine.begin() as connection:
            place = await self._go(connection, intervention_id, now=now)
            if place is None:
                return NotTaken(refusal=Refusal.UNKNOWN)
            current = place.current
            account_id = current.account_id
            request = Request(step=entry.value, account_id=account_id, subject=intervention_id)
            if done := await request_keys.taken(connection, key):
                if done == request:
                    return current
                return NotTaken(refusal=Refusal.KEY_REUSED, intervention=current)
            if not place.may(by, None if whose is None else whose(place)):
                return NotTaken(refusal=Refusal.NOT_YOURS, intervention=current)
            result = step(place)
            if isinstance(result, Refusal):
                return NotTaken(refusal=result, intervention=current)
            changed = await place.locked.change(result)
            detail = await follow(place, changed)
            is_taken_on = current.status is Status.OPEN and changed.status is Status.ACKNOWLEDGED
            if is_taken_on and entry is not Entry.ACKNOWLEDGED:
                await store.tell(connection, changed, Entry.ACKNOWLEDGED, by=by.address, at=now)
            await store.tell(connection, changed, entry, by=by.address, at=now, **detail)
            await audit.write_step(connection, by, entry, changed, detail, at=now)
            if changed.revision > current.revision:
                await place.locked.publish(changed)
            decided = await self.finish(place.locked, key, request)
        self.count(place.locked, decided)
        if is_taken_on:
            self.metrics.ack_seconds.observe((now - changed.opened_at).total_seconds())
        return changed

    async def finish(self, locked: Locked, key: str | None, request: Request) -> Decided:
        """Look at the account, and keep the key: the end of the transaction."""
        connection = locked.connection
        account_ids = [request.account_id]
        decided = await looks.look(connection, account_ids, self.desk, now=locked.now, at_once=True)
        await request_keys.keep(connection, key, request, at=locked.now)
        return decided

    def count(self, locked: Locked, decided: Decided) -> None:
        """After the commit."""
        locked.effects.count(self.metrics)
        self.metrics.decided(decided)
        self.wake()

    async def _go(
        self, connection: AsyncConnection, intervention_id: UUID, *, now: datetime
    ) -> Place | None:
        seen = await store.read(connection, intervention_id)
        if seen is None:
            return None
        locked = await taking.lock(connection, [seen.account_id], self.staff, now=now)
        current = await store.read(connection, intervention_id)
        # An erased one is a row without an owner: nobody learns anything from it any more.
        if current is None or not current.owner:
            return None
        of_episode = await tasks.of_episode(connection, current)
        return Place(locked=locked, current=current, tasks=of_episode)
