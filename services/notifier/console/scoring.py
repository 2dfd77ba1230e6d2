"""What scoring says of an account now; a console without it still shows what the notifier knows."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from shared.messages import AccountFields, Band, Reason, ValueAtRisk

_LIMIT_SECONDS = 1.0

T = TypeVar("T")


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


class _Days(msgspec.Struct, frozen=True):
    days: tuple[Daily, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What scoring answered; `missing` says why there is nothing."""

    account: Scored | None
    days: Sequence[Daily] | None
    missing: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringApi:
    client: httpx.AsyncClient
    url: str
    key: str

    async def view(self, account_id: str, *, first: date, last: date) -> View:
        base = f"{self.url}/v1/accounts/{quote(account_id, safe='')}"
        span = {"from": first.isoformat(), "to": last.isoformat()}
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                account, daily = await asyncio.gather(
                    self._get(base), self._get(f"{base}/daily", span)
                )
        except (httpx.HTTPError, TimeoutError):
            return View(account=None, days=None, missing="Scoring does not answer")
        if account.status_code == 404:
            return View(account=None, days=None, missing="Scoring does not know this account yet")
        scored, days = _decoded(account, Scored), _decoded(daily, _Days)
        if scored is None:
            said = f"Scoring answers, but not as expected (HTTP {account.status_code})"
            return View(account=None, days=None, missing=said)
        return View(account=scored, days=days.days if days else None, missing=None)

    async def _get(self, url: str, params: dict[str, str] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.client.get(url, params=params, headers=headers)


def _decoded(answer: httpx.Response, kind: type[T]) -> T | None:
    if answer.status_code != 200:
        return None
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
