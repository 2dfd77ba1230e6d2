from zoneinfo import ZoneInfo

import pytest

from services.importing.errors import Unusable
from services.importing.times import TimeForm, recognise, wire_time

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("values", "form"),
    [
        pytest.param(["1336106720", "1336582954.5"], TimeForm.EPOCH, id="epoch seconds"),
        pytest.param(["1336106720123"], TimeForm.EPOCH, id="epoch milliseconds"),
        pytest.param(["19970101", "19970112"], TimeForm.BASIC_DATE, id="all look like dates"),
        pytest.param(["19970101", "19971345"], TimeForm.EPOCH, id="month 13 is no date"),
        pytest.param(["19970101", "133610672"], TimeForm.EPOCH, id="one is no date"),
        pytest.param(["2024-01-02", "2024-01-02T03:04:05Z"], TimeForm.ISO, id="iso"),
        pytest.param(["", "  "], TimeForm.ISO, id="nothing to see"),
    ],
)
def test_the_form_is_decided_by_the_column(values: list[str], form: TimeForm) -> None:
    assert recognise(values, column="at", zone=None) is form


def test_a_time_without_offset_is_refused_until_the_zone_is_said() -> None:
    with pytest.raises(Unusable, match=r"column at: '2024-01-02 03:04:05'.*--timezone"):
        recognise(["2024-01-02 03:04:05"], column="at", zone=None)
    assert recognise(["2024-01-02 03:04:05"], column="at", zone=PARIS) is TimeForm.ISO


@pytest.mark.parametrize(
    ("text", "form", "zone", "expected"),
    [
        ("1336106720", TimeForm.EPOCH, None, 1336106720),
        ("1336106720.25", TimeForm.EPOCH, None, 1336106720.25),
        ("19970112", TimeForm.BASIC_DATE, None, "1997-01-12T00:00:00+00:00"),
        ("2024-01-02", TimeForm.ISO, None, "2024-01-02T00:00:00+00:00"),
        # Midnight in Paris in winter is 23:00 UTC of the day before.
        ("2024-01-02", TimeForm.ISO, PARIS, "2024-01-01T23:00:00+00:00"),
        ("2024-07-02 10:00", TimeForm.ISO, PARIS, "2024-07-02T08:00:00+00:00"),
        ("2024-01-02T03:04:05Z", TimeForm.ISO, None, "2024-01-02T03:04:05+00:00"),
        ("2024-01-02 03:04:05.25 UTC", TimeForm.ISO, None, "2024-01-02T03:04:05.250000+00:00"),
        ("2024-01-02 03:04:05+00", TimeForm.ISO, None, "2024-01-02T03:04:05+00:00"),
        ("2024-01-02T03:04:05+0530", TimeForm.ISO, PARIS, "2024-01-01T21:34:05+00:00"),
    ],
)
def test_a_cell_becomes_what_the_wire_takes(
    text: str, form: TimeForm, zone: ZoneInfo | None, expected: str | float
) -> None:
    assert wire_time(text, form, zone) == expected


@pytest.mark.parametrize(
    ("text", "form", "reason"),
    [
        ("yesterday", TimeForm.ISO, "neither"),
        ("2024-13-01", TimeForm.ISO, "month"),
        ("2024-W01-1", TimeForm.ISO, "neither"),
        ("01/02/2024", TimeForm.ISO, "neither"),
        ("2024-01-02T25:00:00Z", TimeForm.ISO, "hour"),
        ("0001-01-01T00:00:00+14:00", TimeForm.ISO, "out of range"),
        ("2024-01-02 03:04", TimeForm.ISO, "no offset"),
        ("1336106720000000", TimeForm.EPOCH, "microseconds"),
        ("-5", TimeForm.EPOCH, "not a number"),
        ("1.3E9", TimeForm.EPOCH, "not a number"),
        ("٣", TimeForm.EPOCH, "not a number"),
        ("1336106720", TimeForm.BASIC_DATE, "YYYYMMDD"),
    ],
)
def test_what_would_be_a_guess_is_refused(text: str, form: TimeForm, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        wire_time(text, form, None)
