"""What every request passes before it reaches a page: host, sign-in, cross-site check, size.

Also what every answer carries: a policy that allows nothing but our own files.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_BODY = 65_536
_MAX_ACTOR = 100

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that goes no further; the texts are for the person who sees the page."""

    status: int
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """An ASGI application around the console's."""

    app: ASGIApp
    hosts: frozenset[str]
    password: SecretStr | None
    explain: Callable[[Refused], str]
    """Renders the page of a refusal."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refused = why_refused(scope["method"], headers, hosts=self.hosts, password=self.password)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                carried = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    carried[name] = value
                carried.setdefault("Cache-Control", "no-store")
            await send(message)

        if refused is None:
            scope.setdefault("state", {})["actor"] = actor(headers)
            await self.app(scope, receive, send_guarded)
            return
        answer: Response = HTMLResponse(self.explain(refused), status_code=refused.status)
        if refused.status == 401:
            answer.headers["WWW-Authenticate"] = 'Basic realm="Perennial", charset="UTF-8"'
        await answer(scope, receive, send_guarded)


def known_hosts(urls: Iterable[str]) -> frozenset[str]:
    """The names the console answers to: this machine's, and those people were given."""
    return _LOOPBACK | {name for url in urls if (name := urlsplit(url).hostname)}


def why_refused(
    method: str, headers: Headers, *, hosts: frozenset[str], password: SecretStr | None
) -> Refused | None:
    if host_name(headers.get("host", "")) not in hosts:
        return Refused(
            status=400,
            title="Unknown address",
            text="The console does not answer to this name. Set PERENNIAL_CONSOLE_URL to the"
            " address that people use, and restart.",
        )
    if password is not None and not _is_signed_in(headers, password):
        return Refused(
            status=401,
            title="Sign in",
            text="Enter your name and the console's password.",
        )
    if method in _SAFE:
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
    origin = urlsplit(headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc == headers.get("host")


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def actor(headers: Headers) -> str:
    """Who acts: the user name of the sign-in, as far as one is known."""
    name, _ = _credentials(headers)
    return "".join(char for char in name if char.isprintable())[:_MAX_ACTOR] or "console"


def _is_signed_in(headers: Headers, password: SecretStr) -> bool:
    _, given = _credentials(headers)
    return hmac.compare_digest(given.encode(), password.get_secret_value().encode())


def _credentials(headers: Headers) -> tuple[str, str]:
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return user, password
