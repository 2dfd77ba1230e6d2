"""The console's routes: pages read, forms write, and what goes wrong is explained."""

from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from services.notifier.console import fields
from services.notifier.console.feedback import add_feedback
from services.notifier.console.forms import add_forms
from services.notifier.console.pages import Pages
from services.notifier.console.people import add_people
from services.notifier.console.playbooks import add_playbooks
from services.notifier.console.queries import After, Show, Wanted
from services.notifier.console.silences import add_silences
from services.notifier.console.status import add_status
from shared import database
from shared import logging as logs

_MAX_NUMBER = 2**63 - 1

log = logs.get(__name__)


def create_app(pages: Pages) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_pages(app, pages)
    add_forms(app, pages)
    add_silences(app, pages)
    add_feedback(app, pages)
    add_people(app, pages)
    add_playbooks(app, pages)
    _add_errors(app, pages)
    add_status(app, pages.engine)
    return app


def _add_pages(app: FastAPI, pages: Pages) -> None:
    @app.get("/")
    async def work(
        owner: str = "", show: str = "", priority: float = 0.0, after: UUID | None = None
    ) -> Response:
        wanted = Wanted(
            owner=owner.replace("\0", "") or None, show=fields.choice(Show, show) or Show.ALL
        )
        place = None if after is None else After(priority=priority, id=after)
        return await pages.work(wanted, place)

    @app.get("/accounts/{account_id:path}")
    async def account(request: Request, account_id: str) -> Response:
        return await pages.account(account_id or request.query_params.get("id", ""))

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
