"""The console's routes: pages read, forms write, and what goes wrong is explained."""

from typing import Final
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from services.notifier.console import rights
from services.notifier.console.account_page import add_account
from services.notifier.console.accounts import add_accounts
from services.notifier.console.audit import add_audit
from services.notifier.console.board import add_board
from services.notifier.console.feedback import add_feedback
from services.notifier.console.forms import add_forms
from services.notifier.console.goals import add_goals
from services.notifier.console.insights import add_insights
from services.notifier.console.pages import Pages
from services.notifier.console.people import add_people
from services.notifier.console.playbooks import add_playbooks
from services.notifier.console.portfolio import add_portfolio
from services.notifier.console.rules import add_rules
from services.notifier.console.silences import add_silences
from services.notifier.console.sources import add_sources
from services.notifier.console.status import add_status
from services.notifier.console.system import add_system
from services.notifier.console.today import add_today
from services.notifier.domain.access import Right
from shared import database
from shared import logging as logs

_MAX_NUMBER = 2**63 - 1

_FORBIDDEN: Final = {
    Right.READ: "Sign in to see this page.",
    Right.ACT: "You may read here, but take no steps on work. Ask an admin for the role of a CSM.",
    Right.NOTE: "You may read here, but change nothing. Ask an admin for the role of a CSM.",
    Right.LEAD: "This is a manager's to change. Ask one to do it. Nothing was changed.",
    Right.ADMINISTER: "This is an admin's. Ask one to do it. Nothing was changed.",
}

log = logs.get(__name__)


def create_app(pages: Pages) -> FastAPI:
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(rights.by_default)],
    )
    add_today(app, pages)
    add_board(app, pages)
    add_accounts(app, pages)
    add_account(app, pages)
    _add_pages(app, pages)
    add_forms(app, pages)
    add_silences(app, pages)
    add_feedback(app, pages)
    add_people(app, pages)
    add_playbooks(app, pages)
    add_audit(app, pages)
    add_portfolio(app, pages)
    add_goals(app, pages)
    add_insights(app, pages)
    add_rules(app, pages)
    add_sources(app, pages)
    add_system(app, pages)
    _add_errors(app, pages)
    add_status(app, pages.engine)
    return app


def _add_pages(app: FastAPI, pages: Pages) -> None:
    @app.get("/deliveries")
    async def deliveries(show: str = "all", before: int | None = None) -> Response:
        place = None if before is None else min(max(before, 0), _MAX_NUMBER)
        return await pages.deliveries(show, place)

    @app.get("/interventions/{intervention_id}")
    async def intervention(intervention_id: UUID) -> Response:
        return await pages.intervention(intervention_id)

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return pages.static(name)


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

    @app.exception_handler(rights.Forbidden)
    async def forbidden(request: Request, error: rights.Forbidden) -> Response:
        if request.url.path.startswith("/v1/"):
            said = {"code": "forbidden", "message": f"this needs the right to {error.right}"}
            return JSONResponse(said, 403)
        return pages.explain(403, "Not for your role", _FORBIDDEN[error.right])

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
