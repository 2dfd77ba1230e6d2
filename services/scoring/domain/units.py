"""The units of the indicators, for whoever reads them as numbers: the API, tables, reports."""

from collections.abc import Mapping
from typing import Final

from services.scoring.domain.indicators import Indicators

# The longest beginning of a name decides; names that begin with none of them have no unit.
_BY_BEGINNING: Final = {
    "active_days_": "days",
    "active_users_": "users",
    "base_events_per_week": "events per week",
    "breadth_": "features",
    "cancellation_": "days",
    "ces_": "score, 1 to 7",
    "ces_answers": "answers",
    "champion_share": "share",
    "contract_days": "days",
    "csat_": "score, 1 to 5",
    "csat_answers": "answers",
    "days_to_renewal": "days",
    "events_": "events",
    "mean_gap_days": "days",
    "milestones": "milestones",
    "most_user_days_": "days",
    "nps_": "score, 0 to 10",
    "nps_answers": "answers",
    "p95_gap_days": "days",
    "payment_failed_age_days": "days",
    "payments_failed_": "payments",
    "recency_days": "days",
    "seconds_": "seconds",
    "share_of_": "share",
    "stickiness": "share",
    "tenure_days": "days",
    "ticket_severe_age_days": "days",
    "tickets_": "tickets",
    "tickets_28_per_10_users": "tickets per 10 users",
    "trend": "ratio",
    "trend_z": "standard deviations",
    "unhappy_users": "users",
}
UNITLESS: Final = frozenset(
    {
        "as_of",
        "champion_gone",
        "payment_succeeded_since",
        "share_basis",
        "short_history",
        "state",
    }
)
"""Yes and no, words, and a date."""


def _unit(name: str) -> str:
    return _BY_BEGINNING[max(filter(name.startswith, _BY_BEGINNING), key=len)]


UNITS: Final[Mapping[str, str]] = {
    name: _unit(name) for name in Indicators.__annotations__ if name not in UNITLESS
}
"""The unit of every field of `Indicators` that is a number."""
