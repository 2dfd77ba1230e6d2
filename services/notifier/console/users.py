"""The page of users: who may sign in, in which role; adding, disabling, new links."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import AfterValidator
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import users
from services.notifier.console import fields
from services.notifier.console.door import Door
from services.notifier.console.pages import Pages
from services.notifier.console.rights import needs, viewer_of
from services.notifier.domain.access import Right, Role, Viewer
from services.notifier.domain.people import is_mail_address, is_same

_PATH: Final = "/users"
_ADMINS = [needs(Right.ADMINISTER)]

Text = Annotated[str, Form()]
Address = Annotated[str, Form(), AfterValidator(lambda text: fields.line(text) or "")]
Change = Callable[[AsyncConnection, Viewer], Awaitable[bool]]


def add_users(app: FastAPI, pages: Pages, door: Door, *, console_url: str) -> None:
    shown = _Shown(pages, door, console_url)

    @app.get(_PATH, dependencies=_ADMINS)
    async def listed() -> Response:
        return await shown.page()

    @app.post(_PATH, dependencies=_ADMINS)
    async def add(request: Request, address: Text = "", role: Text = "") -> Response:
        named, kind, now = address.strip(), fields.choice(Role, role), pages.clock()
        if not is_mail_address(named) or kind is None:
            return _wrong(pages, 422, "Who, and in which role?", "Give an e-mail address.")
        async with pages.engine.begin() as connection:
            token = await users.add(connection, named, kind, by=viewer_of(request), now=now)
        if token is None:
            return _wrong(pages, 409, "There already", f"{named} is a user already.")
        if door.way == "oidc":
            return RedirectResponse(_PATH, status_code=303)
        return await shown.page(link=(named, token))

    @app.post(f"{_PATH}/reset", dependencies=_ADMINS)
    async def reset(request: Request, address: Address = "") -> Response:
        if refused := _refused(pages, request, address):
            return refused
        async with pages.engine.begin() as connection:
            token = await users.reset(connection, address, by=viewer_of(request), now=pages.clock())
        return _nobody(pages) if token is None else await shown.page(link=(address, token))

    _add_changes(app, pages)


def _add_changes(app: FastAPI, pages: Pages) -> None:
    @app.post(f"{_PATH}/role", dependencies=_ADMINS)
    async def role(request: Request, address: Address = "", role: Text = "") -> Response:
        kind = fields.choice(Role, role)
        if kind is None:
            return _wrong(pages, 422, "Which role?", "Choose one from the list.")

        async def change(connection: AsyncConnection, by: Viewer) -> bool:
            return await users.set_role(connection, address, kind, by=by, now=pages.clock())

        return await _changed(pages, request, address, change)

    @app.post(f"{_PATH}/disable", dependencies=_ADMINS)
    async def disable(request: Request, address: Address = "") -> Response:
        async def change(connection: AsyncConnection, by: Viewer) -> bool:
            return await users.disable(connection, address, by=by, now=pages.clock())

        return await _changed(pages, request, address, change)

    @app.post(f"{_PATH}/enable", dependencies=_ADMINS)
    async def enable(request: Request, address: Address = "") -> Response:
        async def change(connection: AsyncConnection, by: Viewer) -> bool:
            return await users.enable(connection, address, by=by, now=pages.clock())

        return await _changed(pages, request, address, change)


class _Shown:
    """The page, with the link that was just made, which no other answer can show again."""

    def __init__(self, pages: Pages, door: Door, console_url: str) -> None:
        self._pages, self._door, self._url = pages, door, console_url

    async def page(self, link: tuple[str, str] | None = None) -> Response:
        now = self._pages.clock()
        async with self._pages.engine.connect() as connection:
            found = await users.read_all(connection)
        return self._pages.page(
            "users.html",
            users=found,
            roles=list(Role),
            way=self._door.way,
            link=link and f"{self._url}/welcome/{link[1]}",
            link_for=link and link[0],
            link_until=now + users.INVITED_FOR,
            now=now,
        )


async def _changed(pages: Pages, request: Request, address: str, change: Change) -> Response:
    if refused := _refused(pages, request, address):
        return refused
    async with pages.engine.begin() as connection:
        is_known = await change(connection, viewer_of(request))
    return RedirectResponse(_PATH, status_code=303) if is_known else _nobody(pages)


def _refused(pages: Pages, request: Request, address: str) -> Response | None:
    """Who takes their own role away could not give it back."""
    if not is_same(address, viewer_of(request).address):
        return None
    return _wrong(pages, 409, "That is you", "Another admin changes your access.")


def _nobody(pages: Pages) -> Response:
    return _wrong(pages, 404, "No such user", "Somebody may have changed the list.")


def _wrong(pages: Pages, status: int, title: str, text: str) -> Response:
    return pages.explain(status, title, f"{text} Nothing was changed.", _PATH, "All users")
