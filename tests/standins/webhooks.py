"""Collector: a real receiver of Standard Webhooks that knows what should come, when, and no more.

    collector.want(between(2, 2.5), what("first", "acme"))
    ...
    await collector.finish()

Each wanted message must be accepted within its window (seconds since the collector began), no
window may stay empty, and nothing else may come: the totals are exact. The signature of every
request is checked with the standard's own library; one that does not fit is answered by 401.
"""

import asyncio
import json
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from tests.standins.http import (
    Answer,
    Asked,
    Flood,
    Hang,
    Reset,
    Slow,
    Turn,
    abort,
    flood,
    listening,
    respond,
)

SECRET = "whsec_c2lnbmVkIGJ5IHRoZSBub3RpZmllciBvZiB0ZXN0cw=="
_ACCEPT = Answer(status=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Seconds since the collector began, both ends included."""

    first: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """Which message: why it came, and of which accounts (none named: of any)."""

    why: str
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """One signed request. `accepted`: the receiver has taken it, whatever the sender heard."""

    at: float
    headers: dict[str, str]
    raw: bytes
    accepted: bool

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def accounts(self) -> list[str]:
        return [one["account"] for one in self.body["data"]["items"]]

    @property
    def body(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.raw)
        return decoded


def between(first: float, last: float) -> Window:
    return Window(first=first, last=last)


def what(why: str, *accounts: str) -> What:
    return What(why=why, accounts=accounts)


@dataclass(slots=True)
class Collector:
    """Scripts are taken one per signed request; where there is none, it accepts."""

    secrets: tuple[str, ...] = (SECRET,)
    """The receiver's: one that fits is enough."""
    port: int = 0
    script: deque[Turn] = field(default_factory=deque)
    got: list[Got] = field(default_factory=list)
    unsigned: int = 0
    server_names: list[str | None] = field(default_factory=list)
    """What TLS was asked for, connection by connection."""
    began: float = field(default_factory=time.monotonic)
    _wanted: list[tuple[Window, What]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def accepted(self) -> list[Got]:
        return [one for one in self.got if one.accepted]

    def want(self, window: Window, *messages: What) -> None:
        if not messages:
            raise ValueError("a window without a message wants nothing")
        self._wanted += [(window, one) for one in messages]

    async def finish(self) -> None:
        """Wait until the last window has closed; raises AssertionError on any difference."""
        ends = max((window.last for window, _ in self._wanted), default=0.0)
        await asyncio.sleep(max(0.0, self.began + ends - time.monotonic()))
        problems = compare(self._wanted, self.accepted)
        if self.unsigned:
            problems.append(f"{self.unsigned} without a signature that fits")
        assert not problems, "\n".join(problems)

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        at = time.monotonic() - self.began
        if not any(_is_signed(secret, asked) for secret in self.secrets):
            self.unsigned += 1
            await respond(writer, Answer(status=401))
            return True
        turn = self.script.popleft() if self.script else _ACCEPT
        self.got.append(Got(at=at, headers=asked.headers, raw=asked.body, accepted=_accepts(turn)))
        match turn:
            case Answer():
                await respond(writer, turn)
            case Slow():
                await asyncio.sleep(turn.seconds)
                await respond(writer, _ACCEPT)
            case Flood():
                await flood(writer)
            case Hang():
                await asyncio.sleep(turn.seconds)
                return False
            case Reset():
                abort(writer)
                return False
        return True


def compare(wanted: Sequence[tuple[Window, What]], accepted: Sequence[Got]) -> list[str]:
    """What differs, in words; each message fills one place only."""
    left = sorted(accepted, key=lambda one: one.at)
    problems = []
    # The window that closes first takes the oldest that fits, so overlapping ones fill as well;
    # of two that close together, who names accounts chooses before who takes any.
    for window, expected in sorted(wanted, key=lambda one: (one[0].last, not one[1].accounts)):
        found = next((one for one in left if _fits(window, expected, one)), None)
        if found is None:
            problems.append(f"missing between {window.first:g} and {window.last:g}: {expected}")
        else:
            left.remove(found)
    problems += [f"not wanted, at {one.at:.2f}: {one.type} {one.accounts}" for one in left]
    if len(accepted) != len(wanted):
        problems.append(f"accepted {len(accepted)}, wanted {len(wanted)}")
    return problems


@asynccontextmanager
async def collector(
    *, secrets: tuple[str, ...] = (SECRET,), tls: ssl.SSLContext | None = None
) -> AsyncIterator[Collector]:
    made = Collector(secrets=secrets)
    if tls is not None:
        tls.sni_callback = lambda _, name, __: made.server_names.append(name)
    async with listening(made.answer, tls=tls) as port:
        made.port = port
        yield made


def _accepts(turn: Turn) -> bool:
    match turn:
        case Answer():
            return 200 <= turn.status < 300
        case Hang() | Reset():
            return turn.posted
        case Slow() | Flood():
            return True


def _fits(window: Window, expected: What, got: Got) -> bool:
    if not window.first <= got.at <= window.last:
        return False
    if got.type != f"perennial.intervention.{expected.why}":
        return False
    return not expected.accounts or set(got.accounts) == set(expected.accounts)


def _is_signed(secret: str, asked: Asked) -> bool:
    try:
        Webhook(secret).verify(asked.body, asked.headers)
    except (WebhookVerificationError, ValueError):
        return False
    return True
