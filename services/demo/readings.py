"""What the demo reads of the running services, over their HTTP APIs as anybody would."""

from collections.abc import Mapping
from typing import Literal, TypeVar

import httpx
import msgspec


class ScoringStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far scoring is (`GET /v1/status`)."""

    events_taken_in: int
    dirty: int
    backfill_settling: bool
    bands: dict[str, int]
    accounts: int
    flags_open: int

    @property
    def is_idle(self) -> bool:
        return self.dirty == 0 and not self.backfill_settling

    @property
    def at_risk(self) -> int:
        return self.bands.get("at_risk", 0) + self.bands.get("critical", 0)


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Twelve months' margin or price times the risk."""

    amount: str | float
    currency: str
    basis: Literal["margin", "mrr"]


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """One reason as a sentence."""

    text: str


class ScoredAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `GET /v1/accounts`."""

    account_id: str
    state: str
    name: str | None = None
    owner: str | None = None
    plan: str | None = None
    risk: float | None = None
    band: str | None = None
    value_at_risk: Value | None = None
    renewal_date: str | None = None
    flags: list[str] = []
    reasons: list[Why] = []


class ScoredAccounts(msgspec.Struct, frozen=True, kw_only=True):
    accounts: list[ScoredAccount]


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    sent: int
    pending: int
    dead: int


class NotifierStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the notifier has done (`GET /v1/status`)."""

    interventions_open: int
    deliveries: Deliveries


R = TypeVar("R")


async def read(
    http: httpx.AsyncClient, url: str, kind: type[R], *, key: str | None = None
) -> R | None:
    """The answer, or None while the service cannot give one: it may be starting."""
    headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = await http.get(url, headers=headers)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=kind)
    except (httpx.HTTPError, msgspec.DecodeError, UnicodeDecodeError):
        return None
