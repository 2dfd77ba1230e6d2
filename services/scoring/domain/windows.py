"""What active days alone say: rate of use, active days, time, recency, rhythm and trend.

Days come sorted by account and day, so each window of each account is a slice: two searches find
it, and the difference of two running sums is its total, exactly.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.grouping import group
from services.scoring.domain.usage import KEPT_DAYS, Floats, Integers, Outages, Usage

WINDOWS: Final = (7, 28, 90, 180, 365)
RHYTHM_DAYS: Final = 60
FIRST_DAYS: Final = 14
MAIN_SOURCE_DAYS: Final = 28

TREND_RECENT_WEEKS: Final = 4
TREND_BASE_WEEKS: Final = 26
TREND_MIN_BASE_WEEKS: Final = 12
TREND_MIN_EVENTS_PER_WEEK: Final = 5.0

_DAY_BITS: Final = 22  # date.max.toordinal() is 3,652,059.


class ActiveDays:
    """The active days of all accounts, with where each account's days begin and end.

    `first` and `last` `(accounts,)` are ordinals, of what retention has deleted too, NaN where the
    account was never active. `last` sees the running day; days after it are of a client's clock
    that runs ahead and do not count yet.
    """

    def __init__(self, usage: Usage, as_of: int) -> None:
        self.as_of = as_of
        self.accounts = usage.accounts
        self._day = usage.days.day
        self._key = (usage.days.owner << _DAY_BITS) + self._day
        self._account_key = np.arange(usage.accounts) << _DAY_BITS
        begin, end = self.position(0), self.position(as_of + 2)
        came = end > begin
        self.first = np.fmin(self._day_at(begin, came), usage.first_deleted)
        self.last = np.fmax(self._day_at(end - 1, came), usage.last_deleted)
        self.ever = self.position(as_of + 1) - begin + usage.deleted_days

    def position(self, day: int | Integers) -> Integers:
        """Where each account's days on or after `day` begin, `(accounts,)`."""
        found: Integers = np.searchsorted(self._key, self._account_key + day)
        return found

    def slices(self, window: int) -> tuple[Integers, Integers]:
        """Where each account's last `window` complete days begin and end."""
        return self.position(self.as_of - window + 1), self.position(self.as_of + 1)

    def gaps(self) -> tuple[Integers, Integers, Integers, Integers]:
        """Of the last 60 active days: their gaps with their owners `(gaps,)`; per account how
        many gaps, and the days from the first to the last `(accounts,)`.
        """
        begin, end = self.slices(KEPT_DAYS)
        begin = np.maximum(begin, end - RHYTHM_DAYS)
        count = np.maximum(end - begin - 1, 0)
        owner = np.repeat(np.arange(self.accounts), count)
        # The index of each gap's later day: its rank among its account's, after the first day.
        later = np.arange(len(owner)) + np.repeat(begin + 1 - (np.cumsum(count) - count), count)
        known = count > 0
        span = np.zeros(self.accounts, np.int64)
        span[known] = self._day[end[known] - 1] - self._day[begin[known]]
        return self._day[later] - self._day[later - 1], owner, count, span

    def _day_at(self, index: Integers, known: NDArray[np.bool_]) -> Floats:
        found = np.full(self.accounts, np.nan)
        found[known] = self._day[index[known]]
        return found


def recency(active: ActiveDays, usage: Usage, outages: Outages) -> Floats:
    """Days since the last active day, less those on which nothing could be heard of it."""
    recent: Floats = np.maximum(
        active.as_of - active.last, 0.0
    )  # Active on the running day: 0 too.
    if not outages:
        return recent
    known = np.flatnonzero(~np.isnan(recent))
    recent[known] -= _unheard(known, active, outages.everywhere)
    main, has_main = _main_source(active, usage)
    for source in np.unique(outages.source):
        own = known[has_main[known] & (main[known] == source)]
        more = np.setdiff1d(outages.day[outages.source == source], outages.everywhere)
        recent[own] -= _unheard(own, active, more)
    return recent


def rates(active: ActiveDays, usage: Usage) -> dict[str, Floats]:
    """Events, active days and seconds per window."""
    events, milliseconds = _running(usage.days.events), _running(usage.days.milliseconds)
    slices = {window: active.slices(window) for window in WINDOWS}
    begin, end = slices[90]
    # No time in 90 days: the product does not report it, which is not "nobody was there".
    timed = milliseconds[end] > milliseconds[begin]
    columns: dict[str, Floats] = {"active_days_ever": active.ever.astype(np.float64)}
    for window, (begin, end) in slices.items():
        columns[f"events_{window}"] = (events[end] - events[begin]).astype(np.float64)
        columns[f"active_days_{window}"] = (end - begin).astype(np.float64)
        spent = (milliseconds[end] - milliseconds[begin]) / 1000
        columns[f"seconds_{window}"] = np.where(timed, spent, np.nan)
    return columns


