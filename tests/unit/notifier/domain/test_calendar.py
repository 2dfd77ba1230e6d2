"""When an intervention is due."""

from datetime import UTC, date, datetime

import pytest

from services.notifier.domain.calendar import due_at, working_day_after, zone_of
from shared.messages import Band


@pytest.mark.parametrize(
    ("now", "zone", "severity", "due"),
    [
        pytest.param(
            datetime(2026, 6, 1, 9, tzinfo=UTC),
            "UTC",
            Band.CRITICAL,
            datetime(2026, 6, 2, 18, tzinfo=UTC),
            id="critical on Monday: end of Tuesday",
        ),
        pytest.param(
            datetime(2026, 6, 4, 9, tzinfo=UTC),
            "UTC",
            Band.AT_RISK,
            datetime(2026, 6, 9, 18, tzinfo=UTC),
            id="at risk on Thursday: Tuesday, the weekend does not count",
        ),
        pytest.param(
            datetime(2026, 6, 6, 9, tzinfo=UTC),
            "UTC",
            Band.WATCH,
            datetime(2026, 6, 12, 18, tzinfo=UTC),
            id="watch on Saturday: Friday",
        ),
        pytest.param(
            datetime(2026, 6, 5, 19, tzinfo=UTC),
            "Australia/Brisbane",
            Band.CRITICAL,
            datetime(2026, 6, 8, 8, tzinfo=UTC),
            id="Friday 19:00 UTC is Saturday in Brisbane: their Monday, 18:00 at UTC+10",
        ),
        pytest.param(
            datetime(2026, 3, 27, 9, tzinfo=UTC),
            "Europe/Berlin",
            Band.CRITICAL,
            datetime(2026, 3, 30, 16, tzinfo=UTC),
            id="over the change to summer time: 18:00 at UTC+2, not UTC+1",
        ),
    ],
)
def test_due(now: datetime, zone: str, severity: Band, due: datetime) -> None:
    assert due_at(severity, now=now, zone=zone_of(zone)) == due


def test_days_off_do_not_count() -> None:
    may_day = date(2026, 5, 1)
    assert working_day_after(date(2026, 4, 30), 1, days_off={may_day}) == date(2026, 5, 4)


@pytest.mark.parametrize(
    "name", [None, "", "Mars/Olympus", "../../etc/passwd", "a\0b", "Europe", "x" * 5_000]
)
def test_an_unknown_or_hostile_zone_is_utc(name: str | None) -> None:
    assert zone_of(name) is UTC
