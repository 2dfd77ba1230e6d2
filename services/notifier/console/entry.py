"""The pages before the console: signing in and out, choosing a password, the way by a provider."""

from typing import Annotated, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from fastapi import FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response

from services.notifier import signing_in, users
from services.notifier.console import fields, rights
from services.notifier.console.door import Door
from services.notifier.console.pages import Pages
from services.notifier.domain.access import SignIn
from services.notifier.domain.identity import Claims, Going, NotIdentified, NotLetIn, Registration
from services.notifier.passwords import FEWEST, LONGEST, Passwords, Weak, why_weak
from services.notifier.signing_in import Browser, Entered, Wait
from shared import logging as logs
from shared.errors import DependencyAway

_GOING: Final = "perennial-going"
_GOING_SECONDS: Final = 600
_MOST: Final = 2_000
_WEAK: Final = {
    Weak.SHORT: f"Choose at least {FEWEST} characters.",
    Weak.LONG: f"Choose at most {LONGEST} characters.",
    Weak.COMMON: "That is one of the first that others would try. Choose another one.",
}
_NOT_LET_IN: Final = {
    NotLetIn.NO_ADDRESS: "Your provider did not say your e-mail address.",
    NotLetIn.UNVERIFIED: "Your provider has not verified your e-mail address.",
    NotLetIn.NO_ROLE: "You have no role in Perennial yet.",
    NotLetIn.DISABLED: "Your access was ended by an admin of Perennial.",
}

Text = Annotated[str, Form()]

log = logs.get(__name__)


class Provider(Protocol):
    """The identity provider, as `oidc` speaks to it."""

    @property
    def registration(self) -> Registration: ...

    def setting_out(self) -> Going: ...

    async def address(self, going: Going, *, back_to: str) -> str: ...

    async def claims(
        self, going: Going, *, code: str, issuer: str | None, back_to: str
    ) -> Claims: ...

    async def is_there(self) -> bool: ...


class _Kept(msgspec.Struct, frozen=True):
    """In a cookie that we sign, while the person is at the provider."""

    state: str
    nonce: str
    verifier: str
    next: str
    until: float


def add_entry(
    app: FastAPI, pages: Pages, door: Door, *, console_url: str, provider: Provider | None
) -> None:
    _add_sign_in(app, pages, door, provider)
    if door.mode in (SignIn.LOCAL, SignIn.AUTO):
        passwords = Passwords()
        _add_passwords(app, pages, door, passwords)
        _add_links(app, pages, door, passwords)
    if provider is not None:
        _add_provider(app, pages, door, provider, f"{console_url}/sign-in/oidc/return")


def _add_sign_in(app: FastAPI, pages: Pages, door: Door, provider: Provider | None) -> None:
    @app.get("/sign-in")
    async def sign_in(request: Request, next: str = "/", out: bool = False) -> Response:  # noqa: A002, FBT001, FBT002
        there = inside(next)
        if request.state.viewer is not None:
            return RedirectResponse(there, status_code=303)
        if provider is None:
            return _form(pages, there, said="You are signed out." if out else None)
        return pages.page(
            "sign_in_oidc.html",
            next=there,
            said="You are signed out of Perennial, not of your provider." if out else None,
            is_away=not await provider.is_there(),
        )

    @app.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        token = door.token(request)
        if token:
            await signing_in.out(pages.engine, token, way=door.way, now=pages.clock())
        answer = RedirectResponse("/sign-in?out=1", status_code=303)
        door.drop(answer, "perennial")
        # What the browser has kept of our pages goes too.
        answer.headers["Clear-Site-Data"] = '"cache"'
        return answer


def _add_passwords(app: FastAPI, pages: Pages, door: Door, passwords: Passwords) -> None:
    @app.post("/sign-in")
    async def sign_in(
        request: Request,
        address: Text = "",
        password: Text = "",
        next: Text = "/",  # noqa: A002 - the field's name
    ) -> Response:
        there, named = inside(next), fields.line(address) or ""
        result = await signing_in.by_password(
            pages.engine,
            passwords,
            named,
            password,
            browser=_browser(request, door, named),
            clock=pages.clock,
        )
        match result:
            case Entered():
                return _entered(door, result, there)
            case Wait():
                seconds = int(result.time.total_seconds()) + 1
                answer = _form(
                    pages,
                    there,
                    address=named,
                    wrong=f"Too many attempts. Try again in {seconds} seconds.",
                    status=429,
                )
                answer.headers["Retry-After"] = str(seconds)
                return answer
            case None:
                wrong = "The address or the password is not right."
                return _form(pages, there, address=named, wrong=wrong, status=403)


