"""The board: all open interventions by where they stand, and handing several over at once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import Response
from sqlalchemy import ColumnElement

from services.notifier.console import fields, words, work
from services.notifier.console.account import zones_of
from services.notifier.console.fields import Sent, sent
from services.notifier.console.forms import colleague
from services.notifier.console.pages import Pages
from services.notifier.console.refusals import SAID
from services.notifier.console.rights import needs, viewer_of
from services.notifier.console.today import EVERYBODY, PILES, Day, day_of, wanted_of
from services.notifier.console.work import After, Column, Pile, Wanted
from services.notifier.domain.access import Right
from services.notifier.domain.flags import Kind
from services.notifier.domain.interventions import Intervention
from shared.messages import Band

COLUMNS: Final = {
    Column.UNASSIGNED: "Unassigned",
    Column.OVERDUE: "Overdue",
    Column.OPEN: "Open",
    Column.ACKNOWLEDGED: "Acknowledged",
    Column.SNOOZED: "Snoozed",
}
_ALL: Final = "all"
_MOST: Final = 10
_MAX_NUMBER: Final = 1e300
_SEVERITIES: Final = (Band.CRITICAL, Band.AT_RISK, Band.WATCH)

Text = Annotated[str, Form()]


def add_board(app: FastAPI, pages: Pages) -> None:
    @app.get("/board")
    async def board(
        request: Request,
        owner: str = "",
        type: str = "",  # noqa: A002 - the name of the field in the address
        reason: str = "",
        severity: str = "",
        show: str = "",
        priority: float = 0.0,
        after: UUID | None = None,
    ) -> Response:
        viewer = viewer_of(request)
        asked = owner.replace("\0", "")
        narrowed = Wanted(
            kind=fields.choice(Kind, type),
            reason=reason.replace("\0", "") or None,
            severity=fields.choice(Band, severity),
        )
        roster = pages.steps.stepping.staff.roster()
        day = day_of(viewer.address, roster, pages.clock())
        by = work.column_of(fallback_owner=roster.fallback_owner, now=day.now)
        chosen = show if show in {_ALL, *Column, *Pile} else ""
        lines: tuple[work.Line, ...] = ()
        heaps: Mapping[str, work.Heap] = {}
        place = None if after is None else After(priority=min(priority, _MAX_NUMBER), id=after)
        async with pages.engine.connect() as connection:
            owners = await work.owners(connection, now=day.now, today_ends=day.ends)
            reasons = await work.reasons(connection)
            whose = wanted_of(None if asked == EVERYBODY else asked or None, owners)
            wanted = replace(narrowed, owner=whose.owner, spellings=whose.spellings)
            if chosen:
                which = _which(chosen, by, day)
                lines = tuple(await work.page(connection, wanted, which=which, after=place))
                counts = dict(await work.counted(connection, wanted, by))
            else:
                heaps = await work.heaps(connection, wanted, by, most=_MOST)
                counts = {name: heap.total for name, heap in heaps.items()}
        return pages.page(
            "board.html",
            viewer=viewer,
            columns=[(one, title, heaps.get(one, work.Heap())) for one, title in COLUMNS.items()],
            counts=counts,
            titles=COLUMNS | PILES | {_ALL: "All"},
            show=chosen,
            lines=lines,
            is_first=place is None,
            last=lines[-1].intervention if len(lines) == work.PAGE else None,
            wanted=wanted,
            owners=owners,
            kinds=list(Kind),
            reasons=reasons,
            severities=_SEVERITIES,
            may_lead=viewer.may(Right.LEAD),
            colleagues=words.colleagues(roster),
            zones=zones_of(roster),
            fallback_owner=roster.fallback_owner,
            now=day.now,
            today=day.now.date(),
        )

    @app.post("/board/reassign", dependencies=[needs(Right.LEAD)])
    async def reassign(
        sending: Annotated[Sent, Depends(sent)],
        owner: Text = "",
        item: Annotated[tuple[str, ...], Form()] = (),
    ) -> Response:
        steps = pages.steps
        to = colleague(owner, steps.stepping.staff.roster())
        chosen = [found for one in item[: work.PAGE] if (found := _item(one)) is not None]
        if to is None or not chosen:
            return pages.explain(
                422,
                "Who takes over what?",
                "Tick at least one line, and choose a colleague whom the team file names. Nothing"
                " was changed.",
                "/board?show=all",
                "Back to the board",
            )
        done, refused = 0, []
        for intervention_id, version in chosen:
            changed = await steps.reassign(
                intervention_id,
                version=version,
                owner=to,
                by=sending.viewer,
                key=f"{sending.key}:{intervention_id}" if sending.key else None,
            )
            if isinstance(changed, Intervention):
                done += 1
            else:
                refused.append((changed.intervention, SAID[changed.refusal][1]))
        return pages.page("handed_over.html", done=done, refused=refused, owner=to)


def _which(show: str, by: ColumnElement[str], day: Day) -> ColumnElement[bool] | None:
    if show == _ALL:
        return None
    if show in set(Column):
        # Overdue is the name of a column and of a pile; on the board it is the column.
        return by == show
    pile = work.pile_of(now=day.now, today_ends=day.ends, new_since=day.new_since)
    return pile == show


def _item(text: str) -> tuple[UUID, int] | None:
    named, _, version = text.partition(":")
    found = fields.uuid_of(named)
    return (found, int(version)) if found and version.isdecimal() and len(version) < 10 else None
