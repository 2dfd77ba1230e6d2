"""What an HTTP answer asks for, whoever gave it."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_DEFAULT_PAUSE = timedelta(seconds=30)
_LONGEST_PAUSE = timedelta(days=1)


def retry_after(value: str | None, *, now: datetime) -> timedelta:
    """The pause asked for, in full: seconds, with a fraction perhaps, or a date; else 30 s."""
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return _DEFAULT_PAUSE
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    if not math.isfinite(seconds) or seconds < 0:
        return _DEFAULT_PAUSE
    return min(timedelta(seconds=min(seconds, 86_400)), _LONGEST_PAUSE)
