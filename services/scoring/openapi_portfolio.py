"""How the answers of portfolio, months and forecast look."""

from typing import Any, Final

_FIGURES: Final[dict[str, Any]] = {
    "accounts": {"start": 230, "new": 24, "lost": 16, "end": 238, "trials": 9},
    "churn": {
        "rate": 0.0696,
        "retention": 0.9304,
        "per_month": 0.006,
        "per_year": 0.0696,
        "n": 230,
    },
    "renewals": {"due": 160, "renewed": 138, "lost": 12, "pending": 10, "rate": 0.92},
    "money": [
        {
            "currency": "EUR",
            "mrr_start": "104200.00",
            "new": "9100.00",
            "expansion": "6400.50",
            "contraction": "1800.00",
            "lost": "5900.00",
            "mrr_end": "112000.50",
            "grr": 0.9261,
            "nrr": 0.9875,
            "n": 226,
            "renewals": {
                "due": "864000.00",
                "renewed": "756000.00",
                "lost": "60000.00",
                "pending": "48000.00",
                "rate": 0.9265,
            },
            "ltv": {
                "average": "16320.00",
                "months": 48.0,
                "of": "segment",
                "n": 230,
                "basis": "margin",
            },
            "value_at_risk": "91230.10",
            "ltv_at_risk": "288400.00",
            "value_basis": {"margin": 221, "mrr": 8},
        }
    ],
}
_WHOLE: Final = _FIGURES | {"accounts": _FIGURES["accounts"] | {"without_record": 3}}
_FORECAST: Final = [
    {
        "days": days,
        "due": due,
        "without_risk": 1,
        "expected_lost": lost,
        "expected_rate": 0.93,
        "money": [{"currency": "EUR", "due": "66000.00", "expected_lost": "4400.00"}],
    }
    for days, due, lost in ((30, 13, 0.8), (90, 41, 2.9), (180, 77, 6.1))
]
_AS_OF: Final = "2026-11-22T06:18:06Z"

PORTFOLIO_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "portfolio": {
        "from": "2025-11-23",
        "to": "2026-11-23",
        "as_of": _AS_OF,
        "state": "provisional",
        "by": "owner",
        "target": 0.9,
        "whole": _WHOLE,
        "parts": [{"key": "csm@example.com", "figures": _FIGURES}],
        "others": None,
    },
    "months": {"months": [{"month": "2026-01", "state": "final", "figures": _FIGURES}]},
    "renewals": {
        "as_of": _AS_OF,
        "horizons": [30, 90, 180],
        "whole": _FORECAST,
        "parts": [{"key": "csm@example.com", "forecast": _FORECAST}],
        "others": None,
    },
}
