"""What every request passes before it reaches a page: host, cross-site check, size, sign-in.

Also what every answer carries: a policy that allows nothing but our own files.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from sqlalchemy.exc import DBAPIError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.notifier.console import rights
from services.notifier.console.door import Door
from services.notifier.domain.access import Viewer
from shared import database
from shared import logging as logs

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# A path or a query in it would pass for those of the address.
_NAME_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?")
_MAX_BODY = 65_536
_FILES = "/static/"
_MACHINES = "/v1/"
"""Programs ask here: they get JSON, and are led nowhere."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HSTS = "max-age=31536000"

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that goes no further; the texts are for the person who sees the page."""

    status: int
    title: str
    text: str
    link: str | None = None
    link_text: str | None = None


_SIGN_IN = Refused(
    status=401,
    title="Sign in first",
    text="You are not signed in, or not any more. Nothing was changed: sign in and repeat it.",
    link="/sign-in",
    link_text="Sign in",
)
_AWAY = Refused(
    status=503,
    title="Not reachable at the moment",
    text="The database does not answer. Nothing was changed; try again in a minute.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """An ASGI application around the console's; it sets `state.viewer`, None on public paths."""

    app: ASGIApp
    hosts: frozenset[str]
    door: Door
    explain: Callable[[Refused], str]
    """Renders the page of a refusal."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                carried = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    carried[name] = value
                if self.door.is_https:
                    carried["Strict-Transport-Security"] = _HSTS
                carried.setdefault("Cache-Control", "no-store")
            await send(message)

        entered = await self._enter(scope)
        if not isinstance(entered, Viewer | None):
            await self._refusal(scope, entered)(scope, receive, send_guarded)
            return
        scope.setdefault("state", {})["viewer"] = entered
        token = rights.current.set(entered)
        try:
            await self.app(scope, receive, send_guarded)
        finally:
            rights.current.reset(token)

    async def _enter(self, scope: Scope) -> Viewer | Refused | None:
        headers, path = Headers(scope=scope), str(scope["path"])
        refused = why_refused(scope["method"], headers, hosts=self.hosts)
        if refused is not None:
            return refused
        if path.startswith(_FILES):
            return None
        try:
            viewer = await self.door.viewer(HTTPConnection(scope))
        except (DBAPIError, OSError, TimeoutError) as error:
            if not database.is_away(error) and not database.is_transient(error):
                raise
            log.warning("console.away", cause=type(error).__name__)
            return _AWAY
        return viewer or (None if rights.is_public(path) else _SIGN_IN)

    def _refusal(self, scope: Scope, refused: Refused) -> Response:
        path = str(scope["path"])
        if path.startswith(_MACHINES):
            said = {"code": "refused", "message": refused.text, "detail": refused.title}
            if refused is _SIGN_IN:
                said = {"code": "not_signed_in", "message": "sign in to the console first"}
            return Response(json.dumps(said), refused.status, media_type="application/json")
        if refused is _SIGN_IN and scope["method"] in rights.SAFE:
            wanted = HTTPConnection(scope).url
            there = f"{wanted.path}?{wanted.query}" if wanted.query else wanted.path
            query = "" if there == "/" else f"?{urlencode({'next': there})}"
            return RedirectResponse(f"/sign-in{query}", status_code=303)
        return HTMLResponse(self.explain(refused), status_code=refused.status)


def known_hosts(urls: Iterable[str]) -> frozenset[str]:
    """The names the console answers to: this machine's, and those people were given."""
    return _LOOPBACK | {name for url in urls if (name := urlsplit(url).hostname)}


def why_refused(method: str, headers: Headers, *, hosts: frozenset[str]) -> Refused | None:
    if host_name(headers.get("host", "")) not in hosts:
        return Refused(
            status=400,
            title="Unknown address",
            text="The console does not answer to this name. Set PERENNIAL_CONSOLE_URL to the"
            " address that people use, and restart.",
        )
    if method in rights.SAFE:
        return None
    if not is_same_site(headers):
        return Refused(
            status=403,
            title="Not from this console",
            text="This request came from another site, or without saying where from. Nothing was"
            " changed. Open the page again and repeat the step there.",
        )
    length = headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _MAX_BODY:
        return Refused(
            status=413,
            title="Too long",
            text="The form is larger than 64 kB. Nothing was changed; shorten the note.",
        )
    return None


def is_same_site(headers: Headers) -> bool:
    """Whether a form of this very console sent it; browsers state it in one of two headers."""
    fetched = headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched == "same-origin"
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:
        return False
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host")


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets; empty where it is more than these."""
    if not _NAME_AND_PORT.fullmatch(host):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
