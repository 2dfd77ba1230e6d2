"""When a source's silence is the pipeline's and not the customers': from what it sends per hour.

Hours are numbered since the epoch, in UTC; a source's usual hour is that of the same weekday.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.rules import Staleness
from services.scoring.domain.usage import NO_OUTAGES, Floats, Integers, Outages, Usage

LONGEST_WINDOW: Final = 72
"""Hours; a source that sends less than what is expected of it in these is never called stale."""

_DAY: Final = 24
_WEEK: Final = 7 * _DAY
_SECONDS: Final = 3_600
_RECENT_DAYS: Final = 28
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class OutageCause(StrEnum):
    """Why nothing, or too little, could be heard."""

    SILENT = "silent"  # the source sends too little
    LAG = "lag"  # what it sent waits in the log
    DOWN = "down"  # scoring itself was not at work


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """One outage; an empty `source` means all of them, `code` is that of `Usage.sources`.

    `seen_at` is when it was last observed; `missing_days` are ordinals.
    """

    id: int
    source: str
    code: int
    began_at: datetime
    ended_at: datetime | None
    seen_at: datetime
    why: OutageCause
    missing_days: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What of the data can be trusted at the moment.

    `out` names the sources that are out now. `everywhere`: no source can be trusted, else those
    with these `codes` cannot, until some time after their outage. `outages` are the days that add
    to nobody's recency.
    """

    out: frozenset[str]
    everywhere: bool
    codes: frozenset[int]
    outages: Outages

    @property
    def is_stale(self) -> bool:
        return self.everywhere or bool(self.codes)

    def stale(self, usage: Usage, rules: Staleness) -> NDArray[np.bool_]:
        """The accounts `(accounts,)` of which no usage flag may be raised now."""
        if self.everywhere:
            return np.ones(usage.accounts, np.bool_)
        if not self.codes:
            return np.zeros(usage.accounts, np.bool_)
        return mostly_from(usage, self.codes, rules)


FRESH: Final = Freshness(out=frozenset(), everywhere=False, codes=frozenset(), outages=NO_OUTAGES)


