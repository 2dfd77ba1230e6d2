"""Silences: listed, added, ended."""

from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import msgspec
from fastapi import Depends, FastAPI, Response
from pydantic import Field

from services.notifier import silences
from services.notifier.api import views
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Body, Line, Lines, Moment
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer, refused
from services.notifier.console import fields
from services.notifier.console.refusals import SILENCE
from services.notifier.domain.access import Viewer
from services.notifier.domain.flags import MEANINGS, Kind
from services.notifier.domain.silences import Matchers, Silence
from shared.credentials import Scope

_TAGS: Final[list[Any]] = ["silences"]


class Matching(Body):
    """All that are named must hold."""

    account: Line | None = None
    owner: Line | None = None
    segment: Line | None = None
    reseller: Line | None = None
    type: Kind | None = None
    reason: Line | None = None


class NewSilence(Body):
    matchers: Matching
    ends_at: Moment
    comment: Lines
    starts_at: Annotated[Moment | None, Field(description="null: from now on")] = None


def add_silences(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.SETTINGS_READ))]
    writer = Depends(desk.callers.needs(Scope.SETTINGS_WRITE))

    @app.get("/api/v1/silences", responses=answers("silences"), tags=_TAGS, dependencies=reads)
    async def list_silences() -> Response:
        """The newest 200, those that are over included."""
        now = desk.clock()
        async with desk.engine.connect() as connection:
            found = await silences.history(connection)
        return answer({"silences": [views.silence(one, now=now) for one in found]})

    @app.post(
        "/api/v1/silences", responses=answers("silence", status=201), tags=_TAGS, status_code=201
    )
    async def add(body: NewSilence, viewer: Annotated[Viewer, writer]) -> Response:
        """Nobody hears of what matches until then; 180 days at most."""
        now = desk.clock()
        silence = Silence(
            id=uuid4(),
            matchers=_matchers(body.matchers),
            starts_at=body.starts_at or now,
            ends_at=body.ends_at,
            author=viewer.address,
            comment=fields.lines(body.comment),
            created_at=now,
        )
        async with desk.engine.begin() as connection:
            why = await silences.add(connection, silence, by=viewer, now=now)
            if why is not None:
                raise refused(422, why.value, SILENCE[why][1])
        return answer(views.silence(silence, now=now), 201)

    @app.post("/api/v1/silences/{silence_id}/expire", responses=answers("expired", 409), tags=_TAGS)
    async def expire(silence_id: UUID, viewer: Annotated[Viewer, writer]) -> Response:
        """End it now: what it kept quiet is looked at again."""
        now = desk.clock()
        async with desk.engine.begin() as connection:
            if not await silences.expire(connection, silence_id, by=viewer, now=now):
                raise refused(409, "over_already", "there is no such silence, or it has ended")
        return answer({"id": silence_id, "ends_at": now})


def _matchers(given: Matching) -> Matchers:
    named = {
        name: fields.line(text) for name, text in given.model_dump(mode="json").items() if text
    }
    if named.get("reason") not in (None, *(one.value for one in MEANINGS)):
        raise refused(422, "invalid_request", "body.matchers.reason: not one of Perennial's")
    return msgspec.convert({name: text for name, text in named.items() if text}, Matchers)
