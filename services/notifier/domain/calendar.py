"""Working days in the zone of the account: when an intervention is due."""

from collections.abc import Container, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from shared.messages import Band

_END_OF_DAY = time(18)
_WEEKEND = frozenset({5, 6})
_DAYS_TO_ACT = {Band.CRITICAL: 1, Band.AT_RISK: 3, Band.WATCH: 5, Band.HEALTHY: 5}


@lru_cache(maxsize=1)
def known_zones() -> Mapping[str, tzinfo]:
    """All zones there are. The first call reads their files: make it at start, off the loop."""
    return {name: ZoneInfo(name) for name in available_timezones()}


def zone_of(name: str | None) -> tzinfo:
    """The zone of that IANA name; UTC where it is not known."""
    return known_zones().get(name or "", UTC)


def is_working_day(day: date, *, days_off: Container[date] = frozenset()) -> bool:
    return day.weekday() not in _WEEKEND and day not in days_off


def working_day_after(day: date, days: int, *, days_off: Container[date] = frozenset()) -> date:
    """The n-th working day after `day`; `day` itself never counts."""
    while days > 0:
        day += timedelta(days=1)
        if is_working_day(day, days_off=days_off):
            days -= 1
    return day


def due_at(
    severity: Band, *, now: datetime, zone: tzinfo, days_off: Container[date] = frozenset()
) -> datetime:
    """End of the n-th working day after `now` in `zone`, as UTC; the worse, the sooner."""
    # The local weekday counts: Friday 19:00 UTC is Saturday in Brisbane.
    today = now.astimezone(zone).date()
    day = working_day_after(today, _DAYS_TO_ACT[severity], days_off=days_off)
    return datetime.combine(day, _END_OF_DAY, tzinfo=zone).astimezone(UTC)
