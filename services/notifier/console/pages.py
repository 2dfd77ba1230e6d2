"""The console's routes. Pages read; two forms write, each by compare-and-set on the version."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Annotated
from uuid import UUID

import jinja2
from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.exceptions import HTTPException

from services.notifier import store, templates
from services.notifier.console import plot, queries, words
from services.notifier.console.actions import Actions, Changed
from services.notifier.console.guard import Refused
from services.notifier.console.scoring import ScoringApi, View
from services.notifier.console.status import add_status
from services.notifier.domain.interventions import Intervention, Refusal
from shared import database
from shared import logging as logs
from shared.clock import Clock

_MAX_ID = 500
_CSS = "console.css"
_TYPES = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FILTERS = {
    "waiting": ("pending", "sending"),
    "sent": ("sent",),
    "suppressed": ("cancelled",),
    "dead": ("dead",),
}

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assets:
    """Templates and our own files, read once: serving touches no file."""

    templates: jinja2.Environment
    files: dict[str, bytes]

    def explain(self, refused: Refused) -> str:
        page = self.templates.get_template("explain.html")
        return page.render(title=refused.title, text=refused.text, link=None, link_text=None)


def load_assets() -> Assets:
    environment = templates.load("services.notifier.console")
    folder = files("services.notifier.console") / "static"
    static = {entry.name: entry.read_bytes() for entry in folder.iterdir()}
    words.install(environment)
    environment.globals["css_version"] = hashlib.sha256(static[_CSS]).hexdigest()[:12]
    return Assets(templates=environment, files=static)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What the routes need."""

    engine: AsyncEngine
    scoring: ScoringApi
    actions: Actions
    assets: Assets
    clock: Clock

    async def work(self, owner: str | None, page: int) -> Response:
        now = self.clock()
        async with self.engine.connect() as connection:
            found = await queries.open_work(connection, owner=owner, page=page)
            totals = await queries.totals(connection, owner=owner, now=now)
            owners = await queries.owners(connection)
            trouble = await self._trouble(connection, now)
        return self._page(
            "work.html",
            work=found,
            totals=totals,
            owners=owners,
            owner=owner,
            page=page,
            pages=-(-totals.open // queries.PAGE),
            now=now,
            today=now.astimezone(UTC).date(),
            trouble=trouble,
        )

    async def account(self, account_id: str) -> Response:
        if not account_id or len(account_id) > _MAX_ID or "\0" in account_id:
            return self._unknown_account()
        now = self.clock()
        today = now.astimezone(UTC).date()
        async with self.engine.connect() as connection:
            known = await store.read_account(connection, account_id)
            found = await queries.interventions_of(connection, account_id)
            entries = await queries.timeline_of(connection, account_id)
        first = today - timedelta(days=plot.DAYS - 1)
        view = await self.scoring.view(account_id, first=first, last=today)
        if known is None and not found and view.account is None:
            return self._unknown_account(view.missing)
        fields = view.account.fields if view.account else known.fields if known else None
        newest = found[0] if found else None
        return self._page(
            "account.html",
            account_id=account_id,
            name=(fields.name if fields else None) or account_id,
            fields=fields,
            facts=words.facts(fields) if fields else (),
            scored=view.account,
            missing=view.missing,
            newest=newest,
            reasons=view.account.reasons if view.account else newest.reasons if newest else (),
            interventions=found,
            entries=entries,
            zone=known.fields.timezone if known else None,
            now=now,
            today=today,
            usage=_usage(view, today),
        )

    async def deliveries(self, show: str, page: int) -> Response:
        now = self.clock()
        async with self.engine.connect() as connection:
            rows = await queries.recent_deliveries(connection, states=_FILTERS.get(show), page=page)
            troubled = await queries.troubled_destinations(connection)
        return self._page(
            "deliveries.html",
            rows=rows,
            troubled=troubled,
            show=show if show in _FILTERS else "all",
            page=page,
            is_last=len(rows) < queries.PAGE,
            now=now,
        )

    async def intervention(self, intervention_id: UUID) -> Response:
        """Where links in messages lead: the account's page, at the intervention."""
        async with self.engine.connect() as connection:
            subject = await store.read(connection, intervention_id)
        if subject is None:
            return self.explain(404, "No such intervention", "The link may be cut off.")
        return _to(subject)

    def answer(self, changed: Changed) -> Response:
        """The answer to a form."""
        if isinstance(changed, Intervention):
            return _to(changed)
        subject = changed.intervention
        if subject is None:
            return self.explain(404, "No such intervention", "Nothing was changed.")
        link = f"{words.account_url(subject.account_id)}#i-{subject.id}"
        title, text = _REFUSED[changed.refusal]
        status = 422 if changed.refusal is Refusal.NOTE_MISSING else 409
        return self.explain(status, title, text, link, "See it as it is now")

    def explain(
        self,
        status: int,
        title: str,
        text: str,
        link: str | None = "/",
        link_text: str | None = "All open interventions",
    ) -> Response:
        """A page that says what happened and what to do next."""
        return self._page(
            "explain.html", status=status, title=title, text=text, link=link, link_text=link_text
        )

    def static(self, name: str) -> Response:
        content = self.assets.files.get(name)
        if content is None:
            return self.explain(404, "No such file", "This address does not exist.")
        kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
        # The address carries a version, so that a new one is fetched at once.
        caching = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=caching)

    async def _trouble(self, connection: AsyncConnection, now: datetime) -> dict[str, int]:
        return {
            "dead": await queries.count_given_up(connection, since=now - timedelta(days=1)),
            "destinations": len(await queries.troubled_destinations(connection)),
        }

    def _unknown_account(self, missing: str | None = None) -> Response:
        text = "Neither a flag nor the directory names it: check the id in the address."
        return self.explain(404, "No such account", f"{text} {missing}." if missing else text)

    def _page(self, template: str, *, status: int = 200, **context: object) -> Response:
        body = self.assets.templates.get_template(template).render(context)
        return HTMLResponse(body, status_code=status)


