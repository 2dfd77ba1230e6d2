"""Indicators of use, as of a moment: one pure function for serving and for training.

Everything looks at complete UTC days: A is the last complete day before `now`, window w is the
days A-w+1..A. Only recency sees the running day, else every midnight would look like a fall.
The caller passes what was *received* by `now` and nothing more.

The work is done for many accounts at once on flat arrays, one entry per account-day `(days,)` or
per member of a day's sets `(members,)`, each with the index of its account (`owner`, ascending).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.renewal import days_to_renewal
from shared.messages import AccountFields

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Column: TypeAlias = Sequence[Any]  # Its values meet their types again in `Indicators`.
Basis: TypeAlias = Literal["seats", "known_users"]

KEPT_DAYS: Final = 400
WINDOWS: Final = (7, 28, 90, 180, 365)
RHYTHM_DAYS: Final = 60
MAX_SHARE: Final = 1.5

YOUNG_TENURE_DAYS: Final = 28
YOUNG_ACTIVE_DAYS: Final = 3
SHORT_HISTORY_DAYS: Final = 180
LAPSED_RECENCY_DAYS: Final = 90

TREND_RECENT_WEEKS: Final = 4
TREND_BASE_WEEKS: Final = 26
TREND_MIN_BASE_WEEKS: Final = 12
TREND_MIN_EVENTS_PER_WEEK: Final = 5.0
COHORT_RATIO_RANGE: Final = (0.25, 1.5)
COHORT_MIN_ACCOUNTS: Final = 5


class State(StrEnum):
    """What can be said of an account: only `scored` ones get a risk."""

    TOO_NEW = "too_new"
    SCORED = "scored"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The active days of one account, ascending and distinct; the sequences are parallel.

    `days` are `date.toordinal()`. Days older than `KEPT_DAYS` before A are ignored here, so it
    makes no difference whether they were pruned; what they would have said about the account's
    age stands in the last three fields (`active_days_before`: active days before `days[0]`).
    """

    days: Sequence[int] = ()
    events: Sequence[int] = ()
    milliseconds: Sequence[int] = ()
    users: Sequence[Collection[int]] = ()
    features: Sequence[Collection[str]] = ()
    first_active: int | None = None
    last_active: int | None = None
    active_days_before: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicators:
    """What one account's use looks like as of day A; None is "not known", never zero.

    Counts are per window of the days in the name. `active_users_*` count distinct users;
    `share_of_active_users` is `active_users_28` per seat, or per user known in 365 days where
    seats are not known (`share_basis`; the two are never compared), at most 1.5.
    `share_of_known_users` always has the second basis: it is what the model reads.
    `stickiness` is the mean share of days on which a user active in 28 days came (DAU/MAU).
    `champion_share` is the largest share of one user in the user-days of 90 days.
    `trend` compares the events of weeks 1-4 with weeks 5-30; `trend_z` is the same in standard
    deviations of a count's root: (sqrt now - sqrt base) / 0.5.
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
    seconds_28: float | None
    seconds_90: float | None
    seconds_per_user_day: float | None
    stickiness: float | None
    breadth_28: int | None
    breadth_365: int | None
    mean_gap_days: float | None
    p95_gap_days: float | None
    champion_share: float | None
    trend: float | None
    trend_z: float | None
    days_to_renewal: int | None


def extract(
    histories: Sequence[History],
    fields: Sequence[AccountFields],
    now: datetime,
    *,
    cohort_ratio: float = 1.0,
) -> list[Indicators]:
    """The indicators of each account, in order; `fields` is parallel to `histories`.

    `cohort_ratio` is what `usual_ratio` says of the accounts' trends: a fall that everybody
    shares (holidays) is not the account's own.
    """
    if len(histories) != len(fields):
        raise ValueError("one AccountFields per history")
    today = now.astimezone(UTC).toordinal()
    as_of = today - 1
    active = _flatten(histories, today, as_of)
    columns = _days(active) | _trend(active, cohort_ratio) | _rhythm(active)
    columns |= _people(active) | _breadth(active)
    names = tuple(columns)
    day = date.fromordinal(as_of)
    return [
        _complete(dict(zip(names, row, strict=True)), known, day)
        for row, known in zip(zip(*columns.values(), strict=True), fields, strict=True)
    ]


def usual_ratio(trends: Collection[float]) -> float:
    """The median trend of a cohort, kept in 0.25..1.5; 1 where it has fewer than 5 accounts."""
    if len(trends) < COHORT_MIN_ACCOUNTS:
        return 1.0
    low, high = COHORT_RATIO_RANGE
    return min(max(float(np.median(list(trends))), low), high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """The members of the days' sets, flat: `code` is whose, `age` how many days before A."""

    owner: Integers
    age: Integers
    code: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Active:
    """The complete active days of `accounts` accounts within `KEPT_DAYS`, flat."""

    accounts: int
    owner: Integers
    age: Integers
    events: Integers
    milliseconds: Integers
    users: _Members
    features: _Members
    recency: list[int | None]
    tenure: list[int | None]
    days_ever: list[int]

    def per_account(self, chosen: NDArray[np.bool_], values: Integers | None = None) -> Integers:
        """How many of the chosen days, or the sum of their values, `(accounts,)`."""
        # bincount adds in floating point: exact below 2**53.
        weights = None if values is None else values[chosen]
        return np.bincount(self.owner[chosen], weights, self.accounts).astype(np.int64)


