"""Accounts as rows of indicators: healthy by default; a test states what matters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from services.scoring.domain.flags.conditions import Conditions, conditions
from services.scoring.domain.flags.facts import facts_of
from services.scoring.domain.flags.machine import Sight, decide, sight_of
from services.scoring.domain.flags.states import Decision, FlagState
from services.scoring.domain.goals import standing
from services.scoring.domain.risk import severity
from services.scoring.domain.rules import Rules, read_default
from services.scoring.domain.table import BASES, COLUMNS, STATES, IndicatorTable
from services.scoring.domain.usage import History, Signal, usage_of
from shared.messages import AccountFields, Band, FlagReason, Reason
from tests.unit.scoring.factories import AS_OF, NOW

DAY = 86_400_000_000  # microseconds
EPOCH = date(1970, 1, 1).toordinal()

HEALTHY: dict[str, float] = {
    "state": STATES.index("scored"),
    "short_history": 0,
    "recency_days": 0,
    "tenure_days": 400,
    "active_days_ever": 200,
    "active_days_7": 4,
    "active_days_28": 14,
    "active_users_28": 4,
    "active_users_180": 4,
    "events_28": 400,
    "mean_gap_days": 2,
    "champion_gone": 0,
    "most_user_days_28": 10,
    "active_days_first_14": 7,
    "active_days_14": 7,
    "trend": 1,
    "trend_z": 0,
}
"""Of an account that comes every second day; whatever is not named is not known."""


ACME = AccountFields(name="Acme", mrr=Decimal(100), currency="EUR")


def values(**columns: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A row of indicators `(columns,)`."""
    row = np.full(len(COLUMNS), np.nan)
    for name, value in (HEALTHY | columns).items():
        row[COLUMNS.index(name)] = value
    return row


def of_seats(users: float, seats: int) -> dict[str, float]:
    """The columns of an account with so many users in 28 days on its seats."""
    return {
        "active_users_28": users,
        "share_of_active_users": min(users / seats, 1.5),
        "share_basis": BASES.index("seats"),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account at one moment."""

    columns: Mapping[str, float] = field(default_factory=dict)
    fields: AccountFields = ACME
    band: Band = Band.HEALTHY
    risk: float | None = 0.02
    stale: bool = False
    now: datetime = NOW
    as_of: date = AS_OF
    reasons: tuple[Reason, ...] = ()
    milestones_used: bool = False
    goal_values: tuple[Signal, ...] = ()
    rules: Rules = field(default_factory=read_default, repr=False)

    def but(self, **changes: Any) -> "Account":
        """The same account, with other columns besides those it had."""
        columns = dict(self.columns) | changes.pop("columns", {})
        return replace(self, columns=columns, **changes)

    @property
    def judged(self) -> Conditions:
        return together([self])

    @property
    def sight(self) -> Sight:
        return self.sight_in(self.judged, 0)

    def sight_in(self, judged: Conditions, index: int) -> Sight:
        return sight_of(judged, index, self.fields, self.now, reasons=self.reasons)

    def decide(self, states: Mapping[FlagReason, FlagState] | None = None) -> tuple[Decision, ...]:
        judged = self.judged
        return decide(states or {}, judged, 0, self.sight_in(judged, 0), self.rules)

    def changes(
        self, states: Mapping[FlagReason, FlagState] | None = None
    ) -> list[tuple[str, str]]:
        """What is told: flags and changes."""
        return [(one.reason.value, one.change) for one in self.decide(states) if one.change]


def together(accounts: Sequence[Account]) -> Conditions:
    """All of them judged at once, as of the day and by the rules of the first."""
    first = accounts[0]
    table = IndicatorTable(first.as_of, np.stack([values(**one.columns) for one in accounts]))
    facts = facts_of(
        [one.fields for one in accounts],
        first.as_of,
        severity=np.array([severity(one.band) for one in accounts]),
        risk=np.array([np.nan if one.risk is None else one.risk for one in accounts]),
        stale=np.array([one.stale for one in accounts]),
        goals=standing(
            [one.fields for one in accounts],
            usage_of([History(signals=one.goal_values) for one in accounts]).signals,
            as_of=first.as_of,
            # At noon of the day after, however late it is told.
            now=(first.as_of.toordinal() + 1 - EPOCH) * DAY + DAY // 2,
        ),
        milestones_used=first.milestones_used,
    )
    return conditions(table, facts, first.rules)
