"""When a source's tracking plan is told to be at fault."""

import pytest

from services.scoring.domain.placing_figures import Fates, SourcePlacing, Trouble, trouble


def source(*, waiting: int = 0, waiting_long: int = 0, **week: int) -> SourcePlacing:
    return SourcePlacing(
        source="shop", week=Fates(**week), waiting=waiting, waiting_long=waiting_long
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(source(), None, id="no event is no trouble"),
        pytest.param(source(late=19), None, id="19 say nothing"),
        pytest.param(source(late=20), Trouble.MOSTLY_LOST, id="all of 20 were given up"),
        pytest.param(source(late=10, full=10, only_account=20), Trouble.MOSTLY_LOST, id="half"),
        pytest.param(source(late=20, only_account=21), None, id="20 of 41 are not half"),
        pytest.param(
            source(waiting=25, waiting_long=20), Trouble.MOSTLY_LOST, id="20 of 25 wait for long"
        ),
        pytest.param(
            source(waiting=500, waiting_long=20), None, id="most have only just begun to wait"
        ),
        pytest.param(
            source(waiting_long=10, waiting=10, late=10), Trouble.MOSTLY_LOST, id="both together"
        ),
        pytest.param(source(erased=900, only_account=30), None, id="who is erased is no fault"),
        pytest.param(source(waiting=900, only_account=900), None, id="what waited was found"),
        pytest.param(
            source(last_activity=15, first_stated=10, group_call=25),
            Trouble.MOSTLY_GUESSED,
            id="half are guesses",
        ),
        pytest.param(source(last_activity=25, group_call=26), None, id="25 of 51 are guesses"),
        pytest.param(source(first_stated=19), None, id="19 guesses say nothing"),
        pytest.param(
            source(last_activity=50, late=50), Trouble.MOSTLY_LOST, id="what is lost is told first"
        ),
        pytest.param(source(only_account=10_000), None, id="users of one account are no guess"),
    ],
)  # fmt: skip
def test_trouble_is_at_least_half_and_at_least_twenty(
    found: SourcePlacing, expected: Trouble | None
) -> None:
    assert trouble(found) is expected


@pytest.mark.parametrize(
    ("day", "waiting", "expected"),
    [
        pytest.param(Fates(), 0, Trouble.MOSTLY_LOST, id="a quiet day tells nothing"),
        # 900 were given up in the week, and 900 of them placed when they were taken in again.
        pytest.param(Fates(only_account=900), 0, None, id="it is over"),
        pytest.param(Fates(only_account=30, late=30), 0, Trouble.MOSTLY_LOST, id="half of a day"),
        pytest.param(Fates(only_account=31, full=30), 0, None, id="less than half"),
        pytest.param(
            Fates(only_account=40), 40, Trouble.MOSTLY_LOST, id="40 wait for over an hour"
        ),
        pytest.param(Fates(erased=30), 0, Trouble.MOSTLY_LOST, id="erased ones tell nothing"),
    ],
)
def test_what_is_lost_is_told_until_a_day_is_well(
    day: Fates, waiting: int, expected: Trouble | None
) -> None:
    week = Fates(late=900, only_account=900 - waiting)
    found = SourcePlacing(source="shop", day=day, week=week, waiting=waiting, waiting_long=waiting)
    assert trouble(found) is expected


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        pytest.param(Fates(), Trouble.MOSTLY_GUESSED, id="a quiet day tells nothing"),
        pytest.param(Fates(group_call=31, last_activity=30), None, id="less than half"),
        pytest.param(Fates(group_call=30, first_stated=30), Trouble.MOSTLY_GUESSED, id="half"),
    ],
)
def test_guesses_are_told_until_a_day_is_well(day: Fates, expected: Trouble | None) -> None:
    found = SourcePlacing(source="shop", day=day, week=Fates(last_activity=900, group_call=100))
    assert trouble(found) is expected
