"""What people do, in the console or in Slack: acknowledge, snooze, pass on, close, feel.

`by`: who, with the rights of their role; on other people's work a csm takes no steps. `version` is
the one that the person saw; None: whatever it is now. With a `key` (of the request) a
step that comes again is not taken again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from services.notifier import audit, request_keys, sentiments, store, taking, tasks
from services.notifier.domain import signals, steps
from services.notifier.domain.access import Right, Viewer
from services.notifier.domain.calendar import Calendar
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import is_mail_address
from services.notifier.domain.refusals import Refusal
from services.notifier.domain.sentiments import Mood, Sentiment, why_not_said
from services.notifier.domain.steps import Result
from services.notifier.request_keys import Request
from services.notifier.stepping import Changed, Follow, NotTaken, Place, Stepping
from services.notifier.store import Entry
from services.notifier.taking import Locked
from shared import traceparent
from shared.messages import AccountFields, OutcomeKind

_MAX_TEXT = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """A time by the clock of an intervention's owner, whose zone the caller need not know."""

    day: date
    at: time | None = None
    """None: when they begin to work."""


@dataclass(frozen=True, slots=True)
class Steps:
    stepping: Stepping

    async def acknowledge(
        self, intervention_id: UUID, *, version: int | None, by: Viewer, key: str | None = None
    ) -> Changed:
        def step(place: Place) -> Result:
            return steps.acknowledge(place.current, version=version, by=by.address, now=place.now)

        return await self.stepping.change(
            intervention_id, Entry.ACKNOWLEDGED, step, follow=_telling(), by=by, key=key
        )

    async def close(
        self,
        intervention_id: UUID,
        *,
        version: int | None,
        outcome: OutcomeKind,
        note: str,
        by: Viewer,
        key: str | None = None,
    ) -> Changed:
        said = _clean(note)

        def step(place: Place) -> Result:
            return steps.close(
                place.current,
                version=version,
                outcome=outcome,
                note=said,
                by=by.address,
                now=place.now,
            )

        follow = _telling(outcome=outcome.value, note=said)
        return await self.stepping.change(
            intervention_id, Entry.CLOSED, step, follow=follow, by=by, key=key
        )

    async def correct(
        self,
        intervention_id: UUID,
        *,
        version: int | None,
        outcome: OutcomeKind,
        note: str,
        by: Viewer,
        key: str | None = None,
    ) -> Changed:
        """Another outcome, or note, for what is closed; it is published again."""
        said = _clean(note)

        def step(place: Place) -> Result:
            return steps.correct(
                place.current,
                version=version,
                outcome=outcome,
                note=said,
                by=by.address,
                now=place.now,
            )

        follow = _telling(outcome=outcome.value, note=said)
        return await self.stepping.change(
            intervention_id, Entry.CORRECTED, step, follow=follow, by=by, key=key
        )

    async def snooze(
        self,
        intervention_id: UUID,
        *,
        version: int | None,
        until: datetime | Wall,
        reason: str,
        by: Viewer,
        key: str | None = None,
    ) -> Changed:
        why = _clean(reason)

        def step(place: Place) -> Result:
            calendar = place.calendar
            return steps.snooze(
                place.current,
                version=version,
                until=_moment(until, calendar) if isinstance(until, Wall) else until,
                zone=calendar.zone,
                reason=why,
                by=by.address,
                now=place.now,
            )

        async def follow(_: Place, changed: Intervention) -> Mapping[str, str]:
            end = changed.snooze.until.isoformat() if changed.snooze else ""
            return {"until": end, "reason": why}

        return await self.stepping.change(
            intervention_id, Entry.SNOOZED, step, follow=follow, by=by, key=key
        )

    async def wake(
        self, intervention_id: UUID, *, version: int | None, by: Viewer, key: str | None = None
    ) -> Changed:
        """End the snooze now."""

        def step(place: Place) -> Result:
            return steps.wake(place.current, version=version, now=place.now)

        return await self.stepping.change(
            intervention_id, Entry.WOKEN, step, follow=_telling(), by=by, key=key
        )

    async def reassign(
        self,
        intervention_id: UUID,
        *,
        version: int | None,
        owner: str,
        by: Viewer,
        key: str | None = None,
    ) -> Changed:
        """Give it to somebody else, by address; tasks that are not done go with it."""
        to = owner.strip() if is_mail_address(owner.strip()) else ""

        def step(place: Place) -> Result:
            return steps.reassign(place.current, version=version, owner=to, now=place.now)

        async def follow(place: Place, changed: Intervention) -> Mapping[str, str]:
            await place.locked.move_tasks(changed)
            return {"from": place.current.owner, "to": changed.owner}

        return await self.stepping.change(
            intervention_id, Entry.OWNER_CHANGED, step, follow=follow, by=by, key=key
        )

    async def mark_task(
        self, intervention_id: UUID, number: int, *, done: bool, by: Viewer, key: str | None = None
    ) -> Changed:
        """Tick a task of the present episode, or untick it; one that is so already is refused."""

        def step(place: Place) -> Result:
            task = place.task(number)
            if task is None:
                return Refusal.UNKNOWN
            if task.is_done is done and place.current.is_open:
                return Refusal.UNCHANGED
            return steps.work(place.current, done=done, by=by.address, now=place.now)

        async def follow(place: Place, _: Intervention) -> Mapping[str, str]:
            done_at, done_by = (place.now, by.address) if done else (None, None)
            title = ""
            if task := place.task(number):
                await tasks.mark(place.connection, task, done_at=done_at, by=done_by)
                title = task.title
            return {"task": title}

        def whose(place: Place) -> str | None:
            task = place.task(number)
            return None if task is None else task.owner

        entry = Entry.TASK_DONE if done else Entry.TASK_UNDONE
        return await self.stepping.change(
            intervention_id, entry, step, follow=follow, by=by, key=key, whose=whose
        )

    async def say(
        self,
        account_id: str,
        *,
        mood: Mood,
        note: str,
        expires_at: datetime,
        by: Viewer,
        key: str | None = None,
    ) -> Sentiment | NotTaken:
        """What somebody feels about the account, until then or until somebody says otherwise."""
        now = self.stepping.clock()
        said = Sentiment(
            id=uuid4() if key is None else uuid5(NAMESPACE_URL, f"perennial:sentiment:{key}"),
            account_id=account_id,
            mood=mood,
            note=_clean(note),
            by=by.address,
            at=now,
            expires_at=expires_at.astimezone(UTC),
        )
        request = Request(step=Entry.SENTIMENT.value, account_id=account_id, subject=said.id)
        async with self.stepping.engine.begin() as connection:
            locked = await taking.lock(connection, [account_id], self.stepping.staff, now=now)
            if done := await request_keys.taken(connection, key):
                before = await sentiments.read(connection, said.id) if done == request else None
                return before or NotTaken(refusal=Refusal.KEY_REUSED)
            if not by.may(Right.NOTE):
                return NotTaken(refusal=Refusal.NOT_YOURS)
            refusal = why_not_said(said) if _is_known(locked, account_id) else Refusal.UNKNOWN
            if refusal is not None:
                return NotTaken(refusal=refusal)
            await sentiments.add(connection, said)
            await store.tell_of_account(
                connection,
                account_id,
                Entry.SENTIMENT,
                by=by.address,
                at=now,
                mood=mood.value,
                note=said.note or None,
                until=said.expires_at.isoformat(),
            )
            await audit.write(
                connection,
                by,
                "account.sentiment",
                account_id,
                at=now,
                account_id=account_id,
                mood=mood.value,
            )
            await locked.take(
                signals.of_sentiment(
                    said, locked.fields_of(account_id), traceparent=traceparent.current()
                ),
                by=by.address,
            )
            decided = await self.stepping.finish(locked, key, request)
        self.stepping.count(locked, decided)
        return said


def _telling(**detail: str) -> Follow:
    """Nothing else is written; the timeline tells `detail`."""

    async def follow(_: Place, __: Intervention) -> Mapping[str, str]:
        return {name: text for name, text in detail.items() if text}

    return follow


def _moment(wall: Wall, calendar: Calendar) -> datetime:
    """By the zone, not by its offset of today; a time that the clocks skip moves by the gap."""
    local = datetime.combine(wall.day, wall.at or calendar.opens, tzinfo=calendar.zone)
    return local.astimezone(UTC)


def _is_known(locked: Locked, account_id: str) -> bool:
    """Whether the directory or a flag names it, and nobody erased it since."""
    return locked.fields_of(account_id) != AccountFields() or any(locked.open_of(account_id))


def _clean(text: str) -> str:
    """What a person wrote, with its lines, without characters that PostgreSQL refuses."""
    kept = "".join(char for char in text if char.isprintable() or char == "\n")
    return kept.strip()[:_MAX_TEXT]
