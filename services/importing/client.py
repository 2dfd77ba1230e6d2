"""Sends items to ingest until each is answered: the same ids again after whatever went wrong.

Shared by `perennial import` and the demo. A server that says nothing useful for `silence_limit`
ends it with Stopped; nothing is lost then, since no answer means "not known", never "taken".
"""

import asyncio
import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

import httpx
import msgspec

from services.importing.errors import KeyRefused, Stopped, Unusable
from services.importing.rows import Item
from shared.hosts import is_loopback

SILENCE_LIMIT = timedelta(minutes=2)

_FIRST_ANSWER_SECONDS = 20.0  # a server that was never there is a wrong address, not an outage
_TOLD_AFTER_SECONDS = 3.0

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
_REQUEST_SECONDS = httpx.Timeout(30.0, connect=5.0)
_NOTHING_ANSWERS = "nothing_answers"
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class Kind(StrEnum):
    """What is sent, by the path it goes to."""

    EVENTS = "events"
    ACCOUNTS = "accounts"


_HOW_TO_MAKE_A_KEY = {
    Kind.EVENTS: "make one with: perennial keys create --source NAME"
    " --scope events:write --scope backfill",
    Kind.ACCOUNTS: "make one with: perennial keys create --source NAME --scope accounts:write",
}
_PATHS = {Kind.EVENTS: "/v1/events", Kind.ACCOUNTS: "/v1/accounts:batch?mode=patch"}


class Settled(NamedTuple):
    """The answer to one item: accepted where `code` is empty."""

    item: Item
    code: str
    message: str
    warnings: tuple[str, ...]


class _Result(msgspec.Struct):
    index: int
    status: str
    code: str | None = None
    message: str | None = None
    warnings: list[object] | None = None


class _Answer(msgspec.Struct):
    """A success or an error: both may carry results."""

    results: list[_Result] | None = None
    code: str | None = None
    message: str | None = None


class _Pause(NamedTuple):
    """Send it again, not before `seconds` if the server named them."""

    code: str
    why: str
    seconds: float | None


