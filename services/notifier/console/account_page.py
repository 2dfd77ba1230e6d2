"""The page of one account: what scoring and the notifier know of it, and what can be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.notifier import erasure, notes, sentiments, store, tasks
from services.notifier.console import fields, lines, plot, queries, words
from services.notifier.console.account import shown, zones_of
from services.notifier.console.fields import Sent, sent
from services.notifier.console.marks import Mark, marks_of, notice_by
from services.notifier.console.pages import Pages
from services.notifier.console.rights import needs, viewer_of
from services.notifier.console.scoring import Days, History, Journey, Missing, Scored, View
from services.notifier.domain.access import Right
from services.notifier.domain.sentiments import MAX_SENTIMENT, Mood
from services.notifier.domain.steps import MAX_SNOOZE

_MAX_ID: Final = 500
_SENTIMENT_DAYS: Final = 90
_WIDE: Final = 800
_NARROW: Final = 358
_ROWS: Final = 60

Text = Annotated[str, Form()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The same days drawn wide and narrow, and as a table."""

    wide: plot.Plot
    narrow: plot.Plot
    weeks: tuple[plot.Week, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """The same risks drawn wide and narrow, and the newest as a table."""

    wide: lines.Lines
    narrow: lines.Lines
    rows: Sequence[lines.Point]


def add_account(app: FastAPI, pages: Pages) -> None:
    @app.get("/accounts/{account_id:path}")
    async def account(request: Request, account_id: str) -> Response:
        return await _page(pages, request, account_id or request.query_params.get("id", ""))

    # The account stands in the query: browsers change line feeds in fields of a form.
    @app.post("/notes", dependencies=[needs(Right.NOTE)])
    async def note(
        request: Request, account: str, _: Annotated[Sent, Depends(sent)], text: Text = ""
    ) -> Response:
        said = fields.lines(text)
        link = words.account_url(account)
        if not said:
            return pages.explain(
                422, "An empty note", "Go back and write something.", link, "See the account"
            )
        async with pages.engine.begin() as connection:
            await erasure.hold_off(connection)
            known = await store.read_account(connection, account) if _is_id(account) else None
            if known is None or known.is_erased:
                return unknown_account(pages)
            await notes.add(connection, viewer_of(request), account, said, at=pages.clock())
        return RedirectResponse(f"{link}#notes", status_code=303)


def unknown_account(pages: Pages, missing: str = "") -> Response:
    text = "Neither a flag nor the directory names it: check the id in the address."
    return pages.explain(
        404,
        "No such account",
        f"{text} {missing}." if missing else text,
        "/accounts",
        "All accounts",
    )


async def _page(pages: Pages, request: Request, account_id: str) -> Response:
    if not _is_id(account_id):
        return unknown_account(pages)
    viewer = viewer_of(request)
    now = pages.clock()
    today = now.astimezone(UTC).date()
    async with pages.engine.connect() as connection:
        known = await store.read_account(connection, account_id)
        found = await queries.interventions_of(connection, account_id)
        entries = await queries.timeline_of(connection, account_id)
        to_do = await tasks.of_interventions(connection, [one.id for one in found])
        said = await sentiments.history(connection, account_id)
        noted = await notes.of_account(connection, account_id)
    view = await pages.scoring.view(
        account_id, first=today - timedelta(days=plot.DAYS - 1), last=today
    )
    scored = view.account if isinstance(view.account, Scored) else None
    missing = _missing(view)
    if known is None and not found and scored is None:
        return unknown_account(pages, missing)
    directory = scored.fields if scored else known.fields if known else None
    newest = found[0] if found else None
    roster = pages.steps.stepping.staff.roster()
    zone = known.fields.timezone if known else None
    zones = zones_of(roster)
    lost = known is not None and known.is_lost
    marks = marks_of([one.raised_at for one in scored.flags] if scored else [], found, directory)
    return pages.page(
        "account.html",
        viewer=viewer,
        account_id=account_id,
        name=(directory.name if directory else None) or account_id,
        fields=directory,
        notice=notice_by(directory) if directory else None,
        facts=words.facts(directory) if directory else (),
        scored=scored,
        missing=missing,
        view=view,
        stage=_stage(view),
        newest=newest,
        reasons=scored.reasons if scored else newest.reasons if newest else (),
        work=[
            shown(one, to_do, roster, zone=zones.of(one.owner, zone), account_lost=lost, now=now)
            for one in found
            if one.is_open
        ],
        closed=[one for one in found if not one.is_open],
        sentiment=next((one for one in said[:1] if now < one.expires_at), None),
        sentiments=said,
        moods=list(Mood),
        sentiment_until=today + timedelta(days=_SENTIMENT_DAYS),
        sentiment_last=today + MAX_SENTIMENT - timedelta(days=1),
        snooze_last=today + MAX_SNOOZE,
        colleagues=words.colleagues(roster),
        may_note=viewer.may(Right.NOTE),
        everybodys=(roster.fallback_owner,),
        notes=noted,
        is_noted=known is not None and not known.is_erased,
        entries=entries,
        zone=zone,
        now=now,
        today=today,
        risk=_risk(view.history, scored, marks, today),
        usage=_usage(view.days, marks, today),
    )


def _is_id(account_id: str) -> bool:
    return bool(account_id) and len(account_id) <= _MAX_ID and "\0" not in account_id


def _missing(view: View) -> str:
    if not isinstance(view.account, Missing):
        return ""
    if view.account.is_unknown:
        return "Scoring does not know this account yet"
    return view.account.text


def _stage(view: View) -> str | None:
    if not isinstance(view.journey, Journey) or not view.journey.stages:
        return None
    return view.journey.stages[-1].stage


def _risk(
    history: History | Missing, scored: Scored | None, marks: Sequence[Mark], today: date
) -> Risk | None:
    if isinstance(history, Missing):
        return None
    points = [
        lines.Point(at=one.as_of, value=one.risk, band=one.band.value if one.band else "")
        for one in history.history
        if one.risk is not None
    ]
    # What is logged each week, and what holds now.
    if scored and scored.risk is not None and scored.as_of and _is_newer(scored.as_of, points):
        band = scored.band.value if scored.band else ""
        points.append(lines.Point(at=scored.as_of, value=scored.risk, band=band))
    wide = lines.lines(points, today=today, width=_WIDE, marks=marks)
    narrow = lines.lines(points, today=today, width=_NARROW, height=120, marks=marks)
    if wide is None or narrow is None:
        return None
    return Risk(wide=wide, narrow=narrow, rows=points[: -_ROWS - 1 : -1])


def _is_newer(moment: datetime, points: Sequence[lines.Point]) -> bool:
    return not points or moment > points[-1].at


def _usage(days: Days | Missing, marks: Sequence[Mark], today: date) -> Usage | None:
    if isinstance(days, Missing):
        return None
    return Usage(
        wide=plot.plot(days.days, last=today, width=_WIDE, marks=marks),
        narrow=plot.plot(days.days, last=today, width=_NARROW, heights=(110, 60), marks=marks),
        weeks=plot.weeks(days.days, last=today),
    )