def first_days(active: ActiveDays, begin: Floats) -> Floats:
    """Distinct active days in the first 14 days from `begin` on; NaN where they are gone."""
    known = begin > active.as_of - KEPT_DAYS
    start = np.where(known, begin, 0).astype(np.int64)
    end = np.minimum(start + FIRST_DAYS, active.as_of + 1)
    count = np.maximum(active.position(end) - active.position(start), 0)
    return np.where(known, count, np.nan)


def last_days(active: ActiveDays) -> Floats:
    """Active days of the last 14, to compare with the first 14."""
    begin, end = active.slices(FIRST_DAYS)
    return (end - begin).astype(np.float64)


def trend(active: ActiveDays, usage: Usage, cohort_ratio: float) -> dict[str, Floats]:
    """Weeks 1-4 against weeks 5-30, of those that the account has lived."""
    recent_days = 7 * TREND_RECENT_WEEKS
    events = _running(usage.days.events)
    begin, end = active.slices(recent_days)
    recent = (events[end] - events[begin]) / TREND_RECENT_WEEKS
    # Weeks before the first use are no weeks without use.
    lived = np.nan_to_num(active.as_of - active.first + 1, nan=0.0).astype(np.int64)
    weeks = np.clip((lived - recent_days) // 7, 0, TREND_BASE_WEEKS)
    base_begin = active.position(active.as_of - recent_days - 7 * weeks + 1)
    base = (events[begin] - events[base_begin]) / np.maximum(weeks, 1)
    known = (weeks >= TREND_MIN_BASE_WEEKS) & (base >= TREND_MIN_EVENTS_PER_WEEK)
    expected = np.where(known, base * cohort_ratio, np.nan)
    return {
        "trend": recent / expected,
        "trend_z": (np.sqrt(recent) - np.sqrt(expected)) / 0.5,
        "base_events_per_week": np.where(known, base, np.nan),
    }


def rhythm(active: ActiveDays, tenure: Floats) -> dict[str, Floats]:
    """Mean and 95th percentile (linear between ranks) of the gaps of the last 60 active days.

    Fewer than two of them: the account is as rare as it is old.
    """
    gap, owner, count, span = active.gaps()
    known = count > 0
    # Owner above, gap below: one sort. The spare one is never read where known.
    ordered = np.append(np.sort((owner << _DAY_BITS) + gap), 0) & ((1 << _DAY_BITS) - 1)
    rank = 0.95 * np.maximum(count - 1, 0)
    low = np.cumsum(count) - count + np.floor(rank).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(np.cumsum(count) - 1, 0))
    p95 = ordered[low] + (rank - np.floor(rank)) * (ordered[high] - ordered[low])
    return {
        "mean_gap_days": np.where(known, span / np.maximum(count, 1), tenure),
        "p95_gap_days": np.where(known, p95, tenure),
    }


def _running(values: Integers) -> Integers:
    """Running sums with a leading 0: `[end] - [begin]` is a slice's total."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total


def _unheard(accounts: Integers, active: ActiveDays, days: Integers) -> Integers:
    """How many of `days` lie after each account's last active day, up to A."""
    days = np.unique(days)
    heard = np.searchsorted(days, active.last[accounts], side="right")
    unheard: Integers = np.maximum(np.searchsorted(days, active.as_of, side="right") - heard, 0)
    return unheard


def _main_source(active: ActiveDays, usage: Usage) -> tuple[Integers, NDArray[np.bool_]]:
    """Each account's source of most active days in the 28 days up to its last one, if known.

    Of equal ones the lowest code.
    """
    sources = usage.sources
    last = active.last[sources.owner]
    chosen = (sources.day <= last) & (sources.day > last - MAIN_SOURCE_DAYS)
    chosen &= sources.day > active.as_of - KEPT_DAYS
    groups = group(sources.owner[chosen], sources.code[chosen])
    ordered = np.lexsort((-groups.code, groups.sizes(), groups.owner))
    main = np.zeros(active.accounts, np.int64)
    has_main = np.zeros(active.accounts, np.bool_)
    # The last one of each account stays: most days, then the lowest code.
    main[groups.owner[ordered]] = groups.code[ordered]
    has_main[groups.owner] = True
    return main, has_main
