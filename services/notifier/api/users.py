"""Who may sign in to the console, and in which role."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import users
from services.notifier.api.desk import ApiDesk
from services.notifier.api.fields import Address, Body, Line
from services.notifier.api.openapi import answers
from services.notifier.api.refusals import answer, refused
from services.notifier.api.views import user
from services.notifier.domain.access import Role, Viewer
from services.notifier.domain.people import is_mail_address
from shared.credentials import Scope

_TAGS: Final[list[Any]] = ["access"]
_ONE: Final = "/api/v1/users/{address}"


class NewUser(Body):
    address: Line
    role: Role


class NewRole(Body):
    role: Role


def add_users(app: FastAPI, desk: ApiDesk) -> None:
    reads = [Depends(desk.callers.needs(Scope.SETTINGS_READ))]
    writer = Depends(desk.callers.needs(Scope.SETTINGS_WRITE))

    @app.get("/api/v1/users", responses=answers("users"), tags=_TAGS, dependencies=reads)
    async def list_users() -> Response:
        """Everybody who may sign in, may no longer, or is invited."""
        async with desk.engine.connect() as connection:
            found = await users.read_all(connection)
        return answer({"users": [user(one) for one in found]})

    @app.post("/api/v1/users", responses=answers("invited", 409), tags=_TAGS)
    async def add(body: NewUser, viewer: Annotated[Viewer, writer]) -> Response:
        """A new user; the link by which they choose a password works once, for a day."""
        if not is_mail_address(body.address.strip()):
            raise refused(422, "invalid_request", "body.address: an e-mail address")
        async with desk.engine.begin() as connection:
            token = await users.add(
                connection, body.address.strip(), body.role, by=viewer, now=desk.clock()
            )
            if token is None:
                raise refused(409, "there_already", "there is such a user")
            return await _told(connection, body.address.strip(), token)

    @app.post(f"{_ONE}/reset", responses=answers("invited", 404), tags=_TAGS)
    async def reset(address: Address, viewer: Annotated[Viewer, writer]) -> Response:
        """Another link to choose a password by; who is signed in with the old one is out."""
        async with desk.engine.begin() as connection:
            token = await users.reset(connection, address, by=viewer, now=desk.clock())
            return await _told(connection, address, token)

    _add_changes(app, desk)


def _add_changes(app: FastAPI, desk: ApiDesk) -> None:
    writer = Depends(desk.callers.needs(Scope.SETTINGS_WRITE))

    @app.post(f"{_ONE}/role", responses=answers("user", 404), tags=_TAGS)
    async def role(address: Address, body: NewRole, viewer: Annotated[Viewer, writer]) -> Response:
        """What they may do, from their next request on."""

        async def change(connection: AsyncConnection) -> bool:
            return await users.set_role(connection, address, body.role, by=viewer, now=desk.clock())

        return await _changed(desk, address, change)

    @app.post(f"{_ONE}/disable", responses=answers("user", 404), tags=_TAGS)
    async def disable(address: Address, viewer: Annotated[Viewer, writer]) -> Response:
        """They are out at once."""

        async def change(connection: AsyncConnection) -> bool:
            return await users.disable(connection, address, by=viewer, now=desk.clock())

        return await _changed(desk, address, change)

    @app.post(f"{_ONE}/enable", responses=answers("user", 404), tags=_TAGS)
    async def enable(address: Address, viewer: Annotated[Viewer, writer]) -> Response:
        """They may sign in again."""

        async def change(connection: AsyncConnection) -> bool:
            return await users.enable(connection, address, by=viewer, now=desk.clock())

        return await _changed(desk, address, change)


async def _changed(
    desk: ApiDesk, address: str, change: Callable[[AsyncConnection], Awaitable[bool]]
) -> Response:
    async with desk.engine.begin() as connection:
        if not await change(connection):
            raise _nobody()
        return await _told(connection, address)


async def _told(connection: AsyncConnection, address: str, token: str | None = None) -> Response:
    known = await users.read(connection, address)
    if known is None:
        raise _nobody()
    return answer(user(known) | ({} if token is None else {"welcome_path": f"/welcome/{token}"}))


def _nobody() -> Exception:
    return refused(404, "unknown_user", "there is no such user")
