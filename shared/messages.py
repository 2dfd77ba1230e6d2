"""What travels on the log: one struct per kind of message, compact JSON, a version in each.

Changes are additive only: a new field has a default, so that old records decode for ever.
`flags` and `outcomes` are CloudEvents 1.0, so that anybody can consume them.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal, TypeVar

import msgspec

from shared.errors import InvalidMessage

USAGE_EVENTS = "usage-events"
USAGE_EVENTS_OVERFLOW = "usage-events-overflow"
UNPLACED_EVENTS = "unplaced-events"
DIRECTORY_CHANGES = "directory-changes"
ACCOUNTS = "accounts"
FLAGS = "flags"
OUTCOMES = "outcomes"
REJECTED = "rejected"
SOURCES = "sources"

ERASURE = "perennial.erasure"
"""The header that holds an `Erasure`."""


class Band(StrEnum):
    """How close an account is to leaving; changes with hysteresis only."""

    HEALTHY = "healthy"
    WATCH = "watch"
    AT_RISK = "at_risk"
    CRITICAL = "critical"


class FlagReason(StrEnum):
    """Why scoring raised a flag."""

    CHURN_RISK = "churn_risk"
    GONE_SILENT = "gone_silent"
    USAGE_DROP = "usage_drop"
    SEATS_IDLE = "seats_idle"
    CHAMPION_LOST = "champion_lost"
    ONBOARDING_STALLED = "onboarding_stalled"
    CANCELLATION_INTENT = "cancellation_intent"
    PAYMENT_FAILED = "payment_failed"
    SUPPORT_STRAIN = "support_strain"
    UNHAPPY_FEEDBACK = "unhappy_feedback"
    RENEWAL_DUE = "renewal_due"
    GOAL_MISSED = "goal_missed"
    EXPANSION_READY = "expansion_ready"
    GOAL_REACHED = "goal_reached"


class Stage(StrEnum):
    """The stage of the LAER cycle (land, adopt, expand, renew) that a flag belongs to."""

    LAND = "land"
    ADOPT = "adopt"
    EXPAND = "expand"
    RENEW = "renew"


class OutcomeKind(StrEnum):
    """How an intervention ended."""

    SAVED = "saved"
    CHURNED = "churned"
    DOWNSOLD = "downsold"
    EXPANDED = "expanded"
    FALSE_ALARM = "false_alarm"
    NO_ACTION_NEEDED = "no_action_needed"


class PlacedBy(StrEnum):
    """How the account was found of an event that named a user alone."""

    ONLY_ACCOUNT = "only_account"
    """The user is known in one account; or a replay found that its source has one for all."""
    GROUP_CALL = "group_call"
    """Of several, the one that the latest `group` call at or before the event named."""
    LAST_ACTIVITY = "last_activity"
    """No `group` call before it: the account in which the user was active last."""
    FIRST_STATED = "first_stated"
    """Nor any activity: the account that the next `group` call names, or that was known first."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages; `v` is the version of the message's schema."""

    v: int = 1


