"""Who stands before the console: by the cookie of their sign-in, or everybody where it is open."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.notifier import sign_ins, users
from services.notifier.domain.access import Role, SignIn, Viewer
from shared.clock import Clock

OPEN: Final = Viewer(address="console", role=Role.ADMIN, way="open")
"""Whoever reaches loopback, where nobody has been told to sign in."""
_KNOWN_SECONDS: Final = 400 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    engine: AsyncEngine
    clock: Clock
    mode: SignIn
    may_be_open: bool
    """Only this machine reaches the console."""
    is_https: bool
    key: bytes
    """Signs the cookies that hold no sign-in."""

    @property
    def way(self) -> str:
        return "oidc" if self.mode is SignIn.OIDC else "local"

    async def viewer(self, connection: HTTPConnection) -> Viewer | None:
        if self.mode is SignIn.OPEN:
            return OPEN
        token, may_be_open = self.token(connection), self.mode is SignIn.AUTO and self.may_be_open
        if not token and not may_be_open:
            return None
        async with self.engine.begin() as database:
            if may_be_open and not await users.is_any(database):
                return OPEN
            if not token:
                return None
            return await sign_ins.viewer_of(database, token, way=self.way, now=self.clock())

    def token(self, connection: HTTPConnection) -> str:
        return connection.cookies.get(self.cookie("perennial"), "")

    def cookie(self, name: str) -> str:
        # Browsers take the prefix over https alone; without it a sibling's page could set ours.
        return f"__Host-{name}" if self.is_https else name

    def keep(self, answer: Response, name: str, value: str, *, seconds: int) -> None:
        answer.set_cookie(
            self.cookie(name),
            value,
            max_age=seconds,
            path="/",
            secure=self.is_https,
            httponly=True,
            samesite="lax",
        )

    def drop(self, answer: Response, name: str) -> None:
        answer.delete_cookie(
            self.cookie(name), path="/", secure=self.is_https, httponly=True, samesite="lax"
        )

    def let_in(self, answer: Response, address: str, token: str) -> None:
        """The sign-in's cookie, and one by which this browser is known as theirs."""
        self.keep(answer, "perennial", token, seconds=int(sign_ins.LONGEST.total_seconds()))
        nonce = secrets.token_urlsafe(16)
        known = f"{nonce}.{self._mark(address, nonce)}"
        self.keep(answer, "perennial-known", known, seconds=_KNOWN_SECONDS)

    def known_as(self, connection: HTTPConnection, address: str) -> str | None:
        """The browser's own name, where that person has signed in with it before."""
        nonce, _, mark = connection.cookies.get(self.cookie("perennial-known"), "").partition(".")
        right = self._mark(address, nonce)
        return nonce if mark and hmac.compare_digest(mark.encode(), right.encode()) else None

    def seal(self, body: bytes) -> str:
        """For a cookie: who has it may read it, and change nothing."""
        text = base64.urlsafe_b64encode(body).decode()
        return f"{text}.{self._sign(text)}"

    def unseal(self, value: str) -> bytes | None:
        text, _, mark = value.partition(".")
        if not hmac.compare_digest(mark.encode(), self._sign(text).encode()):
            return None
        return base64.urlsafe_b64decode(text)

    def _sign(self, text: str) -> str:
        return hmac.digest(self.key, b"sealed\n" + text.encode(), hashlib.sha256).hex()

    def _mark(self, address: str, nonce: str) -> str:
        said = f"known\n{nonce}\n{address.lower()}".encode()
        return hmac.digest(self.key, said, hashlib.sha256).hex()


def key_of(secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"perennial console sign-in", hashlib.sha256)
