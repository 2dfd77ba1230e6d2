"""How the answers of journey and goals look."""

from typing import Any, Final

_NOW: Final = "2026-11-22T06:18:06Z"
_FIGURES: Final = {
    "accounts": 60,
    "goals": 84,
    "reached": 31,
    "on_track": 28,
    "behind": 9,
    "missed": 6,
    "no_values": 10,
    "mean_improvement": 0.052,
    "top_improvement": 0.161,
    "success_rate": 0.419,
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "journey": {
        "as_of": _NOW,
        "stages": [
            {
                "stage": "land",
                "accounts": 16,
                "median_days": 22.0,
                "entered_90": 18,
                "left_90": {"adopt": 9, "lost": 1},
            }
        ],
    },
    "way": {
        "stages": [
            {"stage": "land", "since": "2026-08-01T00:00:00Z", "until": _NOW},
            {"stage": "adopt", "since": _NOW, "until": None},
        ]
    },
    "goals": {
        "as_of": _NOW,
        "whole": _FIGURES,
        "parts": [{"key": "csm@example.com", "goals": _FIGURES}],
    },
    "promises": {
        "goals": [
            {
                "metric": "time_to_invoice",
                "baseline": 12.0,
                "target": 10.2,
                "direction": "down",
                "due": "2027-03-01",
                "state": "on_track",
                "value": 10.6,
                "value_at": _NOW,
                "improvement": 0.1167,
                "target_improvement": 0.15,
                "attained": 0.7778,
                "expected_now": 0.63,
                "values": [{"day": "2026-11-22", "value": 10.6}],
            }
        ]
    },
}
