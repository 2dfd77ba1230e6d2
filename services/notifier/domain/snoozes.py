"""For how long a person may put an intervention off, as they choose it from a short list."""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

from services.notifier.domain.calendar import Calendar

_BEFORE_NOTICE = timedelta(days=7)


class Put(StrEnum):
    """Until when it is put off; what a button carries."""

    ONE_DAY = "1d"
    THREE_DAYS = "3d"
    ONE_WEEK = "1w"
    NOTICE = "notice"


LABELS: Final[Mapping[Put, str]] = {
    Put.ONE_DAY: "1 day",
    Put.THREE_DAYS: "3 days",
    Put.ONE_WEEK: "1 week",
    Put.NOTICE: "Until 7 days before renewal notice",
}

_DAYS = {Put.ONE_DAY: 1, Put.THREE_DAYS: 3, Put.ONE_WEEK: 7}


def end_of(
    put: Put, *, now: datetime, calendar: Calendar, notice_by: date | None
) -> datetime | None:
    """When the owner's day begins then, or their next working day where that is none.

    None where the last day for notice is not known, or too near.
    """
    today = calendar.day_of(now)
    if put is not Put.NOTICE:
        day = today + timedelta(days=_DAYS[put])
    elif notice_by is not None and notice_by - _BEFORE_NOTICE > today:
        day = notice_by - _BEFORE_NOTICE
    else:
        return None
    return calendar.opens_at(datetime.combine(day, time(), tzinfo=calendar.zone))
