"""What scoring says of an account now; a console without it still shows what the notifier knows."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeAlias, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from services.notifier.capped import asked
from shared import traceparent
from shared.messages import AccountFields, Band, Reason, ValueAtRisk

MOST_BYTES = 33_554_432
"""Of an answer: the largest list that scoring gives has a few MB."""
_LIMIT_SECONDS = 1.0
_SLOW_LIMIT_SECONDS = 60.0
"""For what goes through all accounts, and somebody waits for."""
_MOST_PEOPLE = 12

T = TypeVar("T")
Params: TypeAlias = Mapping[str, str | int | float | None]


class Daily(msgspec.Struct, frozen=True, kw_only=True):
    """Use on one UTC day; days without use are absent."""

    day: date
    events: int
    active_users: int
    session_seconds: float = 0


class ShownFlag(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of a flag; of a reason that this version may not know."""

    reason: str
    stage: str
    episode: int
    raised_at: datetime
    cleared_at: datetime | None = None
    summary: str = ""
    evidence: tuple[Reason, ...] = ()


class Model(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    prior: bool = False


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One account as scoring's read API tells it."""

    account_id: str
    fields: AccountFields
    state: str
    as_of: datetime | None = None
    short_history: bool = False
    risk: float | None = None
    band: Band | None = None
    value_at_risk: ValueAtRisk | None = None
    model: Model | None = None
    reasons: tuple[Reason, ...] = ()
    flags: tuple[ShownFlag, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """Scoring gave no answer that could be used; the text says why, for who reads the page."""

    text: str
    is_unknown: bool = False
    """Scoring answers, but knows nothing by that name."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What was sent is not taken; the text says what is wrong with it."""

    text: str


class _Problem(msgspec.Struct, frozen=True):
    message: str


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """The risk as it was known at a moment."""

    as_of: datetime
    risk: float | None = None
    band: Band | None = None
    model_version: str | None = None


class Colleague(msgspec.Struct, frozen=True, kw_only=True):
    """A user of the account, by an opaque code."""

    user: str
    first_day: date
    last_day: date
    active_days_28: int
    active_days_90: int
    active_days_365: int


class Lived(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of the account's way."""

    stage: str
    since: datetime
    until: datetime | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    day: date
    value: float


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What the account was promised, and how far it has come; shares of the way from baseline."""

    metric: str
    baseline: float
    target: float
    state: str
    direction: str = "up"
    due: date | None = None
    value: float | None = None
    value_at: str | None = None
    improvement: float | None = None
    target_improvement: float | None = None
    attained: float | None = None
    expected_now: float | None = None
    values: tuple[Measured, ...] = ()


class Days(msgspec.Struct, frozen=True):
    days: tuple[Daily, ...]


class History(msgspec.Struct, frozen=True):
    history: tuple[Past, ...]


class Colleagues(msgspec.Struct, frozen=True):
    people: tuple[Colleague, ...]
    total: int = 0


class Journey(msgspec.Struct, frozen=True):
    stages: tuple[Lived, ...]


class Goals(msgspec.Struct, frozen=True):
    goals: tuple[Goal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What scoring answered of one account, part by part: one that is missing takes none along."""

    account: Scored | Missing
    days: Days | Missing
    history: History | Missing
    people: Colleagues | Missing
    journey: Journey | Missing
    goals: Goals | Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringApi:
    client: httpx.AsyncClient
    url: str
    key: str
    limit_seconds: float = _LIMIT_SECONDS

    async def view(self, account_id: str, *, first: date, last: date) -> View:
        """Everything at once; use of the days from `first` to `last`."""
        base = f"/v1/accounts/{quote(account_id, safe='')}"
        span = {"from": first.isoformat(), "to": last.isoformat()}
        account, days, history, people, journey, goals = await asyncio.gather(
            self.ask(Scored, base),
            self.ask(Days, f"{base}/daily", span),
            self.ask(History, f"{base}/history"),
            self.ask(Colleagues, f"{base}/people", {"limit": _MOST_PEOPLE}),
            self.ask(Journey, f"{base}/journey"),
            self.ask(Goals, f"{base}/goals"),
        )
        return View(
            account=account,
            days=days,
            history=history,
            people=people,
            journey=journey,
            goals=goals,
        )

    async def ask(self, kind: type[T], path: str, params: Params | None = None) -> T | Missing:
        """What `path` (as `/v1/portfolio`) answers; parameters that are None are left out."""
        given = {name: str(value) for name, value in (params or {}).items() if value is not None}
        try:
            async with asyncio.timeout(self.limit_seconds):
                answer = await self._get(f"{self.url}{path}", given)
        except (httpx.HTTPError, TimeoutError):
            return Missing("Scoring does not answer")
        if answer.status_code == 404:
            return Missing("Scoring does not know this", is_unknown=True)
        found = _decoded(answer, kind)
        if found is None:
            return Missing(f"Scoring answers, but not as expected (HTTP {answer.status_code})")
        return found

    async def send(self, kind: type[T], path: str, text: str) -> T | Missing | Refused:
        """What `path` answers to a text that was written by hand."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/toml"}
        headers |= traceparent.http_headers()
        try:
            async with asyncio.timeout(_SLOW_LIMIT_SECONDS):
                answer = await asked(
                    self.client,
                    "POST",
                    f"{self.url}{path}",
                    most_bytes=MOST_BYTES,
                    content=text.encode(),
                    headers=headers,
                    timeout=_SLOW_LIMIT_SECONDS,
                )
        except (httpx.HTTPError, TimeoutError):
            return Missing("Scoring does not answer")
        if answer.status_code in (413, 422):
            return Refused(_problem(answer))
        if answer.status_code == 503:
            return Missing(f"Scoring has no answer now: {_problem(answer)}")
        found = _decoded(answer, kind)
        if found is None:
            return Missing(f"Scoring answers, but not as expected (HTTP {answer.status_code})")
        return found

    async def _get(self, url: str, params: dict[str, str] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}", **traceparent.http_headers()}
        return await asked(
            self.client, "GET", url, most_bytes=MOST_BYTES, params=params, headers=headers
        )


def _problem(answer: httpx.Response) -> str:
    try:
        return msgspec.json.decode(answer.content, type=_Problem).message
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {answer.status_code}, without a reason"


def _decoded(answer: httpx.Response, kind: type[T]) -> T | None:
    if answer.status_code != 200:
        return None
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
