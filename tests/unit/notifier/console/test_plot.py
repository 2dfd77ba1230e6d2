"""The usage plot and the table beside it."""

from datetime import date, timedelta

import pytest

from services.notifier.console.plot import DAYS, nice_ceiling, plot, weeks
from services.notifier.console.scoring import Daily
from services.notifier.console.words import account_url, age, facts
from shared.messages import AccountFields
from tests.unit.notifier.factories import NOW

LAST = date(2026, 6, 30)


def day(ago: int, events: int = 10, users: int = 2) -> Daily:
    return Daily(day=LAST - timedelta(days=ago), events=events, active_users=users)


@pytest.mark.parametrize(
    ("value", "ceiling"), [(0, 2), (1, 2), (3, 4), (11, 12), (17, 20), (101, 120), (999, 1_000)]
)
def test_the_axis_ends_at_a_round_number(value: int, ceiling: int) -> None:
    assert nice_ceiling(value) == ceiling


def test_the_highest_day_of_a_full_axis_fills_it_and_half_is_half() -> None:
    made = plot([day(0, events=100), day(1, events=50)], last=LAST, width=960)
    panel = made.panels[0]
    assert [bar.height for bar in panel.bars] == [130, 65]
    assert [line.text for line in panel.lines] == ["0", "50", "100"]


def test_bars_stay_inside_and_days_out_of_the_window_are_not_drawn() -> None:
    made = plot([day(ago) for ago in (0, DAYS - 1, DAYS, 400)], last=LAST, width=358)
    for panel in made.panels:
        assert len(panel.bars) == 2
        for bar in panel.bars:
            assert made.left <= bar.x
            assert bar.x + bar.width <= made.right + 0.01


def test_no_use_is_an_empty_axis() -> None:
    made = plot([], last=LAST, width=960)
    assert made.panels[0].bars == ()
    assert made.panels[0].lines[-1].text == "2"


def test_narrow_plots_have_fewer_month_names() -> None:
    wide, narrow = (plot([], last=LAST, width=width) for width in (960, 200))
    assert len(narrow.months) < len(wide.months)


def test_the_table_has_every_week_and_the_same_totals() -> None:
    days = [day(ago, events=ago, users=ago % 5) for ago in range(0, DAYS, 3)]
    table = weeks(days, last=LAST)
    assert sum(week.events for week in table) == sum(one.events for one in days)
    assert len(table) in (26, 27)
    assert table[0].begins == date(2026, 6, 29)


@pytest.mark.parametrize(
    ("account_id", "url"),
    [
        ("acme", "/accounts/acme"),
        ("a/b c?#%", "/accounts/a%2Fb%20c%3F%23%25"),
        ("..", "/accounts/?id=.."),
        ("é", "/accounts/%C3%A9"),
    ],
)
def test_any_account_has_an_address(account_id: str, url: str) -> None:
    assert account_url(account_id) == url


def test_ages_are_in_the_largest_whole_unit() -> None:
    ages = [age(NOW - timedelta(seconds=s), NOW) for s in (0, 59, 60, 7_199, 90_000, -5)]
    assert ages == ["just now", "just now", "1 min", "1 h", "1 d", "just now"]


def test_only_known_facts_are_listed() -> None:
    assert facts(AccountFields(seats=1_200, currency="EUR")) == [("Seats", "1,200")]
