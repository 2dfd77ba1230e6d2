"""What the read API answers, made of stored rows: one function for each thing that is shown."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import asyncpg
import msgspec

from services.scoring.domain import table
from services.scoring.domain.indicators import indicators_of
from services.scoring.domain.ledger import LifeStage
from services.scoring.domain.model import Model
from services.scoring.domain.people import Person
from services.scoring.domain.placing_figures import Fates, SourcePlacing, trouble
from services.scoring.domain.reasons import Explanation
from services.scoring.domain.renewal import renewal_date
from services.scoring.domain.rules import Rules
from services.scoring.domain.units import UNITS
from services.scoring.explanations import StoredScore, last_complete_day
from services.scoring.model_store import StoredModel
from services.scoring.store import fields_from
from shared.messages import FlagReason, PlacedBy

View = dict[str, Any]


def stored_score(row: asyncpg.Record) -> StoredScore | None:
    """The score in a row of accounts, as far as its risk can be explained."""
    if row["risk"] is None or row["model_version"] is None:
        return None
    return StoredScore(
        account=row["account_id"],
        as_of=row["as_of"],
        segment=_fields(row).get("segment"),
        model_version=row["model_version"],
        columns=row["columns"],
        indicators=row["indicators"],
    )


def listed(row: asyncpg.Record, why: Explanation | None, today: date) -> View:
    """One account in a list."""
    known = fields_from(row["fields"])
    left = known.churned_at or date.max
    # As `listing` has it: who is active by a later contract is back.
    is_back = known.status == "active" and (known.contract_start or date.min) > left
    is_lost = known.status == "churned" or (left <= today and not is_back)
    return {
        "account_id": row["account_id"],
        "name": known.name,
        "owner": known.owner,
        "segment": known.segment,
        "plan": known.plan,
        "region": known.region,
        "reseller": known.reseller,
        "mrr": known.mrr,
        "currency": known.currency,
        "contract_end": known.contract_end,
        "renewal_date": None if is_lost else renewal_date(known, today),
        "stage": _stage(row),
        "state": row["state"],
        "short_history": row["short_history"],
        "risk": row["risk"],
        "band": row["band"],
        "value_at_risk": _value(row),
        "flags": row["flags"],
        "reasons": why.reasons if why else (),
        "as_of": row["as_of"],
    }


def account(
    row: asyncpg.Record,
    why: Explanation | None,
    flags: Sequence[asyncpg.Record],
    waiting: Sequence[asyncpg.Record],
) -> View:
    """All that is known of one account."""
    version = row["model_version"]
    return {
        "account_id": row["account_id"],
        "fields": _raw(row["fields"], "{}"),
        "state": row["state"],
        "stage": _stage(row),
        "short_history": row["short_history"],
        "risk": row["risk"],
        "band": row["band"],
        "band_since": row["band_since"] if row["band"] else None,
        "value_at_risk": _value(row),
        "model": {"version": version, "prior": (version or "").startswith("prior")},
        "reasons": why.reasons if why else (),
        "log_odds": {"base": why.base, "families": why.families} if why else None,
        "indicators": _indicators(row),
        "units": UNITS,
        "flags": [_flag(flag) for flag in flags],
        "waiting": [_waiting(one) for one in waiting],
        "as_of": row["as_of"],
    }


def day(row: asyncpg.Record) -> View:
    return {
        "day": row["day"],
        "events": row["events"],
        "active_users": row["active_users"],
        "session_seconds": round(row["milliseconds"] / 1000),
    }


def person(one: Person) -> View:
    """A user by an opaque code: the same person has the same one in every answer."""
    return {
        "user": f"{one.user & (1 << 64) - 1:016x}",
        "first_day": one.first,
        "last_day": one.last,
        "active_days_28": one.active_days_28,
        "active_days_90": one.active_days_90,
        "active_days_365": one.active_days_365,
    }


def past(row: asyncpg.Record) -> View:
    """What was known of an account's risk at a moment."""
    return {
        "as_of": row["as_of"],
        "kind": row["kind"],
        "risk": row["risk"],
        "band": row["band"],
        "model_version": row["model_version"],
    }


