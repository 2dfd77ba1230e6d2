"""Fields of forms: what cannot be read is None, never an error."""

from datetime import UTC, date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.console import fields
from services.notifier.domain.sentiments import Mood


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-06-04", date(2026, 6, 4)),
        (" 2026-06-04 ", date(2026, 6, 4)),
        ("", None),
        ("2026-02-30", None),
        ("0001-01-01", None),
        ("9999-12-31", None),
    ],
)
def test_a_day(text: str, read: date | None) -> None:
    assert fields.day(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-06-04T09:30", datetime(2026, 6, 4, 9, 30, tzinfo=UTC)),
        ("2026-06-04T09:30+02:00", datetime(2026, 6, 4, 7, 30, tzinfo=UTC)),
        ("2026-06-04", datetime(2026, 6, 4, tzinfo=UTC)),
        ("tomorrow", None),
        ("9999-12-31T23:59", None),
    ],
)
def test_a_moment_is_utc(text: str, read: datetime | None) -> None:
    assert fields.moment(text) == read


def test_a_time_of_day() -> None:
    assert fields.time_of_day("09:05") == time(9, 5)
    assert fields.time_of_day("24:01") is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    fields.day(text)
    fields.moment(text)
    fields.time_of_day(text)
    fields.uuid_of(text)
    fields.choice(Mood, text)
    assert "\0" not in (fields.line(text) or "") + fields.lines(text)