def _flatten(histories: Sequence[History], today: int, as_of: int) -> _Active:
    accounts = len(histories)
    sizes = np.fromiter((len(h.days) for h in histories), np.int64, accounts)
    owner = np.repeat(np.arange(accounts), sizes)
    total = int(sizes.sum())
    day = np.fromiter(chain.from_iterable(h.days for h in histories), np.int64, total)
    kept = (day <= as_of) & (day > as_of - KEPT_DAYS)
    seen = np.bincount(owner[day <= as_of], minlength=accounts).tolist()
    names = list(chain.from_iterable(chain.from_iterable(h.features for h in histories)))
    codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
    people = chain.from_iterable(chain.from_iterable(h.users for h in histories))

    def column(values: Iterable[int]) -> Integers:
        return np.fromiter(values, np.int64, total)[kept]

    def members(sizes_of_days: Iterable[int], values: Iterable[int]) -> _Members:
        size = np.fromiter(sizes_of_days, np.int64, total)
        code = np.fromiter(values, np.int64, int(size.sum()))
        chosen = np.repeat(kept, size)
        return _Members(
            owner=np.repeat(owner, size)[chosen],
            age=as_of - np.repeat(day, size)[chosen],
            code=code[chosen],
        )

    return _Active(
        accounts=accounts,
        owner=owner[kept],
        age=as_of - day[kept],
        events=column(chain.from_iterable(h.events for h in histories)),
        milliseconds=column(chain.from_iterable(h.milliseconds for h in histories)),
        users=members(chain.from_iterable(map(len, h.users) for h in histories), people),
        features=members(
            chain.from_iterable(map(len, h.features) for h in histories),
            map(codes.__getitem__, names),
        ),
        # Active on the running day: 0 too, never negative.
        recency=[_days_since(_last_day(h, today), as_of) for h in histories],
        tenure=[_days_since(_first_day(h, today), as_of) for h in histories],
        days_ever=[n + h.active_days_before for n, h in zip(seen, histories, strict=True)],
    )


def _last_day(history: History, today: int) -> int | None:
    # A client's clock may run ahead: the last days may lie in the future, and do not count yet.
    for day in reversed(history.days):
        if day <= today:
            return day
    return history.last_active


def _first_day(history: History, today: int) -> int | None:
    if history.first_active is not None:
        return history.first_active
    return history.days[0] if history.days and history.days[0] <= today else None


def _days_since(day: int | None, as_of: int) -> int | None:
    return None if day is None else max(as_of - day, 0)


def _days(active: _Active) -> dict[str, Column]:
    columns: dict[str, Column] = {
        "recency_days": active.recency,
        "tenure_days": active.tenure,
        "active_days_ever": active.days_ever,
    }
    for window in WINDOWS:
        inside = active.age < window
        columns[f"events_{window}"] = active.per_account(inside, active.events).tolist()
        columns[f"active_days_{window}"] = active.per_account(inside).tolist()
    spent = [active.per_account(active.age < w, active.milliseconds) / 1000 for w in (28, 90)]
    # No time in 90 days: the product does not report it, which is not "nobody was there".
    known = spent[1] > 0
    columns["seconds_28"], columns["seconds_90"] = (_where(known, s) for s in spent)
    return columns