def model(stored: StoredModel) -> View:
    """One model in a list."""
    return {
        "version": stored.version,
        "kind": stored.kind,
        "horizon_days": stored.horizon_days,
        "state": stored.state,
        "state_since": stored.state_since,
        "why": stored.reason,
        "created_at": stored.created_at,
        "activated_at": stored.activated_at,
        "accounts": stored.accounts,
    }


def model_card(
    stored: StoredModel,
    loaded: Model,
    health: Sequence[asyncpg.Record],
    features: Mapping[str, str],
) -> View:
    """A model and all that it says of itself; `features` are the words for what it weighs."""
    return model(stored) | {
        "label": loaded.label,
        "base_rate": loaded.base_rate,
        "intercept": loaded.intercept,
        "calibration": loaded.calibration,
        "training": loaded.training,
        "standardised_on": loaded.standardised_on,
        "schema_sha256": loaded.schema_sha256,
        "metrics": loaded.metrics,
        "challenger": loaded.challenger,
        "report": stored.metrics,
        "weights": [
            {
                "feature": one.feature,
                "means": features[one.feature],
                "weight": one.weight,
                "effect": _effect(one.weight),
                "mean": one.mean,
                "sd": one.sd,
                "median": one.median,
            }
            for one in sorted(loaded.weights, key=lambda one: -abs(one.weight))
        ],
        "health": [
            {"looked_at": row["looked_at"], "findings": _raw(row["findings"], "{}")}
            for row in health
        ],
    }


def rules(found: Rules) -> View:
    return {"digest": found.digest, "rules": found}


def status(row: asyncpg.Record, held: Mapping[FlagReason, int]) -> View:
    """How far scoring is, and what makes it doubt its data."""
    return {
        "events_taken_in": row["events"],
        "accounts": row["accounts"],
        "dirty": row["dirty"],
        "backfill_settling": row["backfill_settling"],
        "bands": _raw(row["bands"], "{}"),
        "flags_open": row["flags_open"],
        "flags": _raw(row["flags"], "{}"),
        "outbox": row["outbox"],
        "staleness": _raw(row["stale"], "[]"),
        "mass_flags": held,
    }


def source_placing(found: SourcePlacing) -> View:
    """What became of one source's events that name no account."""
    return {
        "source": found.source,
        "day": _fates(found.day),
        "week": _fates(found.week),
        "waiting": found.waiting,
        "waiting_over_an_hour": found.waiting_long,
        "waiting_since": found.waiting_since,
        "trouble": trouble(found),
    }


def _fates(found: Fates) -> View:
    return {
        "placed": {by.value: getattr(found, by) for by in PlacedBy},
        "began_to_wait": found.waiting,
        "late": found.late,
        "full": found.full,
        "erased": found.erased,
    }


def _indicators(row: asyncpg.Record) -> View:
    """The indicators by name; none where the row is one of another version, or there is none."""
    if row["columns"] != table.columns_hash():
        return {}
    seen = table.unpack(last_complete_day(row["as_of"]), [row["indicators"]])
    values: View = msgspec.to_builtins(indicators_of(seen, 0))
    return values


def _flag(row: asyncpg.Record) -> View:
    return dict(row) | {"evidence": _raw(row["evidence"], "[]")}


def _waiting(row: asyncpg.Record) -> View:
    return {
        "reason": row["reason"],
        "to": "clear" if row["is_raised"] else "raise",
        "since": row["since"],
    }


def _effect(weight: float) -> str:
    if weight == 0:
        return "none"
    return "more of it raises the risk" if weight > 0 else "more of it lowers the risk"


def _stage(row: asyncpg.Record) -> str | None:
    return row["stage"] and LifeStage(row["stage"]).name.lower()


def _value(row: asyncpg.Record) -> View | None:
    if row["value_at_risk"] is None:
        return None
    return {
        "amount": str(row["value_at_risk"]),
        "currency": row["currency"],
        "basis": row["value_basis"],
    }


def _fields(row: asyncpg.Record) -> View:
    known: View = msgspec.json.decode(row["fields"] or "{}")
    return known


def _raw(document: str | None, default: str) -> msgspec.Raw:
    return msgspec.Raw((document or default).encode())
