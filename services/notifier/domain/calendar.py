"""When somebody works: their zone, hours, weekend, holidays and own days off.

Kept as wall time and zone, never as an offset: 09:00 stays 09:00 over a change of the clocks. A
time that a change skips moves by the gap (02:30 is 03:30); one that comes twice is the first.
Moments go in aware of their zone and come out as UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from threading import Lock
from zoneinfo import ZoneInfo, available_timezones

import holidays

from services.notifier.domain.people import Person

_DAY = timedelta(days=1)
_WEEKEND = frozenset({5, 6})

# A year of the library's table is known to it before it is filled: one thread at a time.
_filling = Lock()


@lru_cache(maxsize=1)
def known_zones() -> Mapping[str, tzinfo]:
    """All zones there are. The first call reads their files: make it at start, off the loop."""
    return {name: ZoneInfo(name) for name in available_timezones()}


def zone_of(name: str | None) -> tzinfo:
    """The zone of that IANA name; UTC where it is not known."""
    return known_zones().get(name or "", UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """One person's. Raises ValueError where it would never open."""

    zone: tzinfo = UTC
    opens: time = time(9)
    closes: time = time(18)
    country: str | None = None
    """None, or one whose holidays nobody has written down: Saturday and Sunday are off."""
    region: str | None = None
    days_off: frozenset[date] = frozenset()
    any_hour: bool = False
    """Open at every moment; working days count for due dates only."""

    def __post_init__(self) -> None:
        if self.opens >= self.closes:
            raise ValueError("opens must be before closes")

    def day_of(self, moment: datetime) -> date:
        """Its date there: Friday 19:00 UTC is Saturday in Brisbane."""
        return moment.astimezone(self.zone).date()

    def is_working_day(self, day: date) -> bool:
        if day in self.days_off:
            return False
        if self.country is None:
            return day.weekday() not in _WEEKEND
        return day not in _public_days_off(self.country, self.region, day.year)

    def working_day_after(self, day: date, n: int) -> date:
        """The n-th working day after `day`, which itself never counts."""
        while n > 0:
            day += _DAY
            n -= self.is_working_day(day)
        return day

    def end_of_working_day(self, moment: datetime, n: int) -> datetime:
        """When the n-th working day after `moment` closes; 0: what is left of today, else 1."""
        if n <= 0:
            today = self.day_of(moment)
            end = self.at(today, self.closes)
            if self.is_working_day(today) and moment <= end:
                return end
        return self.at(self.working_day_after(self.day_of(moment), max(n, 1)), self.closes)

    def is_open(self, moment: datetime) -> bool:
        if self.any_hour:
            return True
        day = self.day_of(moment)
        # Two moments, not wall times: what a change of the clocks repeats is open only once.
        return self.is_working_day(day) and (
            self.at(day, self.opens) <= moment < self.at(day, self.closes)
        )

    def opens_at(self, moment: datetime) -> datetime:
        """`moment` where it is open then, else the next opening."""
        if self.is_open(moment):
            return moment.astimezone(UTC)
        day = self.day_of(moment)
        while True:
            opening = self.at(day, self.opens)
            if opening >= moment and self.is_open(opening):
                return opening
            day += _DAY

    def add_business_days(self, moment: datetime, n: int) -> datetime:
        """The same wall time on the n-th working day after `moment`."""
        if n <= 0:
            return moment.astimezone(UTC)
        local = moment.astimezone(self.zone)
        return self.at(self.working_day_after(local.date(), n), local.time())

    def business_days_between(self, start: datetime, end: datetime) -> int:
        """How many working days began after `start` and until `end`; 0 where `end` is earlier."""
        day, last = self.day_of(start), self.day_of(end)
        count = 0
        while day < last:
            day += _DAY
            count += self.is_working_day(day)
        return count

    def next_local(self, moment: datetime, wall: time, *, working: bool = False) -> datetime:
        """When it is `wall` there for the first time after `moment`; `working`: on such a day."""
        day = self.day_of(moment)
        while True:
            found = self.at(day, wall)
            if found > moment and (not working or self.is_working_day(day)):
                return found
            day += _DAY

    def at(self, day: date, wall: time) -> datetime:
        """When it is `wall` there on that day, as UTC."""
        return datetime.combine(day, wall.replace(fold=0), tzinfo=self.zone).astimezone(UTC)


@lru_cache(maxsize=10_000)
def calendar_of(person: Person) -> Calendar:
    """Without the days on which they are away: work that nobody took over must not wait for them.

    Of a country that `is_known_place` was asked about, it reads no files.
    """
    return Calendar(
        zone=zone_of(person.zone),
        opens=person.opens,
        closes=person.closes,
        country=person.country,
        region=person.region,
        days_off=frozenset(person.days_off),
        any_hour=person.any_hour,
    )


def is_known_place(country: str, region: str | None) -> bool:
    """Whether its holidays are known (ISO 3166-1 alpha-2, ISO 3166-2 without the country).

    The first call for a place reads files: make it off the loop, before a calendar needs it. Each
    year is then computed as it is asked for, in about a millisecond.
    """
    return _holidays_of(country, region) is not None


@lru_cache(maxsize=1_000)
def _holidays_of(country: str, region: str | None) -> holidays.HolidayBase | None:
    try:
        return holidays.country_holidays(country, subdiv=region)
    except NotImplementedError:
        return None


@lru_cache(maxsize=10_000)
def _public_days_off(country: str, region: str | None, year: int) -> frozenset[date]:
    """The days of `year` on which nobody works there: weekends too, working Saturdays not."""
    first = date(year, 1, 1)
    days = [first + n * _DAY for n in range((date(year + 1, 1, 1) - first).days)]
    known = _holidays_of(country, region)
    if known is None:
        return frozenset(day for day in days if day.weekday() in _WEEKEND)
    with _filling:
        known.get(first)  # It knows which Saturdays are worked once it was asked for the year.
        return frozenset(day for day in days if not known.is_working_day(day))