class _TooLarge(NamedTuple):
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to send and as whom."""

    url: str
    key: str
    kind: Kind
    backfill: bool = True

    def check(self) -> None:
        """Raises Unusable where the address or the key cannot be one."""
        self.endpoint()
        self.headers()

    def headers(self) -> dict[str, str]:
        if not self.key.isascii() or not self.key.strip():
            raise Unusable("the key is not one of Perennial's: give the whole key with --key")
        headers = {
            "Authorization": f"Bearer {self.key.strip()}",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        if self.backfill and self.kind is Kind.EVENTS:
            headers["Perennial-Backfill"] = "true"
        return headers

    def endpoint(self) -> str:
        try:
            base = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise Unusable(f"{self.url} is no address: {error}") from error
        if base.scheme not in {"http", "https"} or not base.host:
            raise Unusable(f"{self.url} is no address of ingest: write http://host:port")
        return self.url.rstrip("/") + _PATHS[self.kind]


def open_http(url: str, *, in_flight: int) -> httpx.AsyncClient:
    """A client for one server; this machine itself is never asked for through a proxy."""
    return httpx.AsyncClient(
        timeout=_REQUEST_SECONDS,
        limits=httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight),
        trust_env=not is_loopback(httpx.URL(url).host),
    )


class Client:
    """One target; `send` may be called from several tasks."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        target: Target,
        *,
        silence_limit: timedelta = SILENCE_LIMIT,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_wait` hears in a sentence why it waits, once for each reason.

        At once where nothing listens at the address, else if it takes more than moments.
        """
        self._http = http
        self._url = target.url
        self._kind = target.kind
        self._endpoint = target.endpoint()
        self._headers = target.headers()
        self._opening = f'{{"{target.kind}":['.encode()
        self._silence_limit = silence_limit.total_seconds()
        self._last_word = time.monotonic()
        self._answered = False
        self._on_wait = on_wait
        self._told: set[str] = set()

    async def send(self, items: Sequence[Item]) -> list[Settled]:
        """Send until every item is accepted or rejected; raises Stopped.

        What the server wants again goes again together with the later rows of the same accounts,
        so that an account's last row stays its last.
        """
        settled: dict[int, Settled] = {}
        waiting, attempt = list(items), 0
        while waiting:
            answer = await self._post(waiting)
            if isinstance(answer, _TooLarge):
                for settlement in await self._send_in_halves(waiting, answer):
                    settled[settlement.item.number] = settlement
                break
            if isinstance(answer, _Pause):
                attempt += 1
                await self._pause(answer, attempt)
                continue
            waiting, settled_now, why = _sort_out(waiting, answer, self._kind)
            for settlement in settled_now:
                settled[settlement.item.number] = settlement
            attempt = 0 if settled_now else attempt + 1
            if settled_now:
                self._last_word = time.monotonic()
            if waiting:
                await self._pause(_Pause(why, why, answer.retry_after), max(1, attempt))
        return [settled[item.number] for item in items]

    async def _send_in_halves(self, items: list[Item], answer: _TooLarge) -> list[Settled]:
        if len(items) == 1:
            self._last_word = time.monotonic()
            return [Settled(items[0], "event_too_large", answer.message, ())]
        middle = len(items) // 2
        return [*await self.send(items[:middle]), *await self.send(items[middle:])]

    async def _post(self, items: Sequence[Item]) -> "_Reply | _Pause | _TooLarge":
        body = await asyncio.to_thread(self._pack, items)
        try:
            response = await self._http.post(self._endpoint, content=body, headers=self._headers)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise Unusable(f"{self._endpoint} cannot be asked: {error}") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return _Pause(_NOTHING_ANSWERS, f"{type(error).__name__} {error}".strip(), None)
        except httpx.TransportError as error:
            kind = type(error).__name__
            return _Pause(kind, f"{kind} {error}".strip(), None)
        self._answered = True
        return _read(response, self._endpoint, self._kind)

    def _pack(self, items: Sequence[Item]) -> bytes:
        body = b"".join((self._opening, b",".join([item.body for item in items]), b"]}"))
        # Level 1: a sender that compresses harder would be slower than the server.
        return zlib.compress(body, level=1, wbits=31)

    async def _pause(self, pause: _Pause, attempt: int) -> None:
        silent = time.monotonic() - self._last_word
        limit = self._silence_limit
        if not self._answered:
            limit = min(limit, _FIRST_ANSWER_SECONDS)
        left = limit - silent
        never_there = pause.code == _NOTHING_ANSWERS and not self._answered
        if pause.code not in self._told and (never_there or silent > _TOLD_AFTER_SECONDS):
            self._told.add(pause.code)
            self._on_wait(
                f"nothing answers at {self._url}: is `perennial up` running?"
                f" Trying for {limit:.0f} s"
                if never_there
                else f"waiting for {self._url}: {pause.why}"
            )
        if left <= 0:
            raise Stopped(
                f"nothing answered at {self._url} for {silent:.0f} s: start `perennial up`,"
                " or name the address of ingest with --url"
                if never_there
                else f"{self._endpoint} took nothing for {silent:.0f} s ({pause.why})"
            )
        wanted = pause.seconds
        if wanted is None:
            longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(attempt - 1, 8))
            wanted = longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, no secret
        await asyncio.sleep(min(wanted, left))


class _Reply(NamedTuple):
    results: list[_Result]
    retry_after: float | None


def _sort_out(
    items: list[Item], reply: _Reply, kind: Kind
) -> tuple[list[Item], list[Settled], str]:
    """What to send again, what is settled, and why the first one has to go again."""
    results = {result.index: result for result in reply.results}
    again: list[Item] = []
    settled: list[Settled] = []
    held_back: set[str] = set()
    why = ""
    for index, item in enumerate(items):
        result = results.get(index)
        if result is None or result.status == "retry":
            why = why or f"retry: {(result and result.code) or 'no result for the item'}"
            held_back.add(item.account)
            again.append(item)
        elif item.account in held_back:
            again.append(item)
        elif result.status == "rejected":
            if result.code == "scope_missing":
                raise KeyRefused(
                    f"the key may not do this: {result.message}; {_HOW_TO_MAKE_A_KEY[kind]}"
                )
            settled.append(
                Settled(item, result.code or "rejected", result.message or "no reason given", ())
            )
        else:
            warnings = tuple(map(_warning_code, result.warnings or ()))
            settled.append(Settled(item, "", "", warnings))
    return again, settled, why


def _warning_code(warning: object) -> str:
    return str(warning.get("code")) if isinstance(warning, dict) else str(warning)


def _read(response: httpx.Response, endpoint: str, kind: Kind) -> _Reply | _Pause | _TooLarge:
    status, retry_after = response.status_code, _retry_after(response)
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = _Answer()
    said = f"{answer.code or status}: {answer.message or response.reason_phrase}"
    if answer.results is not None and (response.is_success or status == 400):
        return _Reply(answer.results, retry_after)
    if status in _AGAIN:
        return _Pause(answer.code or str(status), said, retry_after)
    if status == 413:
        return _TooLarge(said)
    if status in {401, 403}:
        raise KeyRefused(f"the key is not accepted ({said}); {_HOW_TO_MAKE_A_KEY[kind]}")
    raise Stopped(f"{endpoint} answered {status} ({said}): is that the address of ingest?")


def _retry_after(response: httpx.Response) -> float | None:
    """Retry-After in seconds, given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
