"""Forms by which people act on interventions: each takes one step, by the version they saw."""

from datetime import UTC, datetime, time, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Form
from fastapi.responses import RedirectResponse, Response

from services.notifier import store
from services.notifier.console import fields, words
from services.notifier.console.fields import Sent, sent
from services.notifier.console.pages import Pages
from services.notifier.console.refusals import SAID, status_of
from services.notifier.console.rights import needs
from services.notifier.domain.access import Right
from services.notifier.domain.calendar import calendar_of
from services.notifier.domain.people import Roster
from services.notifier.domain.sentiments import Mood
from services.notifier.domain.snoozes import Put, end_of
from services.notifier.stepping import NotTaken
from services.notifier.steps import Wall
from shared.messages import OutcomeKind

Version = Annotated[int, Form()]
Text = Annotated[str, Form()]
Sending = Annotated[Sent, Depends(sent)]

_DAY = timedelta(days=1)


def add_forms(app: FastAPI, pages: Pages) -> None:
    _add_beginnings(app, pages)
    _add_endings(app, pages)
    _add_snoozes(app, pages)
    _add_sentiments(app, pages)


def _add_beginnings(app: FastAPI, pages: Pages) -> None:
    steps = pages.steps

    @app.post("/interventions/{intervention_id}/acknowledge", dependencies=[needs(Right.ACT)])
    async def acknowledge(intervention_id: UUID, version: Version, sending: Sending) -> Response:
        return pages.answer(
            await steps.acknowledge(
                intervention_id, version=version, by=sending.viewer, key=sending.key
            )
        )

    @app.post("/interventions/{intervention_id}/reassign", dependencies=[needs(Right.ACT)])
    async def reassign(
        intervention_id: UUID, version: Version, sending: Sending, owner: Text = ""
    ) -> Response:
        to = colleague(owner, steps.stepping.staff.roster())
        if to is None:
            return pages.explain(
                422,
                "Nobody by that address",
                "The team file does not name them. Go back and choose a colleague from the list.",
            )
        return pages.answer(
            await steps.reassign(
                intervention_id, version=version, owner=to, by=sending.viewer, key=sending.key
            )
        )

    @app.post("/interventions/{intervention_id}/tasks/{number}", dependencies=[needs(Right.ACT)])
    async def task(
        intervention_id: UUID, number: int, done: Annotated[bool, Form()], sending: Sending
    ) -> Response:
        return pages.answer(
            await steps.mark_task(
                intervention_id, number, done=done, by=sending.viewer, key=sending.key
            )
        )


def _add_endings(app: FastAPI, pages: Pages) -> None:
    steps = pages.steps

    @app.post("/interventions/{intervention_id}/close", dependencies=[needs(Right.ACT)])
    async def close(
        intervention_id: UUID,
        version: Version,
        sending: Sending,
        outcome: Text = "",
        note: Text = "",
    ) -> Response:
        kind = fields.choice(OutcomeKind, outcome)
        if kind is None:
            return _without_outcome(pages)
        return pages.answer(
            await steps.close(
                intervention_id,
                version=version,
                outcome=kind,
                note=note,
                by=sending.viewer,
                key=sending.key,
            )
        )

    @app.post("/interventions/{intervention_id}/correct", dependencies=[needs(Right.ACT)])
    async def correct(
        intervention_id: UUID,
        version: Version,
        sending: Sending,
        outcome: Text = "",
        note: Text = "",
    ) -> Response:
        kind = fields.choice(OutcomeKind, outcome)
        if kind is None:
            return _without_outcome(pages)
        return pages.answer(
            await steps.correct(
                intervention_id,
                version=version,
                outcome=kind,
                note=note,
                by=sending.viewer,
                key=sending.key,
            )
        )


def _add_snoozes(app: FastAPI, pages: Pages) -> None:
    steps = pages.steps

    @app.post("/interventions/{intervention_id}/snooze", dependencies=[needs(Right.ACT)])
    async def snooze(
        intervention_id: UUID,
        version: Version,
        sending: Sending,
        put: Text = "",
        day: Text = "",
        reason: Text = "",
    ) -> Response:
        until = await _until(pages, intervention_id, put, day)
        if until is None:
            return pages.explain(
                422,
                "Until when?",
                "Choose one of the times, or another day; the last day for notice may be too near"
                " for what you chose. Nothing was changed. Go back and choose again.",
            )
        return pages.answer(
            await steps.snooze(
                intervention_id,
                version=version,
                until=until,
                reason=reason,
                by=sending.viewer,
                key=sending.key,
            )
        )

    @app.post("/interventions/{intervention_id}/wake", dependencies=[needs(Right.ACT)])
    async def wake(intervention_id: UUID, version: Version, sending: Sending) -> Response:
        return pages.answer(
            await steps.wake(intervention_id, version=version, by=sending.viewer, key=sending.key)
        )


def _add_sentiments(app: FastAPI, pages: Pages) -> None:
    # The account stands in the query: browsers change line feeds in fields of a form.
    @app.post("/sentiments", dependencies=[needs(Right.NOTE)])
    async def say(
        account: str, sending: Sending, mood: Text = "", note: Text = "", until: Text = ""
    ) -> Response:
        kind, last = fields.choice(Mood, mood), fields.day(until)
        if kind is None or last is None:
            return pages.explain(
                422,
                "How is it, and until when?",
                "Choose a sentiment and the last day on which it holds. Nothing was changed.",
            )
        result = await pages.steps.say(
            account.replace("\0", ""),
            mood=kind,
            note=note,
            expires_at=datetime.combine(last + _DAY, time(), tzinfo=UTC),
            by=sending.viewer,
            key=sending.key,
        )
        link = words.account_url(account)
        if isinstance(result, NotTaken):
            title, text = SAID[result.refusal]
            return pages.explain(status_of(result.refusal), title, text, link, "See the account")
        return RedirectResponse(link, status_code=303)


def _without_outcome(pages: Pages) -> Response:
    return pages.explain(
        422,
        "An outcome is needed",
        "Choose how the intervention ended; nothing was changed. Go back and close again.",
    )


async def _until(pages: Pages, intervention_id: UUID, put: str, day: str) -> datetime | Wall | None:
    """Another day, where one is given, goes before what was chosen from the list."""
    if day.strip():
        chosen = fields.day(day)
        return None if chosen is None else Wall(day=chosen)
    kind = fields.choice(Put, put)
    if kind is None:
        return None
    async with pages.engine.connect() as connection:
        subject = await store.read(connection, intervention_id)
    if subject is None:
        return pages.clock()  # The step finds that there is none.
    roster = pages.steps.stepping.staff.roster()
    return end_of(
        kind,
        now=pages.clock(),
        calendar=calendar_of(roster.person(subject.owner)),
        notice_by=subject.notice_by,
    )


def colleague(text: str, roster: Roster) -> str | None:
    """The address as the team file writes it; empty where none was given, None: not of ours."""
    wanted = text.strip().lower()
    if not wanted or not roster.people:
        return wanted
    known = {one.lower(): one for one in words.colleagues(roster)}
    return known.get(wanted)
