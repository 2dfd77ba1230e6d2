"""Notes on accounts, and views of the list of accounts that people keep."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, Response
from pydantic import Field

from services.notifier import erasure, notes, saved_views, store
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Account, Body, Line, Lines
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer, refused
from services.notifier.console import fields, listing
from services.notifier.console.accounts import VIEWS_OF
from services.notifier.domain.access import Viewer
from services.notifier.notes import Note
from services.notifier.saved_views import SavedView
from shared.credentials import Scope

_VIEWS: Final[list[Any]] = ["views"]


class NewNote(Body):
    text: Annotated[Lines, Field(min_length=1)]


class NewView(Body):
    name: Annotated[Line, Field(min_length=1, max_length=80)]
    query: Annotated[str, Field(max_length=2_000, description="as it stands in the address")]
    shared: bool = False


def add_notes(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.INTERVENTIONS_READ))]
    writer = Depends(desk.callers.needs(Scope.INTERVENTIONS_WRITE))

    @app.get(
        "/api/v1/accounts/{account:path}/notes",
        responses=answers("notes"),
        tags=["accounts"],
        dependencies=reads,
    )
    async def list_notes(account: Account) -> Response:
        """What people wrote down about the account, the newest 50 first."""
        async with desk.engine.connect() as connection:
            return answer(
                {"notes": [_note(one) for one in await notes.of_account(connection, account)]}
            )

    @app.post(
        "/api/v1/accounts/{account:path}/notes",
        responses=answers("note", 404),
        tags=["accounts"],
    )
    async def add_note(
        account: Account, body: NewNote, viewer: Annotated[Viewer, writer]
    ) -> Response:
        """Write something down; a note is never changed."""
        said, now = fields.lines(body.text), desk.clock()
        if not said:
            raise refused(422, "invalid_request", "body.text: an empty note")
        async with desk.engine.begin() as connection:
            await erasure.hold_off(connection)
            known = await store.read_account(connection, account)
            if known is None or known.is_erased:
                raise refused(404, "unknown_account", "nothing of this name is known")
            await notes.add(connection, viewer, account, said, at=now)
        return answer(_note(Note(text=said, author=viewer.address, at=now)))


def add_views(app: FastAPI, desk: ApiDesk) -> None:
    reader = Depends(desk.callers.needs(Scope.SETTINGS_READ))
    writer = Depends(desk.callers.needs(Scope.SETTINGS_WRITE))

    @app.get("/api/v1/views", responses=answers("views"), tags=_VIEWS)
    async def list_views(viewer: Annotated[Viewer, reader]) -> Response:
        """The key's own views of the list of accounts, and those that people share."""
        async with desk.engine.connect() as connection:
            found = await saved_views.of_page(connection, VIEWS_OF, viewer.address)
        return answer({"views": [_view(one) for one in found]})

    @app.post("/api/v1/views", responses=answers("views", 409), tags=_VIEWS)
    async def save(body: NewView, viewer: Annotated[Viewer, writer]) -> Response:
        """Keep a view, in place of an own one of that name; what it does not know is left out."""
        name = fields.line(body.name)
        if name is None:
            raise refused(422, "invalid_request", "body.name: it needs a name")
        query = listing.wanted_of_query(body.query).query
        async with desk.engine.begin() as connection:
            is_kept = await saved_views.save(
                connection,
                viewer,
                page=VIEWS_OF,
                name=name,
                query=query,
                shared=body.shared,
                at=desk.clock(),
            )
            if not is_kept:
                raise refused(409, "too_many", f"there are {saved_views.MOST} views already")
            found = await saved_views.of_page(connection, VIEWS_OF, viewer.address)
        return answer({"views": [_view(one) for one in found]})

    @app.delete("/api/v1/views/{view_id}", responses=answers("removed", 404), tags=_VIEWS)
    async def remove(view_id: UUID, viewer: Annotated[Viewer, writer]) -> Response:
        """Remove an own view, or one that somebody shares."""
        async with desk.engine.begin() as connection:
            if not await saved_views.remove(connection, viewer, view_id, at=desk.clock()):
                raise refused(404, "unknown_view", "there is no such view")
        return answer({"id": view_id})


def _note(one: Note) -> dict[str, Any]:
    return {"text": one.text, "author": one.author, "at": one.at}


def _view(one: SavedView) -> dict[str, Any]:
    return {
        "id": one.id,
        "owner": one.owner,
        "name": one.name,
        "query": one.query,
        "shared": one.shared,
    }
