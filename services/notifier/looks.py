"""Looks at accounts: what time has changed, what each destination must be told, when to look again.

Called in the transaction that changed something, with the accounts' agenda locked (`agenda.lock`),
and by the clock. It does not matter how often, or why: what counts is what was told. Order of
effects: 1 interventions that time has changed, 2 escalation, 3 deliveries, or why there is none,
4 notices, 5 the agenda.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.notifier import agenda, notice_rows, queue, situations, store, ticking
from services.notifier.composing import Decided, DeliveryKind, Planned
from services.notifier.domain import ticks
from services.notifier.domain.assignment import is_in_fallback_queue
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.decisions import Decision
from services.notifier.domain.escalation import escalate
from services.notifier.domain.interventions import SYSTEM, Intervention
from services.notifier.domain.notice import Notice
from services.notifier.domain.people import Roster
from services.notifier.domain.policy import SuppressReason
from services.notifier.metrics import NotifierMetrics
from services.notifier.plans import (
    of_bundle,
    of_held,
    of_notice,
    of_nowhere,
    of_step,
    of_update,
)
from services.notifier.routes import places_of
from services.notifier.situations import Crowds, Desk, Group, Situation
from services.notifier.store import Entry
from shared import database, traceparent
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.watchdog import Loop

_EVERY_SECONDS = 1.0
_AWAY_SECONDS = 1.0
# One transaction holds its accounts while it decides: keep it far below a second.
_AT_ONCE = 50

log = logs.get(__name__)


@dataclass(slots=True, kw_only=True)
class _Plans:
    """What the looks of one transaction came to, to be stored together."""

    received: Mapping[str, datetime]
    put: dict[tuple[str, str], Planned] = field(default_factory=dict)
    suppressed: list[tuple[Planned, SuppressReason]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    look_at: dict[str, datetime | None] = field(default_factory=dict)
    traces: dict[UUID, str | None] = field(default_factory=dict)
    """Of what each intervention took in last."""

    def add(self, planned: Planned) -> None:
        """Of one group and destination the first: the others would join it."""
        # Who does something now is why; where it is time, or many flags, its own flag is.
        if planned.intervention_id is not None:
            trace = traceparent.current() or self.traces.get(planned.intervention_id)
            planned = replace(planned, traceparent=trace)
        self.put.setdefault((planned.group_key, planned.destination), planned)


async def look(
    connection: AsyncConnection,
    account_ids: Collection[str],
    desk: Desk,
    *,
    now: datetime,
    at_once: bool = False,
    known: Collection[tuple[str, SuppressReason]] = (),
    received: Mapping[str, datetime] = MappingProxyType({}),
) -> Decided:
    """Decide about these accounts.

    `at_once`: a person has just done something, and looks at the message that shows it. `known`:
    destinations of which it is stored already why nothing was sent there. `received`: by account,
    when what is taken in now arrived.
    """
    if not account_ids:
        return Decided()
    found = await situations.read(connection, account_ids, now=now)
    return await look_at(
        connection, found, desk, now=now, at_once=at_once, known=known, received=received
    )


async def look_at(
    connection: AsyncConnection,
    found: Mapping[str, Situation],
    desk: Desk,
    *,
    now: datetime,
    at_once: bool = False,
    known: Collection[tuple[str, SuppressReason]] = (),
    received: Mapping[str, datetime] = MappingProxyType({}),
) -> Decided:
    """As `look`, where what is decided upon was read in this transaction already."""
    roster = desk.staff.roster()
    ticked = [await _tick(connection, one, roster, now=now) for one in found.values()]
    chosen = await _decide(connection, ticked, desk, roster, at_once=at_once, now=now)
    plans = _Plans(received=received)
    for situation, decisions in zip(ticked, chosen, strict=True):
        _plan(plans, situation, decisions, desk, roster, now=now)
    return await _store(connection, plans, known, now=now)


async def _decide(
    connection: AsyncConnection,
    found: Sequence[Situation],
    desk: Desk,
    roster: Roster,
    *,
    at_once: bool,
    now: datetime,
) -> list[list[tuple[Group, Decision]]]:
    """Of each situation its groups, and what is decided about them."""
    groups = [situations.groups_of(one, desk, roster, now=now) for one in found]

    def decided(crowded: Crowds) -> list[list[tuple[Group, Decision]]]:
        return [
            [
                (one, situations.decided(one, desk, roster, crowded, at_once=at_once, now=now))
                for one in each
            ]
            for each in groups
        ]

    chosen = decided(Crowds())
    # Most looks tell nobody anything, or what is urgent: who has had too much does not matter.
    if not any(situations.may_be_crowded_out(decision) for each in chosen for _, decision in each):
        return chosen
    owners = {subject.owner.lower() for one in found for subject in one.subjects.values()}
    return decided(await situations.crowds(connection, owners, desk.storm, now=now))


async def _tick(
    connection: AsyncConnection, situation: Situation, roster: Roster, *, now: datetime
) -> Situation:
    """The situation after what time alone has done to it."""
    subjects = {
        subject.id: await ticking.tick(
            connection,
            subject,
            calendar=calendar_of(roster.person(subject.owner)),
            account_lost=situation.account.is_lost,
            now=now,
        )
        for subject in situation.subjects.values()
    }
    return replace(situation, subjects=subjects)


def _plan(
    plans: _Plans,
    situation: Situation,
    decisions: Sequence[tuple[Group, Decision]],
    desk: Desk,
    roster: Roster,
    *,
    now: datetime,
) -> None:
    account_id = situation.account.account_id
    plans.traces |= {one.id: one.seen.traceparent for one in situation.subjects.values()}
    moments: list[datetime | None] = []
    for group, decision in decisions:
        moments.append(decision.next_at)
        if decision.reason is not None and decision.due_at is not None:
            planned = of_notice(group, decision, decision.reason, decision.due_at)
            plans.add(replace(planned, received_at=plans.received.get(account_id)))
        if decision.update_at is not None:
            plans.add(of_update(group, decision, decision.update_at))
        if decision.bundle_at is not None:
            plans.add(of_bundle(group, decision, decision.bundle_at))
        for held in decision.held:
            plans.suppressed.append((of_held(group, held, now=now), held.against))
        if decision.notice != group.notice:
            plans.notices.append(decision.notice)
    for subject in situation.subjects.values():
        if not subject.is_open:
            continue
        if not places_of(subject, roster, desk.ways):
            plans.suppressed.append((of_nowhere(subject, now=now), SuppressReason.NO_DESTINATION))
        moments.append(_escalate(plans, situation, subject, desk, roster, now=now))
        calendar = calendar_of(roster.person(subject.owner))
        moments.append(ticks.next_tick(subject, now=now, calendar=calendar))
    plans.look_at[account_id] = min((one for one in moments if one is not None), default=None)


def _escalate(
    plans: _Plans,
    situation: Situation,
    subject: Intervention,
    desk: Desk,
    roster: Roster,
    *,
    now: datetime,
) -> datetime | None:
    """Plan the steps that are due; when the next one is."""
    if not situations.may_escalate(situation, subject, desk, now=now):
        return None
    escalation = escalate(
        subject,
        calendar=calendar_of(roster.person(subject.owner)),
        in_fallback_queue=is_in_fallback_queue(subject.owner, situation.account.fields, roster),
        now=now,
    )
    # The latest first: those before it that go to the same place would say the same.
    for step in reversed(escalation.due):
        for planned in of_step(subject, step, situation.account.fields, desk, roster, now=now):
            plans.add(planned)
    return escalation.next_at


async def _store(
    connection: AsyncConnection,
    plans: _Plans,
    known: Collection[tuple[str, SuppressReason]],
    *,
    now: datetime,
) -> Decided:
    steps = [one for one in plans.put.values() if one.kind is DeliveryKind.STEP]
    others = [one for one in plans.put.values() if one.kind is not DeliveryKind.STEP]
    steps = await queue.anew(connection, steps)
    stored = await queue.put_all(connection, [*others, *steps])
    wanted = [
        (planned, against)
        for planned, against in plans.suppressed
        if (planned.destination, against) not in known
    ]
    suppressed = await queue.suppress_all(connection, wanted)
    for planned, against in suppressed:
        await tell_untold(connection, planned, against, now=now)
    await notice_rows.save(connection, plans.notices)
    await agenda.write(connection, plans.look_at)
    return Decided(
        queued=tuple((planned.channel, planned.reason) for planned in stored),
        suppressed=tuple(against for _, against in suppressed),
    )


async def tell_untold(
    connection: AsyncConnection, planned: Planned, against: SuppressReason, *, now: datetime
) -> None:
    """An entry in the timeline: somebody was not told, and why."""
    if planned.account_id is None:
        return
    await store.tell_of_account(
        connection,
        planned.account_id,
        Entry.SUPPRESSED,
        intervention_id=planned.intervention_id,
        by=SYSTEM,
        at=now,
        channel=planned.channel,
        to=planned.destination.partition(":")[2],
        reason=against.value,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clockwork:
    """Looks at accounts when their time has come; several may run, in one process or in many."""

    engine: AsyncEngine
    desk: Desk
    metrics: NotifierMetrics
    clock: Clock
    wake: Callable[[], None]

    async def run(self, stop: asyncio.Event, *, loop: Loop) -> None:
        while not stop.is_set():
            try:
                busy = await self.look_once()
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("agenda.away", cause=type(error).__name__)
                await stopped_within(stop, _AWAY_SECONDS)
                busy = True
            loop.progressed()
            if not busy:
                await stopped_within(stop, _EVERY_SECONDS)

    async def look_once(self) -> bool:
        """Look at some of the accounts that are due; False where there is none."""
        now = self.clock()
        async with self.engine.begin() as connection:
            due = await agenda.take_due(connection, now=now, limit=_AT_ONCE)
            decided = await look(connection, due, self.desk, now=now)
        if due:
            self.metrics.decided(decided)
            self.wake()
        return len(due) == _AT_ONCE
