"""What the demo reads of the running services, over their HTTP APIs as anybody would."""

from collections.abc import Mapping
from typing import Literal, TypeVar

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families


class ScoringStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far scoring is (`GET /v1/status`)."""

    events_taken_in: int
    dirty: int
    backfill_settling: bool
    bands: dict[str, int]
    accounts: int
    flags_open: int
    outbox: int
    flags: dict[str, int] = {}

    @property
    def is_idle(self) -> bool:
        return self.dirty == 0 and self.outbox == 0 and not self.backfill_settling

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


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What the process has read of the log since its start (`GET /metrics` of the admin port)."""

    events: int
    """Usage events that scoring has taken in: duplicates too, unlike `events_taken_in`."""
    waiting: int
    """Records that a service has not taken in yet, as of its last look."""


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


async def read_intake(http: httpx.AsyncClient, admin_url: str) -> Intake | None:
    """None where the metrics cannot be had: the services may run in other processes too."""
    try:
        response = await http.get(f"{admin_url}/metrics")
        response.raise_for_status()
        samples = [
            sample
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        ]
    except (httpx.HTTPError, ValueError):
        return None
    return Intake(
        events=sum(
            int(sample.value)
            for sample in samples
            if sample.name == "perennial_batch_records_sum"
            and sample.labels == {"service": "scoring", "topic": "usage-events"}
        ),
        waiting=sum(
            int(sample.value) for sample in samples if sample.name == "perennial_log_lag_records"
        ),
    )
