"""The way to the API: beside the console, before its sign-in, for the API has keys of its own.

What holds for pages holds here too: known hosts only, small bodies, nothing kept by caches.
"""

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.notifier.api.refusals import answer
from services.notifier.console.guard import host_name
from shared.http_headers import OF_AN_API, WithHeaders

PREFIX: Final = "/api/"
MAX_BODY: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class WithApi:
    """An ASGI application: what is below `/api/` to the API, all else to the console."""

    console: ASGIApp
    api: ASGIApp
    hosts: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.console(scope, receive, send)
            return
        refused = why_refused(scope["method"], Headers(scope=scope), hosts=self.hosts)
        if refused is None:
            await WithHeaders(self.api, OF_AN_API)(scope, receive, send)
            return
        status, code, text = refused
        told = answer({"code": code, "message": text}, status)
        await WithHeaders(told, OF_AN_API)(scope, receive, send)


def why_refused(
    method: str, headers: Headers, *, hosts: frozenset[str]
) -> tuple[int, str, str] | None:
    """Status, code and message."""
    if host_name(headers.get("host", "")) not in hosts:
        return 400, "unknown_host", "not a name of this console: see PERENNIAL_CONSOLE_URL"
    if method in ("GET", "HEAD", "OPTIONS"):
        return None
    length = headers.get("content-length")
    if length is None and "transfer-encoding" in headers:
        return 411, "length_required", "say how long the body is: Content-Length"
    if length is not None and (not length.isdecimal() or int(length) > MAX_BODY):
        return 413, "too_large", f"a body has at most {MAX_BODY} bytes"
    return None
