"""Which looks there are follows from the file alone, by one rule for all files."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from services.scoring.evaluation.event_file import EventFile, UnusableFile
from services.scoring.evaluation.protocol import Wishes, plan
from tests.unit.scoring.factories import usage_event


def file_of(first: date, last: date, *, has_arrivals: bool = True) -> EventFile:
    moments = [datetime(day.year, day.month, day.day, 12, tzinfo=UTC) for day in (first, last)]
    return EventFile(
        events=tuple(usage_event(occurred_at=at, received_at=at) for at in moments),
        has_arrivals=has_arrivals,
        has_times=has_arrivals,
        lag=timedelta(0),
        sha256="",
    )


def test_looks_come_every_28_days_from_1_january_while_what_follows_is_known() -> None:
    found = plan(file_of(date(2012, 2, 10), date(2014, 6, 1)), Wishes())
    # 1 January 2012 + 2 x 28 days is the first look at which anything had arrived.
    assert found.days[0] == date(2012, 2, 26)
    steps = {(b - a).days for a, b in zip(found.days, found.days[1:], strict=False)}
    assert steps == {28}
    # T + 90 lies before the last arrival - 14 days: T < 1 June - 104 days = 17 February.
    assert date(2014, 1, 20) < found.days[-1] < date(2014, 2, 17)
    assert (found.eligible, found.horizon_days, found.apart) == ("scored", 90, False)


def test_a_short_ledger_is_learnt_from_once_and_tested_once() -> None:
    found = plan(file_of(date(1997, 1, 1), date(1998, 6, 30), has_arrivals=False), Wishes())
    # 30 June 1998 - 90 days, and 90 days before that.
    assert found.days == (date(1998, 1, 1), date(1998, 4, 1))
    assert (found.eligible, found.apart) == ("any", True)


def test_a_long_ledger_is_walked_through() -> None:
    found = plan(file_of(date(1997, 1, 1), date(2003, 6, 30), has_arrivals=False), Wishes())
    assert not found.apart
    assert found.eligible == "any"


def test_named_looks_are_tested_each_by_what_was_known_before() -> None:
    days = (date(1997, 12, 31), date(1997, 6, 30))
    wishes = Wishes(as_of=days, horizon_days=181)
    found = plan(file_of(date(1997, 1, 1), date(1998, 6, 30), has_arrivals=False), wishes)
    assert found.days == (date(1997, 6, 30), date(1997, 12, 31))
    day = np.repeat([one.toordinal() for one in found.days], 4)
    lost = np.array([True, False] * 4)
    (fold,) = found.folds(day, lost)
    assert fold.train.tolist() == [True] * 4 + [False] * 4
    assert fold.test.tolist() == [False] * 4 + [True] * 4


def test_a_look_whose_horizon_is_open_teaches_nothing() -> None:
    days = (date(1997, 6, 30), date(1997, 12, 31))
    wishes = Wishes(as_of=days, horizon_days=185)  # 184 days lie between them.
    found = plan(file_of(date(1997, 1, 1), date(1998, 12, 31)), wishes)
    day = np.repeat([one.toordinal() for one in found.days], 4)
    assert found.folds(day, np.array([True, False] * 4)) == ()


def test_the_first_year_that_is_tested_can_be_named() -> None:
    found = plan(file_of(date(2012, 1, 1), date(2020, 1, 1)), Wishes(first_year=2017))
    day = np.array([one.toordinal() for one in found.days])
    lost = np.arange(len(day)) % 3 == 0
    starts = [date.fromordinal(fold.start) for fold in found.folds(day, lost)]
    assert starts[0] == date(2017, 1, 1)


@pytest.mark.parametrize(
    ("first", "last", "wishes", "detail"),
    [
        (date(2020, 1, 1), date(2020, 3, 1), Wishes(), "too short"),
        (date(2020, 1, 1), date(2020, 1, 1), Wishes(), "too short"),
        (date(2020, 1, 1), date(2022, 1, 1), Wishes(as_of=(date(2021, 1, 1),)), "twice at least"),
        (
            date(2020, 1, 1),
            date(2022, 1, 1),
            Wishes(as_of=(date(2021, 1, 1), date(2021, 12, 1))),
            "cannot be tested",
        ),
        (
            date(2020, 6, 1),
            date(2022, 1, 1),
            Wishes(as_of=(date(2020, 1, 1), date(2021, 1, 1))),
            "too short",
        ),
    ],
)
def test_a_file_that_is_too_short_says_so(
    first: date, last: date, wishes: Wishes, detail: str
) -> None:
    with pytest.raises(UnusableFile, match=detail):
        plan(file_of(first, last), wishes)
