"""Steps on interventions: the same as in the console and in Slack, by the version one saw."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response

from services.notifier.api import views
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import (
    Account,
    Body,
    Line,
    Lines,
    Moment,
    Number,
    Repeatable,
    Version,
    request_key,
)
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer, refused
from services.notifier.console import words
from services.notifier.console.refusals import SAID, status_of
from services.notifier.domain.access import Viewer
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.people import is_mail_address, is_same
from services.notifier.domain.sentiments import Mood
from services.notifier.stepping import Changed, NotTaken
from shared.credentials import Scope
from shared.messages import OutcomeKind

_TAGS: Final[list[Any]] = ["steps"]
_PATH: Final = "/api/v1/interventions/{intervention_id}"


class Step(Body):
    version: Version


class Ending(Step):
    outcome: OutcomeKind
    note: Lines = ""


class Snoozing(Step):
    until: Moment
    reason: Line


class Passing(Step):
    owner: Line


class Marking(Body):
    done: bool


class Feeling(Body):
    mood: Mood
    expires_at: Moment
    note: Lines = ""


def add_steps(app: FastAPI, desk: ApiDesk) -> None:
    _add_simple(app, desk)
    _add_endings(app, desk)
    _add_work(app, desk)
    _add_sentiments(app, desk)


def _add_simple(app: FastAPI, desk: ApiDesk) -> None:
    writer = Depends(desk.callers.needs(Scope.INTERVENTIONS_WRITE))

    @app.post(f"{_PATH}/acknowledge", responses=answers("step", 404, 409), tags=_TAGS)
    async def acknowledge(
        request: Request,
        intervention_id: UUID,
        body: Step,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """Somebody has taken it on: reminders and escalation stop."""
        return _answered(
            desk,
            await desk.steps.acknowledge(
                intervention_id,
                version=body.version,
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )

    @app.post(f"{_PATH}/wake", responses=answers("step", 404, 409), tags=_TAGS)
    async def wake(
        request: Request,
        intervention_id: UUID,
        body: Step,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """End its snooze now."""
        return _answered(
            desk,
            await desk.steps.wake(
                intervention_id,
                version=body.version,
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )

    @app.post(f"{_PATH}/snooze", responses=answers("step", 404, 409), tags=_TAGS)
    async def snooze(
        request: Request,
        intervention_id: UUID,
        body: Snoozing,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """Nobody is told until then; 60 days at most, and not beyond the last day for notice."""
        return _answered(
            desk,
            await desk.steps.snooze(
                intervention_id,
                version=body.version,
                until=body.until,
                reason=body.reason,
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )


def _add_endings(app: FastAPI, desk: ApiDesk) -> None:
    writer = Depends(desk.callers.needs(Scope.INTERVENTIONS_WRITE))

    @app.post(f"{_PATH}/close", responses=answers("step", 404, 409), tags=_TAGS)
    async def close(
        request: Request,
        intervention_id: UUID,
        body: Ending,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """How it ended; a false alarm, a loss or a smaller contract needs a note."""
        return _answered(
            desk,
            await desk.steps.close(
                intervention_id,
                version=body.version,
                outcome=body.outcome,
                note=body.note,
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )

    @app.post(f"{_PATH}/correct", responses=answers("step", 404, 409), tags=_TAGS)
    async def correct(
        request: Request,
        intervention_id: UUID,
        body: Ending,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """Another outcome, or note, for what is closed; it is published again."""
        return _answered(
            desk,
            await desk.steps.correct(
                intervention_id,
                version=body.version,
                outcome=body.outcome,
                note=body.note,
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )


def _add_work(app: FastAPI, desk: ApiDesk) -> None:
    writer = Depends(desk.callers.needs(Scope.INTERVENTIONS_WRITE))

    @app.post(f"{_PATH}/reassign", responses=answers("step", 404, 409), tags=_TAGS)
    async def reassign(
        request: Request,
        intervention_id: UUID,
        body: Passing,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """Give it to a colleague of the team file, by address; open tasks go with it."""
        return _answered(
            desk,
            await desk.steps.reassign(
                intervention_id,
                version=body.version,
                owner=_colleague(desk, body.owner),
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )

    @app.post(f"{_PATH}/tasks/{{number}}", responses=answers("step", 404, 409), tags=_TAGS)
    async def task(
        request: Request,
        intervention_id: UUID,
        number: Number,
        body: Marking,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """Tick a task, or untick it; `done` says how it shall be, so that no version is needed."""
        return _answered(
            desk,
            await desk.steps.mark_task(
                intervention_id,
                number,
                done=body.done,
                by=viewer,
                key=request_key(viewer.address, request.url.path, body, key),
            ),
        )


def _add_sentiments(app: FastAPI, desk: ApiDesk) -> None:
    writer = Depends(desk.callers.needs(Scope.INTERVENTIONS_WRITE))

    @app.post(
        "/api/v1/accounts/{account:path}/sentiments",
        responses=answers("sentiment", 404, 409),
        tags=["accounts"],
    )
    async def say(
        request: Request,
        account: Account,
        body: Feeling,
        viewer: Annotated[Viewer, writer],
        key: Repeatable = None,
    ) -> Response:
        """How the relationship is; a bad one needs a note, and opens an intervention."""
        said = await desk.steps.say(
            account,
            mood=body.mood,
            note=body.note,
            expires_at=body.expires_at,
            by=viewer,
            key=request_key(viewer.address, request.url.path, body, key),
        )
        if isinstance(said, NotTaken):
            raise _not_taken(desk, said)
        return answer(views.sentiment(said, now=desk.clock()))


def _answered(desk: ApiDesk, changed: Changed) -> Response:
    if isinstance(changed, Intervention):
        return answer(views.intervention(changed, now=desk.clock()))
    raise _not_taken(desk, changed)


def _not_taken(desk: ApiDesk, found: NotTaken) -> Exception:
    _, text = SAID[found.refusal]
    more: dict[str, object] = {}
    if found.intervention is not None:
        more["intervention"] = views.intervention(found.intervention, now=desk.clock())
    return refused(status_of(found.refusal), found.refusal.value, text, **more)


def _colleague(desk: ApiDesk, address: str) -> str:
    """As the team file writes it; without one, whatever address it is."""
    wanted, roster = address.strip(), desk.roster()
    if not is_mail_address(wanted):
        raise refused(422, "owner_missing", "body.owner: an e-mail address")
    if not roster.people:
        return wanted.lower()
    known = next((one for one in words.colleagues(roster) if is_same(one, wanted)), None)
    if known is None:
        raise refused(422, "unknown_owner", "body.owner: the team file does not name them")
    return known
