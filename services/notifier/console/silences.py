"""The page of silences: what nobody hears of, why and until when; a form to add one, and to end."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4

import msgspec
from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.notifier import silences
from services.notifier.console import fields
from services.notifier.console.fields import Sent, sent
from services.notifier.console.pages import Pages
from services.notifier.console.refusals import SILENCE
from services.notifier.console.rights import needs, viewer_of
from services.notifier.domain.access import Right
from services.notifier.domain.flags import MEANINGS, Kind
from services.notifier.domain.silences import MAX_SILENCE, Matchers, Silence, State

_PATH = "/silences"
_USUAL = timedelta(days=14)
_ORDER = (State.ACTIVE, State.PENDING, State.EXPIRED)
_MATCHERS = Matchers.__struct_fields__

Text = Annotated[str, Form()]


def add_silences(app: FastAPI, pages: Pages) -> None:
    @app.get(_PATH)
    async def listed(request: Request) -> Response:
        given = {name: request.query_params.get(name, "") for name in (*_MATCHERS, "comment")}
        return await _page(pages, given)

    @app.post(_PATH, dependencies=[needs(Right.LEAD)])
    async def add(
        sending: Annotated[Sent, Depends(sent)],
        request: Request,
        starts: Text = "",
        ends: Text = "",
        comment: Text = "",
    ) -> Response:
        now = pages.clock()
        starts_at = fields.moment(starts) if starts.strip() else now
        ends_at = fields.moment(ends)
        if starts_at is None or ends_at is None:
            return _refused(
                pages, "From when, until when?", "Give the end as a day and a time, in UTC."
            )
        matchers = _matchers(await request.form())
        if matchers is None:
            return _refused(
                pages, "No such type or reason", "Choose one from the list, or leave it open."
            )
        silence = Silence(
            id=uuid4(),
            matchers=matchers,
            starts_at=starts_at,
            ends_at=ends_at,
            author=sending.by,
            comment=fields.lines(comment),
            created_at=now,
        )
        async with pages.engine.begin() as connection:
            refused = await silences.add(connection, silence, by=sending.viewer, now=now)
        if refused is not None:
            return _refused(pages, *SILENCE[refused])
        return RedirectResponse(f"{_PATH}#s-{silence.id}", status_code=303)

    @app.post("/silences/{silence_id}/expire", dependencies=[needs(Right.LEAD)])
    async def expire(request: Request, silence_id: UUID) -> Response:
        now, viewer = pages.clock(), viewer_of(request)
        async with pages.engine.begin() as connection:
            if await silences.expire(connection, silence_id, by=viewer, now=now):
                return RedirectResponse(_PATH, status_code=303)
        return pages.explain(
            409,
            "Over already",
            "There is no such silence, or it has ended. Nothing was changed.",
            _PATH,
            "All silences",
        )


async def _page(pages: Pages, given: Mapping[str, str]) -> Response:
    now = pages.clock()
    async with pages.engine.connect() as connection:
        found = await silences.history(connection)
    return pages.page(
        "silences.html",
        groups=[(state, _of(found, state, now)) for state in _ORDER],
        given=given,
        ends=(now + _USUAL).astimezone(UTC),
        longest_days=MAX_SILENCE.days,
        kinds=list(Kind),
        reasons=list(MEANINGS),
        now=now,
    )


def _of(found: Sequence[Silence], state: State, now: datetime) -> Sequence[Silence]:
    return [one for one in found if one.state(now) is state]


def _matchers(form: Mapping[str, object]) -> Matchers | None:
    """What was named; None where a type or a reason is not one of ours."""
    given = {name: fields.line(str(form.get(name, ""))) for name in _MATCHERS}
    named = {name: value for name, value in given.items() if value is not None}
    if named.get("type", Kind.LAND) not in set(Kind):
        return None
    if "reason" in named and named["reason"] not in {one.value for one in MEANINGS}:
        return None
    return msgspec.convert(named, Matchers)


def _refused(pages: Pages, title: str, text: str) -> Response:
    return pages.explain(422, title, text, _PATH, "All silences")