def freshness(outages: Sequence[Outage], now: datetime, rules: Staleness) -> Freshness:
    """What follows from the outages there were."""
    quiet = timedelta(hours=rules.quiet_hours_after)
    suspect = [one for one in outages if one.ended_at is None or now < one.ended_at + quiet]
    days = sorted({(one.code, day) for one in outages if one.source for day in one.missing_days})
    everywhere = sorted({day for one in outages if not one.source for day in one.missing_days})
    return Freshness(
        out=frozenset(one.source for one in outages if one.ended_at is None),
        everywhere=any(not one.source for one in suspect),
        codes=frozenset(one.code for one in suspect if one.source),
        outages=Outages(
            source=np.array([code for code, _ in days], np.int64),
            day=np.array([day for _, day in days], np.int64),
            everywhere=np.array(everywhere, np.int64),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """What each source sent in the hours before `end` `(sources, hours)`, the last one last.

    `end` is the first hour that is not complete; `weeks` of baseline lie before the last week.
    """

    sources: tuple[str, ...]
    end: int
    weeks: int
    events: Floats

    @property
    def start(self) -> int:
        return self.end - int(self.events.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A source that sends too little: in so many hours before the end this came instead of that."""

    source: str
    hours: int
    expected: float
    came: float
    began: int
    """The first hour of which something is missing."""


def hour_of(moment: datetime) -> int:
    return int(moment.timestamp() // _SECONDS)


def moment_of(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _SECONDS, UTC)


def hours_read(rules: Staleness) -> int:
    """How many hours of each source are looked at."""
    return (rules.baseline_weeks + 1) * _WEEK


def hours_of(rows: Iterable[tuple[str, int, int]], now: datetime, rules: Staleness) -> Hours:
    """From rows of source, hour and events; what lies outside of the hours read is left out."""
    end, width = hour_of(now), hours_read(rules)
    first = end - width
    inside = [row for row in rows if first <= row[1] < end]
    sources = tuple(sorted({row[0] for row in inside}))
    index = {source: number for number, source in enumerate(sources)}
    events = np.zeros((len(sources), width))
    for source, hour, count in inside:
        events[index[source], hour - first] += count
    return Hours(sources=sources, end=end, weeks=rules.baseline_weeks, events=events)


def shortfalls(hours: Hours, rules: Staleness) -> list[Shortfall]:
    """The sources that are stale at the end of these hours.

    Asked in the smallest window in which enough events were expected: two hours of a busy source,
    and the days back over a night or a weekend of one that rests.
    """
    if not hours.sources:
        return []
    found: dict[int, Shortfall] = {}
    weeks = _weeks_known(hours)
    undecided = set(np.flatnonzero(weeks > 0).tolist())
    usual = _usual(hours, weeks)
    for window in range(rules.window_hours, LONGEST_WINDOW + 1):
        came = hours.events[:, -window:].sum(axis=1)
        expected = _expected(hours, weeks, window)
        for number in sorted(undecided):
            if expected[number] < rules.expected_events:
                continue
            undecided.discard(number)
            if came[number] >= rules.below_share * expected[number]:
                continue
            missing = _first_missing(hours.events[number], usual[number], rules.below_share)
            found[number] = Shortfall(
                source=hours.sources[number],
                hours=window,
                expected=float(expected[number]),
                came=float(came[number]),
                began=hours.start + missing,
            )
        if not undecided:
            break
    return [found[number] for number in sorted(found)]


def missing_days(
    hours: Hours, source: str, began: datetime, ended: datetime, rules: Staleness
) -> set[int]:
    """The whole UTC days of an outage of which next to nothing has come, as ordinals.

    What waited in the log, or at the source, and came later is not missing. An empty `source`
    means all of them together.
    """
    first = _day_of(began + timedelta(days=1) - timedelta(microseconds=1))
    last = _day_of(ended) - 1
    chosen = (
        hours.events.sum(axis=0, keepdims=True)
        if not source
        else hours.events[[name == source for name in hours.sources]]
    )
    missing = set()
    for day in range(first, last + 1):
        at = (day - _EPOCH_DAY) * 24 - hours.start
        if at < 0 or at + 24 > hours.events.shape[1]:
            continue
        came = float(chosen[:, at : at + 24].sum())
        before = [at - week * _WEEK for week in range(1, hours.weeks + 1) if at >= week * _WEEK]
        usual = np.median([chosen[:, one : one + 24].sum() for one in before]) if before else 0.0
        if came == 0 or came < rules.below_share * usual:
            missing.add(day)
    return missing


def days_known(hours: Hours) -> range:
    """The whole days that these hours can speak of, as ordinals."""
    return range(_day_of(moment_of(hours.start + 23)), _day_of(moment_of(hours.end)))


def mostly_from(usage: Usage, stale: Collection[int], rules: Staleness) -> NDArray[np.bool_]:
    """Accounts `(accounts,)` with half (a setting) of their recent active days from these sources.

    Recent are the 28 days up to the last active one: an account that has fallen silent is judged by
    what it used to send. `stale` holds codes of `usage.sources`.
    """
    days = usage.days
    last_active = np.zeros(usage.accounts, np.int64)
    np.maximum.at(last_active, days.owner, days.day)
    recent = _is_recent(days.owner, days.day, last_active)
    active = np.bincount(days.owner[recent], minlength=usage.accounts)
    sources = usage.sources
    hit = np.isin(sources.code, np.fromiter(stale, np.int64, len(stale)))
    hit &= _is_recent(sources.owner, sources.day, last_active)
    # A day of two stale sources counts once.
    pairs = np.unique(np.stack([sources.owner[hit], sources.day[hit]]), axis=1)
    from_stale = np.bincount(pairs[0], minlength=usage.accounts)
    mostly: NDArray[np.bool_] = (from_stale > 0) & (from_stale >= rules.account_share * active)
    return mostly


def _is_recent(owner: Integers, day: Integers, last_active: Integers) -> NDArray[np.bool_]:
    last = last_active[owner]
    is_recent: NDArray[np.bool_] = (day > last - _RECENT_DAYS) & (day <= last)
    return is_recent


def _weeks_known(hours: Hours) -> Integers:
    """How many of the baseline's weeks each source is old `(sources,)`."""
    sent = hours.events > 0
    width = sent.shape[1]
    age = np.where(sent.any(axis=1), width - sent.argmax(axis=1), 0)
    weeks: Integers = np.minimum(age // _WEEK, hours.weeks).astype(np.int64)
    return weeks


def _expected(hours: Hours, weeks: Integers, window: int) -> Floats:
    """The median of what came in the same window of the weeks before `(sources,)`.

    A change to or from summer time is no outage: each week counts with the least of the window and
    those an hour earlier and later. A window of days may begin before the change: then the last
    hour's events come an hour later, and the first one's came as ever.
    """
    end = hours.events.shape[1]
    shifts = [(0, 0), (-1, -1), (1, 1)] + ([(0, -1)] if window > _DAY else [])
    totals = np.full((hours.weeks, len(hours.sources)), np.nan)
    for week in range(1, hours.weeks + 1):
        then = end - week * _WEEK
        sums = [
            hours.events[:, then - window + first : then + last].sum(axis=1)
            for first, last in shifts
        ]
        known = weeks >= week
        totals[week - 1, known] = np.min(sums, axis=0)[known]
    return _median(totals)


def _usual(hours: Hours, weeks: Integers) -> Floats:
    """The median of the same hour of the weeks before, of every hour `(sources, hours)`."""
    totals = np.full((hours.weeks, *hours.events.shape), np.nan)
    for week in range(1, hours.weeks + 1):
        known = weeks >= week
        totals[week - 1, known, week * _WEEK :] = hours.events[known, : -week * _WEEK]
    return _median(totals)


def _median(totals: Floats) -> Floats:
    """The median over the first axis without NaN; 0 where there is nothing but NaN."""
    ordered = np.sort(totals, axis=0)  # NaN goes last
    known = (~np.isnan(totals)).sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((known - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(known // 2, len(totals) - 1)[None], axis=0)[0]
    middle = np.where(known % 2 == 1, low, (low + high) / 2)
    return np.where(known > 0, middle, 0.0)


def _first_missing(events: Floats, usual: Floats, share: float) -> int:
    """The first hour since the last good one in which something was to be expected."""
    rhythm = usual > 0
    good = np.flatnonzero(rhythm & (events >= share * usual) if rhythm.any() else events > 0)
    since = int(good[-1]) + 1 if len(good) else 0
    wanted = np.flatnonzero(rhythm[since:])
    return since + int(wanted[0]) if len(wanted) else since


def _day_of(moment: datetime) -> int:
    return moment.astimezone(UTC).date().toordinal()