def _trend(active: _Active, cohort_ratio: float) -> dict[str, Column]:
    recent_days = TREND_RECENT_WEEKS * 7
    recent = active.per_account(active.age < recent_days, active.events) / TREND_RECENT_WEEKS
    # Weeks before the first use are no weeks without use.
    lived = np.array([0 if t is None else t + 1 for t in active.tenure], np.int64)
    weeks = np.clip((lived - recent_days) // 7, 0, TREND_BASE_WEEKS)
    in_base = (active.age >= recent_days) & (active.age < recent_days + 7 * weeks[active.owner])
    base = active.per_account(in_base, active.events) / np.maximum(weeks, 1)
    known = (weeks >= TREND_MIN_BASE_WEEKS) & (base >= TREND_MIN_EVENTS_PER_WEEK)
    expected = np.where(known, base * cohort_ratio, 1.0)
    return {
        "trend": _where(known, recent / expected),
        "trend_z": _where(known, (np.sqrt(recent) - np.sqrt(expected)) / 0.5),
    }


def _people(active: _Active) -> dict[str, Column]:
    owner, age, days = _distinct(active.users)
    accounts = active.accounts
    known = np.bincount(owner, minlength=accounts) > 0
    columns: dict[str, Column] = {}
    counts = {w: np.bincount(owner[age < w], minlength=accounts) for w in WINDOWS}
    for window, count in counts.items():
        columns[f"active_users_{window}"] = _where(known, count)
    visits = np.bincount(active.users.owner[active.users.age < 28], minlength=accounts)
    columns["stickiness"] = _where(known, visits / (28 * np.maximum(counts[28], 1)))
    columns["share_of_known_users"] = _where(
        counts[365] > 0, counts[28] / np.maximum(counts[365], 1)
    )
    spent = active.per_account(active.age < 28, active.milliseconds) / 1000
    timed = (visits > 0) & (active.per_account(active.age < 90, active.milliseconds) > 0)
    columns["seconds_per_user_day"] = _where(timed, spent / np.maximum(visits, 1))
    most = np.zeros(accounts, np.int64)
    np.maximum.at(most, owner, days)
    total = np.bincount(active.users.owner[active.users.age < 90], minlength=accounts)
    columns["champion_share"] = _where(total > 0, most / np.maximum(total, 1))
    return columns


def _breadth(active: _Active) -> dict[str, Column]:
    owner, age, _ = _distinct(active.features)
    known = np.bincount(owner, minlength=active.accounts) > 0
    return {
        f"breadth_{window}": _where(
            known, np.bincount(owner[age < window], minlength=active.accounts)
        )
        for window in (28, 365)
    }


def _distinct(members: _Members) -> tuple[Integers, Integers, Integers]:
    """Each member once per account: owner, age of its last day, its days within 90 days.

    A member is active in a window exactly if its last day is.
    """
    if not members.code.size:
        return members.owner, members.age, members.owner
    order = np.lexsort((members.code, members.owner))
    owner, age, code = members.owner[order], members.age[order], members.code[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (owner[1:] != owner[:-1]) | (code[1:] != code[:-1])
    starts = np.flatnonzero(first)
    days = np.add.reduceat((age < 90).astype(np.int64), starts)
    return owner[starts], np.minimum.reduceat(age, starts), days


def _rhythm(active: _Active) -> dict[str, Column]:
    """Mean and 95th percentile (linear between ranks) of the gaps of the last 60 active days."""
    sizes = np.bincount(active.owner, minlength=active.accounts)
    ends = np.cumsum(sizes)
    from_end = ends[active.owner] - np.arange(len(active.owner))
    recent = from_end <= RHYTHM_DAYS
    owner, age = active.owner[recent], active.age[recent]
    same = owner[1:] == owner[:-1]
    owner, gap = owner[1:][same], (age[:-1] - age[1:])[same]
    count = np.bincount(owner, minlength=active.accounts)
    known = count > 0
    mean = np.bincount(owner, gap, active.accounts) / np.maximum(count, 1)
    gap = np.append(gap[np.lexsort((gap, owner))], 0)  # The spare one: never read where known.
    rank = 0.95 * np.maximum(count - 1, 0)
    low = np.cumsum(count) - count + np.floor(rank).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(np.cumsum(count) - 1, 0))
    p95 = gap[low] + (rank - np.floor(rank)) * (gap[high] - gap[low])
    return {"mean_gap_days": _where(known, mean), "p95_gap_days": _where(known, p95)}


def _where(known: NDArray[np.bool_], values: Integers | Floats) -> Column:
    pairs = zip(known.tolist(), values.tolist(), strict=True)
    return [value if is_known else None for is_known, value in pairs]


def _complete(columns: dict[str, Any], fields: AccountFields, as_of: date) -> Indicators:
    """Adds what the directory knows: seats, the contract's dates, and what follows from them."""
    if fields.contract_start is not None:
        since_start = max((as_of - fields.contract_start).days, 0)
        columns["tenure_days"] = max(since_start, columns["tenure_days"] or 0)
    tenure = columns["tenure_days"]
    if columns["mean_gap_days"] is None:  # Fewer than two active days: as rare as it is old.
        columns["mean_gap_days"] = columns["p95_gap_days"] = tenure
    share, basis = _share(columns["active_users_28"], columns["share_of_known_users"], fields.seats)
    return Indicators(
        as_of=as_of,
        state=_state(columns["recency_days"], tenure, columns["active_days_ever"]),
        short_history=tenure is None or tenure < SHORT_HISTORY_DAYS,
        share_of_active_users=share,
        share_basis=basis,
        days_to_renewal=days_to_renewal(fields, as_of),
        **columns,
    )


def _share(
    users: int | None, of_known: float | None, seats: int | None
) -> tuple[float, Basis] | tuple[None, None]:
    if seats and users is not None:
        return min(users / seats, MAX_SHARE), "seats"
    return (None, None) if of_known is None else (of_known, "known_users")


def _state(recency: int | None, tenure: int | None, active_days: int) -> State:
    if recency is None or tenure is None:
        return State.TOO_NEW
    if tenure < YOUNG_TENURE_DAYS or active_days < YOUNG_ACTIVE_DAYS:
        return State.TOO_NEW
    return State.LAPSED if recency >= LAPSED_RECENCY_DAYS else State.SCORED
