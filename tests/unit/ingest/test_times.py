"""When an event happened: how it may be said, and how far it is believed."""

import json
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from tests.unit.ingest.decoded import NOW, SUBMISSION, codes, events, warnings
from tests.unit.ingest.native_bodies import item, take

MAY_BACKFILL = replace(SUBMISSION, may_backfill=True)


def at(stated: object) -> object:
    return [item(occurred_at=stated)]


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param("2026-03-09T10:00:00Z", id="UTC"),
        pytest.param("2026-03-09T12:00:00+02:00", id="offset"),
        pytest.param("2026-03-09T10:00:00.000000000Z", id="nanoseconds"),
        pytest.param("2026-03-09t10:00:00z", id="lower case"),
        # 2026-03-09T10:00:00Z is 20,521 days and 10 hours after 1970: 20521 * 86400 + 36000.
        pytest.param(1_773_050_400, id="seconds"),
        pytest.param(1_773_050_400.0, id="seconds as a fraction"),
        pytest.param(1_773_050_400_000, id="milliseconds"),
    ],
)
def test_a_time_may_be_said_in_several_ways(stated: object) -> None:
    (event,) = events(take(at(stated)))
    expected = datetime.fromisoformat("2026-03-09T10:00:00Z")
    assert (event.occurred_at, event.client_at) == (expected, expected)


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param("2026-03-09T10:00:00", id="no offset"),
        pytest.param("2026-03-09", id="a date"),
        pytest.param("yesterday", id="a word"),
        pytest.param("", id="empty"),
        pytest.param("1773050400", id="digits as text"),
        pytest.param("\ud83d", id="half a character"),
        pytest.param([], id="a list"),
        pytest.param(True, id="truth"),
        pytest.param(10**30, id="a huge integer"),
        pytest.param(-(10**18), id="far before"),
        pytest.param(0, id="1970"),
        pytest.param("0001-01-01T00:00:00Z", id="year 1"),
        pytest.param("0001-01-01T00:00:00+02:00", id="before year 1"),
        pytest.param("9999-12-31T23:59:59Z", id="year 9999"),
        pytest.param("9999-12-31T23:59:59-02:00", id="after year 9999"),
        pytest.param("1989-12-31T23:59:59Z", id="before 1990"),
    ],
)
def test_a_time_that_makes_no_sense_is_rejected(stated: object) -> None:
    decoded = take(json.dumps(at(stated)).encode(), MAY_BACKFILL)
    assert codes(decoded) == ["invalid_time"]
    assert "occurred_at" in (decoded.results[0].message or "")


@pytest.mark.parametrize(
    ("ahead", "occurred", "warned", "code"),
    [
        pytest.param(timedelta(minutes=5), timedelta(minutes=5), [], None, id="5 minutes"),
        pytest.param(timedelta(minutes=6), timedelta(), ["clock_ahead"], None, id="6 minutes"),
        pytest.param(timedelta(days=366), timedelta(), ["clock_ahead"], None, id="366 days"),
        pytest.param(timedelta(days=367), None, [], "invalid_time", id="367 days"),
    ],
)
def test_a_clock_may_run_ahead(
    ahead: timedelta, occurred: timedelta | None, warned: list[str], code: str | None
) -> None:
    stated = NOW + ahead
    decoded = take(at(stated.isoformat()))

    assert codes(decoded) == [code]
    assert warnings(decoded) == warned
    if occurred is not None:
        (event,) = events(decoded)
        assert (event.occurred_at, event.client_at) == (NOW + occurred, stated)


@pytest.mark.parametrize(
    ("age", "may_backfill", "event_id", "code", "marked"),
    [
        pytest.param(timedelta(days=29), False, "1", None, False, id="late"),
        pytest.param(timedelta(days=31), False, "1", "too_old", False, id="old without scope"),
        pytest.param(timedelta(days=31), True, "1", None, True, id="old with scope"),
        pytest.param(timedelta(days=31), True, None, "too_old", False, id="old without id"),
        pytest.param(timedelta(days=29), True, "1", None, False, id="late with scope"),
    ],
)
def test_old_events_need_the_scope_and_an_id(
    age: timedelta, event_id: str | None, code: str | None, *, may_backfill: bool, marked: bool
) -> None:
    submission = replace(SUBMISSION, may_backfill=may_backfill)
    stated = NOW - age
    decoded = take([item(id=event_id, occurred_at=stated.isoformat())], submission)

    assert codes(decoded) == [code]
    if code is None:
        (event,) = events(decoded)
        # A late event keeps its time: it lands in its own day.
        assert (event.occurred_at, event.backfill) == (stated, marked)


def test_the_header_marks_new_events_as_history_too() -> None:
    submission = replace(MAY_BACKFILL, marks_backfill=True)
    assert [event.backfill for event in events(take([item()], submission))] == [True]


@pytest.mark.parametrize(
    ("clock_off", "corrected"),
    [
        pytest.param(timedelta(minutes=4), False, id="4 minutes behind"),
        pytest.param(timedelta(minutes=5), True, id="5 minutes behind"),
        pytest.param(timedelta(days=-3), True, id="3 days ahead"),
        pytest.param(timedelta(days=365 * 56), True, id="clock at 1970"),
    ],
)
def test_the_time_of_sending_corrects_a_wrong_clock(
    clock_off: timedelta, *, corrected: bool
) -> None:
    sent = NOW - clock_off
    stated = sent - timedelta(hours=2)
    body = {"sent_at": sent.isoformat(), "events": at(stated.isoformat())}
    decoded = take(body)

    (event,) = events(decoded)
    assert event.client_at == stated
    assert event.occurred_at == (NOW - timedelta(hours=2) if corrected else stated)
    assert warnings(decoded) == (["skew_corrected"] if corrected else [])
    assert decoded.skew_seconds == clock_off.total_seconds()


def test_a_wrong_clock_does_not_touch_events_without_a_time() -> None:
    body = {"sent_at": "2020-01-01T00:00:00Z", "events": [item()]}
    decoded = take(body)
    assert events(decoded)[0].occurred_at == NOW
    assert warnings(decoded) == []


def test_a_correction_beyond_the_calendar_is_an_invalid_time() -> None:
    body = {"sent_at": "0001-01-02T00:00:00Z", "events": at("9999-01-01T00:00:00Z")}
    assert codes(take(body)) == ["invalid_time"]