class UsageEvent(Message, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing that happened in a product app (`usage-events`, key: account).

    `user` is a keyed hash (`u1:...`). `client_at` is the time as the client stated it, before any
    correction; with `source` and `id` it is what makes two deliveries the same event.
    """

    id: str
    source: str
    account: str
    type: str
    occurred_at: datetime
    received_at: datetime
    user: str | None = None
    client_at: datetime | None = None
    format: str = "native"
    backfill: bool = False
    properties: Mapping[str, object] = {}
    placed_by: PlacedBy | None = None
    """None: the event itself named the account, or its source's default did."""


class UnplacedEvent(Message, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A usage event that names a user and no account (`unplaced-events`, key: the user's hash).

    Scoring finds the account and appends it to `usage-events` under the same source and id.
    """

    id: str
    source: str
    user: str
    type: str
    occurred_at: datetime
    received_at: datetime
    client_at: datetime | None = None
    format: str = "native"
    backfill: bool = False
    properties: Mapping[str, object] = {}


class Goal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A success goal that the vendor agreed with its customer."""

    metric: str
    baseline: float
    target: float
    direction: Literal["up", "down"] = "up"
    due: date | None = None


class AccountFields(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the directory knows of an account besides usage; None is "not known"."""

    name: str | None = None
    plan: str | None = None
    segment: str | None = None
    reseller: str | None = None
    seats: int | None = None
    mrr: Decimal | None = None
    margin_per_month: Decimal | None = None
    currency: str | None = None
    region: str | None = None
    timezone: str | None = None
    owner: str | None = None
    contract_start: date | None = None
    contract_end: date | None = None
    notice_days: int | None = None
    billing_period: Literal["month", "quarter", "half_year", "year", "multi_year"] | None = None
    status: Literal["trial", "active", "churned"] | None = None
    churned_at: date | None = None
    goals: tuple[Goal, ...] | None = None


class DirectoryChange(Message, frozen=True, kw_only=True, omit_defaults=True):
    """One change to the directory as it came (`directory-changes`, key: account).

    `put` replaces the record by `fields`; `patch` sets `fields` and clears the names in `cleared`.
    `erase` removes all that is known of the account; with `user`, a keyed hash, of that person
    only: in this account, or where `account` is empty in all of them (then the key is the hash).
    """

    account: str
    op: Literal["put", "patch", "erase"]
    source: str
    received_at: datetime
    user: str | None = None
    fields: AccountFields = AccountFields()
    cleared: tuple[str, ...] = ()


class AccountRecord(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The whole record of one account, as scoring merged it (`accounts`, key: account).

    A record without a value says that the account was erased; its header `ERASURE` says when.
    """

    account: str
    updated_at: datetime
    fields: AccountFields


class Erasure(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Until when an account was erased: in the header of a record without a value (`accounts`)."""

    erased_at: datetime
    """What was received until then is gone."""
    flags_until: datetime
    """Flags as of that moment or before were raised from what is gone."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One family of indicators and what it adds to the logit of the risk.

    `text` is the sentence a CSM reads; the numbers beside it let them check it. `change` is
    against `baseline`: the account's own value a year before, else the peers' median.
    `peer_median` is that of the accounts of `peer_segment`; None: of all accounts.
    """

    family: str
    indicator: str
    text: str
    value: float | None
    unit: str
    baseline: float | None
    baseline_of: Literal["own", "segment"] | None
    change: float | None
    window_days: int | None
    weight: float
    as_of: date
    peer_median: float | None = None
    peer_segment: str | None = None


class ValueAtRisk(msgspec.Struct, frozen=True, kw_only=True):
    """Risk times twelve months of margin (`basis` "margin"), else of price ("mrr")."""

    amount: Decimal
    currency: str
    basis: Literal["margin", "mrr"]


class Flag(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that scoring raised, updated or cleared about one account for one reason."""

    flag_id: str
    account: str
    reason: FlagReason
    stage: Stage
    change: Literal["raised", "updated", "cleared"]
    episode: int
    as_of: datetime
    raised_at: datetime
    received_at: datetime | None = None
    """When what caused this change arrived: an event, or the midnight that a rule waited for."""
    band: Band | None = None
    risk: float | None = None
    value_at_risk: ValueAtRisk | None = None
    renewal_date: date | None = None
    summary: str = ""
    reasons: tuple[Reason, ...] = ()


class Outcome(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How an intervention ended; the highest revision of an intervention and episode counts."""

    intervention_id: str
    account: str
    type: str
    reason: str
    """A flag's reason, or one of the notifier's own (`sentiment`, `account_lost`)."""
    episode: int
    revision: int
    outcome: OutcomeKind
    by: Literal["system", "person"]
    closed_at: datetime
    risk_at_open: float | None = None
    held_out: bool = False
    """Nobody was told, so that the effect of telling can be measured: no treatment."""
    playbook: str | None = None


class FlagEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A flag in its CloudEvents envelope (`flags`, key: account)."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: Flag
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class OutcomeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome in its CloudEvents envelope (`outcomes`, key: account)."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: Outcome
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class Source(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How the events of one source are read (`sources`, compacted, key: `source/` and the name)."""

    name: str
    type_map: dict[str, str] = {}
    """The source's names of types, normalised, to those that scoring understands."""
    default_account: str | None = None
    """Of events that name none."""
    account_group: str | None = None
    """PostHog's group type that is the account; by default the only one of an event."""


class WriteKey(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A key of a source as everybody may know it (`sources`, compacted, key: key id)."""

    key_id: str
    secret_sha256: str
    source: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


M = TypeVar("M")

_encoder = msgspec.json.Encoder(decimal_format="string")


def encode(message: msgspec.Struct) -> bytes:
    return _encoder.encode(message)


def decode(kind: type[M], value: bytes | None) -> M:
    """The message in a record's value; raises InvalidMessage, whatever the bytes are."""
    if value is None:
        raise InvalidMessage("invalid_message", "the record has no value")
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # The text of a validation error names the path, not the value.
        raise InvalidMessage("invalid_message", str(error)) from error
