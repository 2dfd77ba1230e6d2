"""When something happened: how callers may say it, and how far their clocks are believed."""

from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import msgspec

from services.ingest.results import WARNINGS, Code, ItemWarning, WarningCode
from shared.errors import InvalidMessage

SKEW_TOLERANCE = timedelta(minutes=5)
FAR_AHEAD = timedelta(days=366)
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
"""Before this nobody used software as a service: such a time is a mistake, not history."""

_FIRST_MILLISECONDS = 1e11
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RULE = "must be RFC 3339 with an offset, or seconds or milliseconds since 1970"


def parse_time(value: object) -> datetime:
    """The moment in UTC; raises ValueError, whatever the value is."""
    if type(value) is str:
        try:
            moment = msgspec.convert(value, datetime)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise ValueError(_RULE) from error
        if moment.tzinfo is UTC:
            return moment
        if moment.tzinfo is None:
            raise ValueError(_RULE)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(_RULE) from error
    if type(value) is int or type(value) is float:
        try:
            in_seconds = abs(value) < _FIRST_MILLISECONDS
            span = timedelta(seconds=value) if in_seconds else timedelta(milliseconds=value)
            return _EPOCH + span
        except (OverflowError, ValueError) as error:
            raise ValueError(_RULE) from error
    raise ValueError(_RULE)


def is_time(value: object) -> bool:
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


Moment: TypeAlias = tuple[datetime, datetime | None, bool]
"""occurred_at and client_at as they go on the log, and whether it is older than max_event_age."""


class TimeRules:
    """What one request says about time: one moment of arrival, perhaps one of sending."""

    def __init__(
        self, *, received_at: datetime, sent_at: datetime | None, max_age: timedelta
    ) -> None:
        self.received_at = received_at
        self.skew = received_at - sent_at if sent_at is not None else timedelta()
        self._is_skewed = abs(self.skew) >= SKEW_TOLERANCE
        self._ahead = received_at + SKEW_TOLERANCE
        self._far_ahead = received_at + FAR_AHEAD
        self._old = received_at - max_age

    def place(
        self, stated: object, warnings: list[ItemWarning], *, is_corrected: bool = False
    ) -> Moment:
        """Where the event belongs in time; raises InvalidMessage where that makes no sense.

        `is_corrected`: the stated time is free of the sender's clock error already.
        """
        if stated is None:
            return self.received_at, None, False
        try:
            client_at = parse_time(stated)
            is_skewed = self._is_skewed and not is_corrected
            occurred_at = client_at + self.skew if is_skewed else client_at
        except (ValueError, OverflowError) as error:
            raise InvalidMessage(Code.INVALID_TIME, f"occurred_at: {_RULE}") from error
        if is_skewed:
            warnings.append(WARNINGS[WarningCode.SKEW_CORRECTED])
        if occurred_at > self._ahead:
            if occurred_at > self._far_ahead:
                raise InvalidMessage(
                    Code.INVALID_TIME, f"occurred_at: more than {FAR_AHEAD.days} days ahead"
                )
            warnings.append(WARNINGS[WarningCode.CLOCK_AHEAD])
            return self.received_at, client_at, False
        if occurred_at >= self._old:
            return occurred_at, client_at, False
        if occurred_at < EARLIEST:
            raise InvalidMessage(Code.INVALID_TIME, f"occurred_at: before {EARLIEST:%Y-%m-%d}")
        return occurred_at, client_at, True
