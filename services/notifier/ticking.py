"""Applies what time has done to an intervention; called by the look, with the agenda locked."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import outcomes, store
from services.notifier.domain import ticks
from services.notifier.domain.calendar import Calendar
from services.notifier.domain.interventions import SYSTEM, Intervention
from services.notifier.domain.priority import prioritised
from services.notifier.domain.ticks import Ticked
from services.notifier.store import Entry

_ENTRIES = {
    Ticked.SNOOZE_ENDED: Entry.SNOOZE_ENDED,
    Ticked.UNACKNOWLEDGED: Entry.UNACKNOWLEDGED,
    Ticked.EXPIRED: Entry.EXPIRED,
    Ticked.CLOSED: Entry.CLOSED,
}


async def tick(
    connection: AsyncConnection,
    current: Intervention,
    *,
    calendar: Calendar,
    account_lost: bool,
    now: datetime,
) -> Intervention:
    """All that is due by `now`, stored and told; the intervention as it is then.

    `calendar`: the owner's. Its priority is brought up to date too, since days have passed.
    """
    today = now.astimezone(UTC).date()
    subject = current
    while step := ticks.tick(subject, now=now, calendar=calendar, account_lost=account_lost):
        ticked, changed = step
        subject = prioritised(changed, today=today)
        if not await store.change(connection, subject):
            raise RuntimeError("an intervention changed although its account was locked")
        outcome = subject.outcome.value if ticked is Ticked.CLOSED and subject.outcome else None
        await store.tell(connection, subject, _ENTRIES[ticked], by=SYSTEM, at=now, outcome=outcome)
        if ticked is Ticked.CLOSED:
            await outcomes.publish(connection, subject)
    fresh = prioritised(subject, today=today)
    if subject.is_open and fresh.priority != subject.priority:
        await store.save_priorities(connection, [fresh])
        return fresh
    return subject