_REFUSED = {
    Refusal.STALE: (
        "Somebody was faster",
        "It has changed since you opened the page; your step was not taken. Look and decide again.",
    ),
    Refusal.CLOSED: (
        "Closed already",
        "Somebody else, or the system, has closed this intervention. Nothing was changed.",
    ),
    Refusal.ACKNOWLEDGED: (
        "Acknowledged already",
        "Somebody has taken this on already. Nothing was changed.",
    ),
    Refusal.NOTE_MISSING: (
        "A note is needed",
        "Say why it was a false alarm, or why they left or bought less. Go back and add a note.",
    ),
}


def create_app(pages: Pages) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(app, pages)
    _add_forms(app, pages)
    _add_errors(app, pages)
    add_status(app, pages.engine)
    return app


def _add_pages(app: FastAPI, pages: Pages) -> None:
    @app.get("/")
    async def work(owner: str = "", page: int = 0) -> Response:
        return await pages.work(owner.replace("\0", "") or None, _bounded(page))

    @app.get("/accounts/{account_id:path}")
    async def account(request: Request, account_id: str) -> Response:
        return await pages.account(account_id or request.query_params.get("id", ""))

    @app.get("/deliveries")
    async def deliveries(show: str = "all", page: int = 0) -> Response:
        return await pages.deliveries(show, _bounded(page))

    @app.get("/interventions/{intervention_id}")
    async def intervention(intervention_id: UUID) -> Response:
        return await pages.intervention(intervention_id)

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return pages.static(name)


def _add_forms(app: FastAPI, pages: Pages) -> None:
    @app.post("/interventions/{intervention_id}/acknowledge")
    async def acknowledge(
        request: Request, intervention_id: UUID, version: Annotated[int, Form()]
    ) -> Response:
        by = str(request.state.actor)
        return pages.answer(
            await pages.actions.acknowledge(intervention_id, version=version, by=by)
        )

    @app.post("/interventions/{intervention_id}/close")
    async def close(
        request: Request,
        intervention_id: UUID,
        version: Annotated[int, Form()],
        outcome: Annotated[str, Form()] = "",
        note: Annotated[str, Form()] = "",
    ) -> Response:
        by = str(request.state.actor)
        kind = pages.actions.outcome_of(outcome)
        if kind is None:
            return pages.explain(
                422,
                "An outcome is needed",
                "Choose how the intervention ended; nothing was changed. Go back and close again.",
            )
        return pages.answer(
            await pages.actions.close(
                intervention_id, version=version, outcome=kind, note=note, by=by
            )
        )


def _add_errors(app: FastAPI, pages: Pages) -> None:
    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return pages.explain(404, "No such page", "This address does not exist.")
        return pages.explain(error.status_code, "That did not work", "Nothing was changed.")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, __: RequestValidationError) -> Response:
        return pages.explain(
            422,
            "That did not work",
            "The address or the form is not complete. Nothing was changed.",
        )

    async def away(_: Request, error: Exception) -> Response:
        if not database.is_away(error) and not database.is_transient(error):
            raise error
        log.warning("console.away", cause=type(error).__name__)
        text = "The database does not answer. Nothing was changed; try again in a minute."
        return pages.explain(503, "Not reachable at the moment", text)

    async def failed(_: Request, __: Exception) -> Response:
        text = "This is a fault of ours, and it is in the log. Nothing was changed."
        return pages.explain(500, "Something went wrong", text)

    for kind in (DBAPIError, OSError, TimeoutError):
        app.add_exception_handler(kind, away)
    app.add_exception_handler(Exception, failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The same days drawn wide and narrow, and as a table."""

    wide: plot.Plot
    narrow: plot.Plot
    weeks: tuple[plot.Week, ...]


def _usage(view: View, today: date) -> Usage | None:
    if view.days is None:
        return None
    flagged = [one.raised_at.date() for one in view.account.flags] if view.account else []
    return Usage(
        wide=plot.plot(view.days, last=today, width=960, raised=flagged),
        narrow=plot.plot(view.days, last=today, width=358, heights=(110, 60), raised=flagged),
        weeks=plot.weeks(view.days, last=today),
    )


def _to(subject: Intervention) -> Response:
    target = f"{words.account_url(subject.account_id)}#i-{subject.id}"
    return RedirectResponse(target, status_code=303)


def _bounded(page: int) -> int:
    return min(max(page, 0), 10_000)
