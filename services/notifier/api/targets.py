"""The year's targets: of the department, of each person, and what became of them."""

from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Path, Query, Response
from pydantic import Field

from services.notifier import targets
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Body, Line
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer, refused
from services.notifier.console.goals import REFUSALS, Aim, read_year
from services.notifier.domain.access import Viewer
from services.notifier.domain.targets import WHOLE, Measure, Plan, Why, why_refused
from services.notifier.domain.targets import Line as Planned
from shared.credentials import Scope

_TAGS: Final[list[Any]] = ["targets"]

OfYear = Annotated[int, Path(ge=2000, le=2100)]
Number = Annotated[Decimal, Field(max_digits=12, decimal_places=3)]


class Share(Body):
    """One person's."""

    owner: Annotated[Line, Field(min_length=1)]
    plan: Number


class NewPlan(Body):
    """Per cent, or a number; individual plans make the department's, or there are none."""

    version: Annotated[int, Field(ge=0, le=2**31 - 1, description="that you saw; 0: none yet")]
    plan: Number
    people: Annotated[tuple[Share, ...], Field(max_length=1_000)] = ()


def add_targets(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.SETTINGS_READ))]
    writer = Depends(desk.callers.needs(Scope.SETTINGS_WRITE))

    @app.get("/api/v1/targets", responses=answers("targets"), tags=_TAGS, dependencies=reads)
    async def list_targets(year: Annotated[int, Query(ge=2000, le=2100)]) -> Response:
        """Plan, actual and gap of each measure, of the department and of each owner.

        `makes`: whether individual plans add up to the department's (`sum`), or have it as their
        mean by accounts (`mean`). `actual` is null where scoring does not answer, or where fewer
        than ten accounts stand behind it.
        """
        found = await read_year(desk.engine, desk.scoring, year, now=desk.clock())
        return answer({"year": year, "targets": [_aim(one) for one in found.aims.values()]})

    @app.put("/api/v1/targets/{year}/{measure}", responses=answers("target", 409, 503), tags=_TAGS)
    async def put_target(
        year: OfYear, measure: Measure, body: NewPlan, viewer: Annotated[Viewer, writer]
    ) -> Response:
        """Put a plan in place of the one of that version."""
        now = desk.clock()
        before = await read_year(desk.engine, desk.scoring, year, now=now)
        if before.missing is not None and body.people:
            raise refused(503, "scoring_unavailable", "whose accounts weigh how much is not known")
        parts = {one.owner.lower(): one.plan for one in body.people}
        plan = Plan(measure=measure, whole=body.plan, parts=parts)
        why = why_refused(plan, before.weights)
        if why is None:
            async with desk.engine.begin() as connection:
                why = await targets.save(
                    connection, year, plan, version=body.version, viewer=viewer, now=now
                )
        if why is not None:
            status = 409 if why is Why.STALE else 422
            raise refused(status, f"target_{why}", REFUSALS[why])
        after = await read_year(desk.engine, desk.scoring, year, now=now)
        return answer({"year": year} | _aim(after.aims[measure]))


def _aim(one: Aim) -> dict[str, Any]:
    stored = one.stored
    return {
        "measure": one.measure,
        "makes": one.measure.makes,
        "version": one.version,
        "changed_by": stored.changed_by if stored else None,
        "changed_at": stored.changed_at if stored else None,
        "department": _line(one.whole),
        "people": [
            {"owner": line.owner} | _line(line) for line in one.lines if line.owner != WHOLE
        ],
    }


def _line(one: Planned) -> dict[str, Any]:
    return {"plan": one.plan, "actual": one.actual, "gap": one.gap, "n": one.n}
