"""The page behind the link in an e-mail: it asks, and one click on it (or a mail program's) acts.

It stands before the guard: who reads mail on a phone is not signed in, and RFC 8058 lets a mail
server post from anywhere, without cookies. The token is what gives leave; reading changes nothing,
as scanners and previews follow every link.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.notifier import unsubscribe
from services.notifier.console.pages import Assets
from services.notifier.unsubscribe import Asked, Key
from shared import database
from shared import logging as logs
from shared.clock import Clock

_PATH = "/unsubscribe/"
_STYLE = "console.css"
_MOST_BYTES = 4_096
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
    # The address of the page is the leave to act.
    "Referrer-Policy": "no-referrer",
}

log = logs.get(__name__)


class PreferDigest(Protocol):
    """Sets a person's e-mails to the daily digest; doing it again changes nothing."""

    async def __call__(self, connection: AsyncConnection, address: str, now: datetime) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribing:
    """An ASGI application before the console's guard, to which all other paths go."""

    app: ASGIApp
    engine: AsyncEngine
    key: Key
    prefer_digest: PreferDigest
    assets: Assets
    clock: Clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_PATH):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = await self._answer(request, request.url.path.removeprefix(_PATH))
        answer.headers.update(_HEADERS)
        await answer(scope, receive, send)

    async def _answer(self, request: Request, text: str) -> Response:
        if text == _STYLE and request.method in ("GET", "HEAD"):
            return Response(self.assets.files[_STYLE], media_type="text/css")
        if request.method not in ("GET", "HEAD", "POST"):
            return self._page("This page does not know that", status=405)
        asked = unsubscribe.read(self.key, text, today=self.clock().date())
        if asked is None:
            return self._page("This link is not valid any more", status=404)
        if request.method != "POST":
            return self._page("One digest a day?", asked=asked)
        if not await _is_one_click(request):
            return self._page("Nothing was changed", status=400, asked=asked)
        return await self._prefer(asked)

    async def _prefer(self, asked: Asked) -> Response:
        try:
            async with self.engine.begin() as connection:
                await self.prefer_digest(connection, asked.address, self.clock())
        except (DBAPIError, OSError, TimeoutError) as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            log.warning("unsubscribe.away", cause=type(error).__name__)
            return self._page("Not reachable at the moment", status=503, asked=asked)
        return self._page("One digest a day from now on", asked=asked, done=True)

    def _page(
        self, title: str, *, status: int = 200, asked: Asked | None = None, done: bool = False
    ) -> Response:
        template = self.assets.templates.get_template("unsubscribe.html")
        who = None if asked is None else _masked(asked.address)
        return HTMLResponse(template.render(title=title, who=who, done=done), status_code=status)


async def _is_one_click(request: Request) -> bool:
    """Whether it is the form that RFC 8058 names, which our own page sends as well."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MOST_BYTES:
        return False
    try:
        async with request.form(max_files=0, max_fields=4) as form:
            return form.get("List-Unsubscribe") == "One-Click"
    except (HTTPException, MultiPartException):
        return False


def _masked(address: str) -> str:
    """Enough for its owner to know it: e-mails are forwarded, and their links with them."""
    name, _, domain = address.partition("@")
    return f"{name[:1]}…@{domain}"
