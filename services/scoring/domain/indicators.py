"""Indicators of use, as of a moment: one pure function for serving and for training.

Everything looks at complete UTC days: A is the last complete day before `now`, window w is the
days A-w+1..A. Only recency sees the running day, else every midnight would look like a fall;
signals count from their moment on. The caller passes what was *received* by `now`, nothing more.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from math import isnan
from typing import Any, Final, Literal, TypeAlias, get_type_hints

import numpy as np

from services.scoring.domain.people import feature_columns, user_columns
from services.scoring.domain.relationship import Relationship
from services.scoring.domain.renewal import days_to_renewal
from services.scoring.domain.table import BASES, STATES, IndicatorTable, table_of
from services.scoring.domain.usage import (
    NO_OUTAGES,
    Directory,
    Floats,
    Outages,
    Usage,
    microseconds,
)
from services.scoring.domain.windows import (
    ActiveDays,
    first_days,
    last_days,
    rates,
    recency,
    rhythm,
    trend,
)

Basis: TypeAlias = Literal["seats", "known_users"]

MAX_SHARE: Final = 1.5

YOUNG_TENURE_DAYS: Final = 28
YOUNG_ACTIVE_DAYS: Final = 3
SHORT_HISTORY_DAYS: Final = 180
LAPSED_RECENCY_DAYS: Final = 90

COHORT_RATIO_RANGE: Final = (0.25, 1.5)
COHORT_MIN_ACCOUNTS: Final = 5


class State(StrEnum):
    """What can be said of an account: only `scored` ones get a risk."""

    TOO_NEW = "too_new"
    SCORED = "scored"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicators:
    """What one account's use looks like as of day A; None is "not known", never zero.

    Counts are per window of the days in the name. `active_users_*` count distinct users;
    `share_of_active_users` is `active_users_28` per seat, or per user known in 365 days where
    seats are not known (`share_basis`; the two are never compared), at most 1.5.
    `share_of_known_users` always has the second basis: it is what the model reads.
    `seconds_*` are those that the product reports; `seconds_per_user_day` those of 28 days per
    user and day. `stickiness` is the mean share of days on which a user active in 28 days came
    (DAU/MAU). `breadth_*` count distinct features of the product. The gaps are those of the last
    60 active days. `champion_share` is the largest share of one user in the user-days of 90 days;
    `champion_gone`: somebody had half of those 29-118 days ago, 10 at least, in an account of
    three users or more, and none since; None where nobody had so many. `trend` compares the events
    of weeks 1-4 with weeks 5-30 (`base_events_per_week`) and with what is usual; `trend_z` is the
    same in standard deviations of a count's root: (sqrt now - sqrt base) / 0.5.

    Ages are in days up to now; `days_to_renewal` is negative where it is overdue, and so is
    `cancellation_effective_days` past the day of leaving. A ticket's severe age counts from its
    opening; means of feedback are of each user's newest score in 180 days, on their own scale.
    """

    as_of: date
    state: State
    short_history: bool
    recency_days: int | None
    tenure_days: int | None
    active_days_ever: int
    events_7: int
    events_28: int
    events_90: int
    events_180: int
    events_365: int
    active_days_7: int
    active_days_28: int
    active_days_90: int
    active_days_180: int
    active_days_365: int
    active_users_7: int | None
    active_users_28: int | None
    active_users_90: int | None
    active_users_180: int | None
    active_users_365: int | None
    share_of_active_users: float | None
    share_basis: Basis | None
    share_of_known_users: float | None
    seconds_7: float | None
    seconds_28: float | None
    seconds_90: float | None
    seconds_180: float | None
    seconds_365: float | None
    seconds_per_user_day: float | None
    stickiness: float | None
    breadth_7: int | None
    breadth_28: int | None
    breadth_90: int | None
    breadth_180: int | None
    breadth_365: int | None
    mean_gap_days: float | None
    p95_gap_days: float | None
    champion_share: float | None
    champion_gone: bool | None
    most_user_days_28: int | None
    trend: float | None
    trend_z: float | None
    base_events_per_week: float | None
    active_days_first_14: int | None
    active_days_14: int
    milestones: int
    days_to_renewal: int | None
    contract_days: int | None
    cancellation_age_days: int | None
    cancellation_effective_days: int | None
    payments_failed_14: int | None
    payment_failed_age_days: int | None
    payment_succeeded_since: bool | None
    tickets_28: int | None
    tickets_180: int | None
    tickets_open: int | None
    ticket_severe_age_days: int | None
    tickets_28_per_10_users: float | None
    nps_mean: float | None
    nps_answers: int | None
    csat_mean: float | None
    csat_answers: int | None
    ces_mean: float | None
    ces_answers: int | None
    unhappy_users: int | None


def measure(
    usage: Usage,
    directory: Directory,
    now: datetime,
    *,
    cohort_ratio: float = 1.0,
    outages: Outages = NO_OUTAGES,
) -> IndicatorTable:
    """The indicators of each account, in order; `directory` is of the same accounts.

    `cohort_ratio` is what `usual_ratio` says of the accounts' trends: a fall that everybody
    shares (holidays) is not the account's own.
    """
    if len(directory) != usage.accounts:
        raise ValueError("a directory of other accounts")
    as_of = now.astimezone(UTC).toordinal() - 1
    active = ActiveDays(usage, as_of)
    begin = np.fmin(active.first, directory.contract_start)
    tenure = np.maximum(as_of - begin, 0.0)
    columns = {"tenure_days": tenure, "recency_days": recency(active, usage, outages)}
    columns |= rates(active, usage) | trend(active, usage, cohort_ratio) | rhythm(active, tenure)
    columns |= user_columns(usage, as_of, columns["seconds_28"]) | feature_columns(usage, as_of)
    signals = Relationship(usage.signals, usage.accounts, microseconds(now))
    columns |= signals.columns(as_of, columns["active_users_28"])
    columns |= _share(columns["active_users_28"], columns["share_of_known_users"], directory.seats)
    columns |= _state(columns["recency_days"], tenure, columns["active_days_ever"])
    columns["active_days_first_14"] = first_days(active, begin)
    columns["active_days_14"] = last_days(active)
    columns["days_to_renewal"] = days_to_renewal(directory, as_of)
    columns["contract_days"] = directory.contract_end - directory.contract_start
    return table_of(date.fromordinal(as_of), columns)


def indicators_of(table: IndicatorTable, index: int) -> Indicators:
    """One account's row in Python's types."""
    row = table.row(index)
    values: dict[str, Any] = {
        name: None if isnan(row[name]) else read(row[name]) for name, read in _READERS.items()
    }
    return Indicators(as_of=table.as_of, **values)


def usual_ratio(trends: Collection[float] | Floats) -> float:
    """The median trend of a cohort, kept in 0.25..1.5; 1 where it has fewer than 5 accounts.

    Trends that are not known are left out. They must be those of `cohort_ratio` 1.
    """
    known = np.asarray(trends, np.float64)
    known = known[~np.isnan(known)]
    if len(known) < COHORT_MIN_ACCOUNTS:
        return 1.0
    low, high = COHORT_RATIO_RANGE
    return min(max(float(np.median(known)), low), high)


def _share(users: Floats, of_known: Floats, seats: Floats) -> dict[str, Floats]:
    by_seats = (seats > 0) & ~np.isnan(users)
    of_seats = np.minimum(users / np.where(by_seats, seats, 1.0), MAX_SHARE)
    share = np.where(by_seats, of_seats, of_known)
    basis = np.where(by_seats, BASES.index("seats"), BASES.index("known_users"))
    return {
        "share_of_active_users": share,
        "share_basis": np.where(np.isnan(share), np.nan, basis),
    }


def _state(recent: Floats, tenure: Floats, days_ever: Floats) -> dict[str, Floats]:
    too_new = np.isnan(recent) | np.isnan(tenure)
    too_new |= (tenure < YOUNG_TENURE_DAYS) | (days_ever < YOUNG_ACTIVE_DAYS)
    seen = np.where(recent >= LAPSED_RECENCY_DAYS, STATES.index("lapsed"), STATES.index("scored"))
    return {
        "state": np.where(too_new, STATES.index("too_new"), seen).astype(np.float64),
        "short_history": (~(tenure >= SHORT_HISTORY_DAYS)).astype(np.float64),
    }


_TYPES: Final[dict[object, Callable[[float], Any]]] = {
    State: lambda value: State(STATES[int(value)]),
    Basis | None: lambda value: BASES[int(value)],
    bool: bool,
    bool | None: bool,
    int: int,
    int | None: int,
    float | None: float,
}
_READERS: Final = {
    name: _TYPES[kind] for name, kind in get_type_hints(Indicators).items() if name != "as_of"
}
