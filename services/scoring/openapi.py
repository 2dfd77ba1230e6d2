"""How the read API's answers look: an example of each, and the refusals that they have in common.

The answers are assembled from rows, not from declared models; a test compares the examples with
what is really answered, field by field.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.scoring import openapi_journey
from services.scoring.openapi_portfolio import PORTFOLIO_EXAMPLES

_REASON: Final = {
    "family": "regularity",
    "indicator": "active_days_90",
    "text": "Active on 9 of 90 days; a year ago 38, segment 41: +0.8.",
    "value": 9.0,
    "unit": "days",
    "baseline": 38.0,
    "baseline_of": "own",
    "change": -0.76,
    "window_days": 90,
    "weight": 0.81,
    "as_of": "2026-11-21",
    "peer_median": 41.0,
    "peer_segment": "mid-market",
}
_VALUE: Final = {"amount": "1630.78", "currency": "EUR", "basis": "margin"}
_NOW: Final = "2026-11-22T06:18:06Z"
_SCORE: Final = {
    "account_id": "fernhill-media",
    "state": "scored",
    "stage": "adopt",
    "short_history": False,
    "risk": 0.301,
    "band": "at_risk",
    "value_at_risk": _VALUE,
    "reasons": [_REASON],
    "as_of": _NOW,
}
_MODEL: Final = {
    "version": "prior-20261122T061806-1f0c2a",
    "kind": "prior",
    "horizon_days": 90,
    "state": "active",
    "state_since": _NOW,
    "why": "surveyed",
    "created_at": _NOW,
    "activated_at": _NOW,
    "accounts": 240,
}

_PLACED: Final = {
    "placed": {"only_account": 4210, "group_call": 310, "last_activity": 12, "first_stated": 0},
    "began_to_wait": 96,
    "late": 7,
    "full": 0,
    "erased": 0,
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "list": {
        "accounts": [
            _SCORE
            | {
                "name": "Fernhill Media",
                "owner": "csm@example.com",
                "segment": "mid-market",
                "plan": "business",
                "region": "eu",
                "reseller": None,
                "mrr": "480.00",
                "currency": "EUR",
                "contract_end": "2027-01-06",
                "renewal_date": "2027-01-06",
                "flags": ["churn_risk"],
            }
        ],
        "total": 1,
        "as_of": _NOW,
        "next_cursor": None,
    },
    "facets": {
        "owner": [{"value": "csm@example.com", "accounts": 40}, {"value": None, "accounts": 2}],
        "segment": [{"value": "mid-market", "accounts": 42}],
        "plan": [{"value": "business", "accounts": 42}],
        "region": [{"value": "eu", "accounts": 42}],
        "reseller": [{"value": None, "accounts": 42}],
        "sales": [{"value": "direct", "accounts": 42}],
        "stage": [{"value": "adopt", "accounts": 42}],
        "band": [{"value": "healthy", "accounts": 41}, {"value": "at_risk", "accounts": 1}],
        "more": {
            "owner": 0,
            "segment": 0,
            "plan": 0,
            "region": 0,
            "reseller": 0,
            "sales": 0,
            "stage": 0,
            "band": 0,
        },
        "as_of": _NOW,
    },
    "account": _SCORE
    | {
        "fields": {"name": "Fernhill Media", "seats": 12},
        "band_since": _NOW,
        "model": {"version": _MODEL["version"], "prior": True},
        "log_odds": {"base": -2.9, "families": {"regularity": 0.81, "tenure": -0.2}},
        "indicators": {"state": "scored", "active_days_90": 9, "recency_days": 24},
        "units": {"active_days_90": "days", "recency_days": "days"},
        "flags": [
            {
                "flag_id": "5f2b7c1a9d",
                "reason": "churn_risk",
                "stage": "renew",
                "episode": 1,
                "raised_at": _NOW,
                "updated_at": _NOW,
                "cleared_at": None,
                "band": "at_risk",
                "risk": 0.301,
                "summary": "Churn risk 30 % (at risk).",
                "why": "entered_band",
                "evidence": [_REASON],
                "held": False,
            }
        ],
        "waiting": [{"reason": "seats_idle", "to": "raise", "since": _NOW}],
    },
    "daily": {
        "days": [{"day": "2026-11-20", "events": 58, "active_users": 4, "session_seconds": 5100}]
    },
    "history": {
        "history": [
            {
                "as_of": _NOW,
                "kind": "weekly",
                "risk": 0.301,
                "band": "at_risk",
                "model_version": _MODEL["version"],
            }
        ]
    },
    "people": {
        "people": [
            {
                "user": "9f86d081884c7d65",
                "first_day": "2025-11-03",
                "last_day": "2026-11-20",
                "active_days_28": 11,
                "active_days_90": 35,
                "active_days_365": 140,
            }
        ],
        "total": 1,
        "as_of": "2026-11-21",
    },
    "models": {"models": [_MODEL]},
    "model": _MODEL
    | {
        "label": "no activity in the 90 days that follow",
        "base_rate": 0.026,
        "intercept": -4.1,
        "calibration": {"slope": 1.0, "intercept": 0.0, "losses": 0},
        "training": {
            "first": "2012-01-01",
            "last": "2026-01-01",
            "rows": 7000,
            "lost": 1700,
            "accounts": 260,
            "data_sha256": "9f86d081",
        },
        "standardised_on": 200,
        "schema_sha256": "1b4f0e98",
        "metrics": {"all_auc": 0.85},
        "challenger": {},
        "report": {},
        "weights": [
            {
                "feature": "active_days_365",
                "means": "distinct days with activity in 365 days / 365",
                "weight": -0.5,
                "effect": "more of it lowers the risk",
                "mean": 0.4,
                "sd": 0.2,
                "median": 0.4,
            }
        ],
        "health": [{"looked_at": _NOW, "findings": {}}],
    },
    "rules": {"digest": "1b4f0e9851971998", "rules": {"gone_silent": {"silent_days": 28}}},
    "status": {
        "events_taken_in": 229028,
        "accounts": 240,
        "dirty": 0,
        "backfill_settling": False,
        "bands": {"healthy": 201, "at_risk": 12},
        "flags_open": 31,
        "flags": {"churn_risk": 12, "gone_silent": 14},
        "outbox": 0,
        "staleness": [{"source": "app", "why": "silent", "began_at": _NOW}],
        "mass_flags": {"gone_silent": 40},
    },
    "placing": {
        "as_of": _NOW,
        "sources": [
            {
                "source": "app",
                "day": _PLACED,
                "week": _PLACED,
                "waiting": 3,
                "waiting_over_an_hour": 1,
                "waiting_since": _NOW,
                "trouble": None,
            }
        ],
    },
    **PORTFOLIO_EXAMPLES,
    **openapi_journey.EXAMPLES,
    **openapi_journey.EXAMPLES,
    **PORTFOLIO_EXAMPLES,
}

_REFUSALS: Final = {
    401: ("invalid_key", "the key is missing, unknown, expired or revoked"),
    403: ("scope_missing", "the key lacks the scope accounts:read"),
    404: ("unknown_account", "nothing of this name is known"),
    409: ("model_refused", "this version of Perennial cannot read the model"),
    413: ("body_too_large", "the message says how many bytes are taken"),
    422: ("invalid_request", "a parameter is wrong; the message names it"),
    503: ("database_unavailable", "try again after Retry-After seconds"),
}
_ALWAYS: Final = (401, 403, 422, 503)


def answers(name: str, *more: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its example, the usual refusals, and `more` of them."""
    return answers_like(EXAMPLES[name], *more)


def answers_like(example: Mapping[str, Any], *more: int) -> dict[int | str, dict[str, Any]]:
    """As `answers`, of a route whose example stands beside it."""
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": "As asked.", **_content(example)}
    }
    for status in sorted({*_ALWAYS, *more}):
        code, message = _REFUSALS[status]
        found[status] = {
            "description": message,
            **_content({"code": code, "message": message}),
        }
    return found


def _content(example: object) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": {"type": "object"}, "example": example}}}
