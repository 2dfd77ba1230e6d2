"""How the API's answers look: an example of each, and the refusals that they have in common.

The answers are assembled from rows, not from declared models; a test compares the examples with
what is really answered, field by field.
"""

from typing import Any, Final

_NOW: Final = "2026-11-22T06:18:06Z"
_LATER: Final = "2026-12-06T08:00:00Z"
_ID: Final = "6a0e7d0a-54f0-4f3c-8f0e-3d7f6c2f5a11"
_KEY: Final = "key:crm/7Fh2kQ9sLm3X"

INTERVENTION: Final[dict[str, Any]] = {
    "id": _ID,
    "account_id": "fernhill-media",
    "type": "renew",
    "reason": "churn_risk",
    "status": "open",
    "version": 1,
    "episode": 1,
    "severity": "at_risk",
    "owner": "csm@example.com",
    "opened_at": _NOW,
    "due_at": "2026-11-25T17:00:00Z",
    "is_overdue": False,
    "priority": 6115.4,
    "risk": 0.301,
    "value_at_risk": {"amount": "1630.78", "currency": "EUR", "basis": "margin"},
    "renewal_date": "2027-01-06",
    "notice_by": "2026-12-07",
    "summary": "Churn risk 30 % (at risk).",
    "acknowledged_at": None,
    "acknowledged_by": None,
    "snooze": None,
    "recovered_at": None,
    "closed_at": None,
    "closed_by": None,
    "outcome": None,
    "note": "",
    "held_out": False,
    "playbook": "default",
}
_ENTRY: Final = {
    "intervention_id": _ID,
    "at": _NOW,
    "kind": "opened",
    "by": "scoring",
    "detail": {"owner": "csm@example.com"},
}
_LINE: Final = {"plan": "90", "actual": 88.6, "gap": -1.4, "n": 35}
_TARGET: Final[dict[str, Any]] = {
    "measure": "renewal_rate",
    "makes": "mean",
    "version": 2,
    "changed_by": "lead@example.com",
    "changed_at": _NOW,
    "department": _LINE,
    "people": [{"owner": "csm@example.com", **_LINE}],
}
_SILENCE: Final = {
    "id": _ID,
    "state": "active",
    "matchers": {"reason": "seats_idle"},
    "starts_at": _NOW,
    "ends_at": _LATER,
    "author": _KEY,
    "comment": "They share seats",
    "created_at": _NOW,
}
_SENTIMENT: Final = {
    "id": _ID,
    "mood": "bad",
    "note": "A new manager wants to look around.",
    "by": _KEY,
    "at": _NOW,
    "expires_at": _LATER,
    "has_expired": False,
}
_SHARE: Final = {"part": 12, "of": 16, "value": 0.75}
_FIGURES: Final = {
    "endings": 20,
    "by_system": 4,
    "outcomes": {"saved": 9, "churned": 3, "false_alarm": 4},
    "precision": _SHARE,
    "save_rate": _SHARE,
    "acknowledge_seconds": 5400.0,
    "first_action_seconds": 5400.0,
    "false_alarms_per_person_week": 0.2,
}
_NOTE: Final = {"text": "They want to talk about prices.", "author": _KEY, "at": _NOW}
_PERSON: Final = {
    "address": "csm@example.com",
    "name": "Anna Berg",
    "zone": "Europe/Berlin",
    "opens": "09:00:00",
    "closes": "18:00:00",
    "any_hour": False,
    "deputy": None,
    "manager": "lead@example.com",
    "mode": "real_time",
    "email": None,
    "channels": None,
    "digest_at": "08:30:00",
    "own_choice": {"mode": "daily"},
}
_USER: Final = {
    "address": "csm@example.com",
    "role": "csm",
    "state": "invited",
    "created_at": _NOW,
    "created_by": "lead@example.com",
    "last_seen_at": None,
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "list": {
        "interventions": [INTERVENTION | {"account_name": "Fernhill Media"}],
        "next_cursor": None,
    },
    "intervention": INTERVENTION
    | {
        "risk_at_open": 0.28,
        "reasons": [
            {
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
        ],
        "proposed_outcome": None,
        "priority_factors": {
            "severity": 1.5,
            "value": 1630.78,
            "currency": "EUR",
            "nearness": 2.5,
            "days": 45,
        },
        "tasks": [
            {
                "number": 1,
                "title": "Read the reasons and the account's timeline",
                "owner": "csm@example.com",
                "due_at": "2026-11-23T17:00:00Z",
                "done_at": None,
                "done_by": None,
            }
        ],
        "timeline": [_ENTRY],
    },
    "step": INTERVENTION
    | {"status": "acknowledged", "version": 2, "acknowledged_at": _NOW, "acknowledged_by": _KEY},
    "timeline": {"timeline": [_ENTRY], "next_cursor": None},
    "sentiments": {"sentiments": [_SENTIMENT]},
    "sentiment": _SENTIMENT,
    "notes": {"notes": [_NOTE]},
    "note": _NOTE,
    "views": {
        "views": [
            {
                "id": _ID,
                "owner": "csm@example.com",
                "name": "My critical ones",
                "query": "band=critical",
                "shared": True,
            }
        ]
    },
    "removed": {"id": _ID},
    "deliveries": {
        "deliveries": [
            {
                "id": _ID,
                "account_id": "fernhill-media",
                "intervention_id": None,
                "kind": "notice",
                "channel": "slack",
                "destination": "slack:csm@example.com",
                "recipient": "csm@example.com",
                "reason": "first",
                "state": "cancelled",
                "suppressed_because": "silenced",
                "created_at": _NOW,
                "due_at": _NOW,
                "ended_at": _NOW,
                "attempts": 0,
                "urgent": False,
                "failure": None,
                "failure_detail": None,
            }
        ],
        "next_cursor": None,
    },
    "channels": {
        "channels": [
            {"channel": "slack", "paused_until": _LATER, "broken_since": None, "failure": None}
        ],
        "destinations": [
            {
                "destination": "email:csm@example.com",
                "channel": "email",
                "next_allowed_at": _LATER,
                "broken_since": _NOW,
                "failures": 5,
                "failure": "550 no such user",
            }
        ],
    },
    "silences": {"silences": [_SILENCE]},
    "silence": _SILENCE,
    "expired": {"id": _ID, "ends_at": _NOW},
    "feedback": {
        "days": 90,
        "total": _FIGURES,
        "reasons": {"churn_risk": _FIGURES},
        "playbooks": {"default": _FIGURES},
        "hold_out": {
            "drawn_from": "2024-11-22",
            "measured_days": 180,
            "fewest_accounts": 30,
            "held_out": {"accounts": 0, "lost": 0},
            "treated": {"accounts": 120, "lost": 9},
            "uplift": None,
        },
    },
    "today": {
        "open": 31,
        "held_out": 0,
        "piles": {
            "overdue": 4,
            "due": 3,
            "recovered": 1,
            "waking": 1,
            "new": 2,
            "next": 18,
            "resting": 2,
        },
        "value_at_risk": [{"currency": "EUR", "amount": "48210.50"}],
    },
    "playbooks": {
        "playbooks": [
            {
                "name": "default",
                "version": 1,
                "title": "Look into it",
                "due": {"critical": 1, "at_risk": 3, "watch": 5},
                "tasks": [{"title": "Read the reasons", "due": 0}],
                "repeat": {"critical": 1},
                "escalation": [{"after": 1, "to": "owner"}],
            }
        ],
        "problem": None,
    },
    "dry_run": {
        "is_known": True,
        "would": "opened",
        "owner": "csm@example.com",
        "because": "account_owner",
        "playbook": "default",
        "due_at": "2026-11-25T17:00:00Z",
        "messages": [
            {
                "destination": "slack:csm@example.com",
                "reason": "first",
                "due_at": _NOW,
                "urgent": False,
                "suppressed_because": None,
            }
        ],
    },
    "people": {
        "people": [_PERSON],
        "fallback_owner": "lead@example.com",
        "fallback_lead": "lead@example.com",
        "problem": None,
    },
    "person": _PERSON,
    "sources": {
        "sources": [
            {
                "name": "app",
                "settings": {"name": "app", "type_map": {"signed_in": "login"}},
                "keys": [
                    {
                        "key_id": "7Fh2kQ9sLm3X",
                        "scopes": ["events:write"],
                        "created_at": _NOW,
                        "expires_at": None,
                        "revoked_at": None,
                        "is_live": True,
                    }
                ],
            }
        ]
    },
    "users": {"users": [_USER]},
    "user": _USER,
    "invited": _USER | {"welcome_path": "/welcome/3fJ0"},
    "targets": {"year": 2026, "targets": [_TARGET]},
    "target": {"year": 2026, **_TARGET},
    "audit": {
        "audit": [
            {
                "at": _NOW,
                "actor": _KEY,
                "role": "manager",
                "way": "key",
                "action": "intervention.acknowledged",
                "subject": _ID,
                "account_id": "fernhill-media",
                "detail": {},
            }
        ],
        "next_cursor": None,
    },
}

_REFUSALS: Final = {
    400: ("unknown_host", "not a name of this console: see PERENNIAL_CONSOLE_URL"),
    401: ("invalid_key", "the key is missing, unknown, expired or revoked"),
    403: ("scope_missing", "the key lacks the scope interventions:read"),
    404: ("unknown_intervention", "there is no such intervention"),
    409: ("stale", "it has changed since you looked; look and decide again"),
    413: ("too_large", "a body has at most 65536 bytes"),
    422: ("invalid_request", "a parameter is wrong; the message names it"),
    503: ("database_unavailable", "try again after Retry-After seconds"),
}
_ALWAYS: Final = (400, 401, 403, 413, 422, 503)
_ERROR: Final = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
}


def answers(name: str, *more: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its example, the usual refusals, and `more` of them."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": "As asked.", **_content({"type": "object"}, EXAMPLES[name])}
    }
    for refusal in sorted({*_ALWAYS, *more}):
        code, message = _REFUSALS[refusal]
        example: dict[str, Any] = {"code": code, "message": message}
        if refusal == 409 and name == "step":
            # The row as it is now, so that the caller can look and decide again.
            example["intervention"] = INTERVENTION
        found[refusal] = {"description": message, **_content(_ERROR, example)}
    return found


def _content(schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema, "example": example}}}
