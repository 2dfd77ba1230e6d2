"""Indicators of many accounts at once: one row of floats per account, the form that is stored.

`Indicators` (one account, in Python's types) is for people: reasons, flags' texts, the API. A row
is for everything that happens to all accounts: features, risk, bands, conditions of flags.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.usage import Floats

COLUMNS: Final = (
    "state",  # index into STATES
    "short_history",  # 0, 1
    "recency_days",
    "tenure_days",
    "active_days_ever",
    "events_7",
    "events_28",
    "events_90",
    "events_180",
    "events_365",
    "active_days_7",
    "active_days_28",
    "active_days_90",
    "active_days_180",
    "active_days_365",
    "active_users_7",
    "active_users_28",
    "active_users_90",
    "active_users_180",
    "active_users_365",
    "share_of_active_users",
    "share_basis",  # index into BASES
    "share_of_known_users",
    "seconds_7",
    "seconds_28",
    "seconds_90",
    "seconds_180",
    "seconds_365",
    "seconds_per_user_day",
    "stickiness",
    "breadth_7",
    "breadth_28",
    "breadth_90",
    "breadth_180",
    "breadth_365",
    "mean_gap_days",
    "p95_gap_days",
    "champion_share",
    "champion_gone",  # 1: the main user of days 29-118 has not come in 28; missing: there was none
    "most_user_days_28",  # of one user
    "trend",
    "trend_z",
    "base_events_per_week",  # of weeks 5-30, what the trend compares with
    "active_days_first_14",  # of the account's tenure
    "active_days_14",
    "milestones",  # distinct ones, ever reached
    "days_to_renewal",
    "contract_days",  # from contract_start to contract_end
    "cancellation_age_days",  # of the newest request that was not withdrawn; missing: none
    "cancellation_effective_days",  # from A to the day it states
    "payments_failed_14",
    "payment_failed_age_days",  # of the newest failure
    "payment_succeeded_since",  # 1: a payment succeeded after the newest failure
    "tickets_28",
    "tickets_180",
    "tickets_open",
    "ticket_severe_age_days",  # of the oldest severe one that is open
    "tickets_28_per_10_users",
    "nps_mean",  # of each user's newest score in 180 days; and how many answered
    "nps_answers",
    "csat_mean",
    "csat_answers",
    "ces_mean",
    "ces_answers",
    "unhappy_users",  # users whose newest score, at most 90 days old, is low
)
"""The columns in the order in which they are stored; every one is float64, NaN is "not known"."""

STATES: Final = ("too_new", "scored", "lapsed")
BASES: Final = ("seats", "known_users")
_INDEX: Final = {name: index for index, name in enumerate(COLUMNS)}


@dataclass(frozen=True, slots=True)
class IndicatorTable:
    """`values` `(accounts, columns)`, rows in the order of the accounts asked for; as of day A."""

    as_of: date
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> Floats:
        """One column `(accounts,)`, a view."""
        return self.values[:, _INDEX[name]]

    def row(self, index: int) -> dict[str, float]:
        """One account's values by column."""
        return dict(zip(COLUMNS, self.values[index].tolist(), strict=True))

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "IndicatorTable":
        """The rows of some accounts: a mask, or their indices."""
        return IndicatorTable(self.as_of, self.values[chosen])

    def packed(self) -> list[bytes]:
        """Each account's row as it is stored."""
        return [row.tobytes() for row in np.ascontiguousarray(self.values)]


def table_of(as_of: date, columns: Mapping[str, Floats]) -> IndicatorTable:
    """The table of all columns by name, `(accounts,)` each."""
    if columns.keys() != _INDEX.keys():
        raise ValueError(f"not the columns: {sorted(columns.keys() ^ _INDEX.keys())}")
    # Column by column in memory: nearly all work on a table is.
    values = np.empty((len(columns[COLUMNS[0]]), len(COLUMNS)), np.float64, order="F")
    for name, index in _INDEX.items():
        values[:, index] = columns[name]
    return IndicatorTable(as_of, values)


def unpack(as_of: date, packed: Sequence[bytes]) -> IndicatorTable:
    """The table of rows as they are stored; the caller has compared `columns_hash`."""
    values = np.frombuffer(b"".join(packed), np.float64).reshape(len(packed), len(COLUMNS))
    return IndicatorTable(as_of, values)


def columns_hash() -> str:
    """What stands beside stored rows: rows of other columns are not read."""
    return hashlib.sha256("\n".join(COLUMNS).encode()).hexdigest()[:16]