def _add_links(app: FastAPI, pages: Pages, door: Door, passwords: Passwords) -> None:
    @app.get("/welcome/{token}")
    async def welcome(token: str) -> Response:
        async with pages.engine.connect() as connection:
            address = await users.invited(connection, token, now=pages.clock())
        return _welcome(pages, address)

    @app.post("/welcome/{token}")
    async def choose(
        request: Request, token: str, password: Text = "", again: Text = ""
    ) -> Response:
        async with pages.engine.connect() as connection:
            address = await users.invited(connection, token, now=pages.clock())
        if address is None:
            return _welcome(pages, None)
        if password != again:
            return _welcome(pages, address, "The two are not the same. Type both again.")
        if (weak := why_weak(password, address=address)) is not None:
            return _welcome(pages, address, _WEAK[weak])
        result = await signing_in.by_link(
            pages.engine,
            token,
            await passwords.make(password),
            browser=_browser(request, door, address),
            now=pages.clock(),
        )
        return _welcome(pages, None) if result is None else _entered(door, result, "/")


def _add_provider(app: FastAPI, pages: Pages, door: Door, provider: Provider, back_to: str) -> None:
    @app.get("/sign-in/oidc")
    async def go(next: str = "/") -> Response:  # noqa: A002 - the parameter's name
        going = provider.setting_out()
        try:
            address = await provider.address(going, back_to=back_to)
        except DependencyAway:
            return _away(pages)
        except NotIdentified as error:
            return _misread(pages, error)
        kept = _Kept(
            going.state,
            going.nonce,
            going.verifier,
            inside(next),
            pages.clock().timestamp() + _GOING_SECONDS,
        )
        answer = RedirectResponse(address, status_code=303)
        sealed = door.seal(msgspec.json.encode(kept))
        door.keep(answer, _GOING, sealed, seconds=_GOING_SECONDS)
        return answer

    @app.get("/sign-in/oidc/return")
    async def come_back(
        request: Request,
        state: str = "",
        code: str = "",
        error: str = "",
        iss: str | None = None,
    ) -> Response:
        kept = _kept(request, door, pages)
        if kept is None or not state or state != kept.state:
            return _again(
                pages,
                "This way in is over: it was begun in another window, or too long ago.",
            )
        if error or not code:
            log.info("sign_in.refused_by_provider", error=_plain(error))
            return _again(pages, "Your provider did not let you in.")
        going = Going(state=kept.state, nonce=kept.nonce, verifier=kept.verifier)
        try:
            claims = await provider.claims(going, code=code, issuer=iss, back_to=back_to)
        except DependencyAway:
            return _away(pages)
        except NotIdentified as wrong:
            return _misread(pages, wrong)
        result = await signing_in.by_claims(
            pages.engine,
            claims,
            provider.registration,
            browser=_browser(request, door, ""),
            now=pages.clock(),
        )
        if isinstance(result, NotLetIn):
            answer = pages.explain(
                403,
                "Not let in",
                f"{_NOT_LET_IN[result]} Ask an admin of Perennial.",
                "/sign-in",
                "Sign in as somebody else",
            )
        else:
            answer = _entered(door, result, kept.next)
        door.drop(answer, _GOING)
        return answer


def inside(text: str) -> str:
    """The path to go to afterwards, within the console; the start where it is anything else."""
    is_odd = "\\" in text or len(text) > _MOST or not text.isprintable()
    if is_odd or not text.startswith("/") or text.startswith("//"):
        return "/"
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or rights.is_public(parts.path):
        return "/"
    return text


def _form(
    pages: Pages,
    there: str,
    *,
    address: str = "",
    said: str | None = None,
    wrong: str | None = None,
    status: int = 200,
) -> Response:
    return pages.page(
        "sign_in.html", status=status, next=there, address=address, said=said, wrong=wrong
    )


def _welcome(pages: Pages, address: str | None, wrong: str | None = None) -> Response:
    if address is None:
        return pages.explain(
            404,
            "This link is not valid any more",
            "It works once, for a day. Ask an admin for another one.",
            "/sign-in",
            "Sign in",
        )
    return pages.page(
        "welcome.html", status=422 if wrong else 200, address=address, wrong=wrong, fewest=FEWEST
    )


def _entered(door: Door, entered: Entered, there: str) -> Response:
    answer = RedirectResponse(there, status_code=303)
    door.let_in(answer, entered.address, entered.token)
    return answer


def _browser(request: Request, door: Door, address: str) -> Browser:
    return Browser(
        client=request.client.host if request.client else "",
        token=door.token(request),
        known=door.known_as(request, address) if address else None,
    )


def _kept(request: Request, door: Door, pages: Pages) -> _Kept | None:
    body = door.unseal(request.cookies.get(door.cookie(_GOING), ""))
    kept = None if body is None else msgspec.json.decode(body, type=_Kept)
    return kept if kept is not None and pages.clock().timestamp() < kept.until else None


def _away(pages: Pages) -> Response:
    return pages.explain(
        503,
        "Your sign-in provider does not answer",
        "Who is signed in stays so. Try again in a minute.",
        "/sign-in",
        "Try again",
    )


def _misread(pages: Pages, error: NotIdentified) -> Response:
    log.warning("sign_in.not_identified", why=str(error))
    return _again(pages, "What your provider said could not be taken; the log says why.")


def _again(pages: Pages, text: str) -> Response:
    return pages.explain(403, "Not signed in", text, "/sign-in", "Sign in again")


def _plain(error: str) -> str:
    return "".join(char for char in error if char.isalnum() or char == "_")[:60]
