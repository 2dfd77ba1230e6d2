"""Episodes begin, end and cool down as the rule says; losses and leads are arithmetic."""

from datetime import date, timedelta

import numpy as np
import pytest

from services.scoring.domain import features
from services.scoring.domain.table import COLUMNS, IndicatorTable
from services.scoring.evaluation.alerts import alerts, band_rule, fixed_rule, raised
from services.scoring.evaluation.snapshots import Snapshots

START = date(2020, 1, 1).toordinal()


def looks(*ages: int, lost: tuple[bool, ...] = ()) -> Snapshots:
    """One account's looks, so many times 28 days after the start."""
    table = np.full((len(ages), len(COLUMNS)), np.nan)
    return Snapshots(
        table=table,
        features=features.rows(IndicatorTable(date.min, table)),
        lost=np.array(lost or (False,) * len(ages), np.bool_),
        day=np.array([START + 28 * age for age in ages], np.int64),
        account=np.zeros(len(ages), np.int64),
        names=("acme",),
    )


def begun(risks: list[float], *ages: int) -> list[int]:
    rows = looks(*(ages or range(len(risks))))
    return [int(row) for row in raised(rows, np.array(risks), fixed_rule(len(risks)))]


@pytest.mark.parametrize(
    ("risks", "episodes"),
    [
        pytest.param([0.1, 0.29], [], id="below the threshold"),
        pytest.param([0.1, 0.30, 0.5, 0.9], [1], id="one episode, however high it goes"),
        pytest.param([0.4, 0.1, 0.4], [0], id="low once keeps it open"),
        pytest.param([0.4, 0.1, 0.1, 0.4, 0.4], [0], id="closed, but it cools down for 84 days"),
        pytest.param([0.4, 0.1, 0.1, 0.1, 0.1, 0.4], [0, 5], id="and after 84 days begins anew"),
        pytest.param([0.4, 0.25, 0.25, 0.4], [0], id="between the thresholds nothing ends"),
    ],
)
def test_episodes(risks: list[float], episodes: list[int]) -> None:
    assert begun(risks) == episodes


def test_an_account_that_lapsed_begins_anew_when_it_comes_back() -> None:
    assert begun([0.4, 0.4, 0.4], 0, 1, 5) == [0, 2]


def test_the_band_rule_follows_the_base_rate_up_to_its_cap() -> None:
    rule = band_rule(np.array([0.02, 0.5]))
    # Three times the base, at most 0.30; ends below two thirds of it.
    assert rule.raise_at == pytest.approx([0.06, 0.30])
    assert rule.close_below == pytest.approx([0.04, 0.20])


def test_the_table_is_arithmetic() -> None:
    rows = looks(0, 1, 2, 3, lost=(False, False, True, True))
    # Used until day 60 and never again; seen at days 0, 28, 56 and 84.
    active = {"acme": np.array([START - 10, START + 30, START + 60], np.int64)}
    last = date.fromordinal(START) + timedelta(days=400)
    risk = np.array([0.1, 0.1, 0.5, 0.6])
    found = alerts(rows, risk, fixed_rule(4), active, last)
    assert (found.flags, found.losses) == (1, 1)
    assert found.per_account_month == pytest.approx(1 / (4 * 28 / 30.4375))
    assert found.false_per_account_month == 0
    assert (found.lost, found.lost_base) == (1, 0.5)
    # Of all looks: within 180 days the silence begins.
    assert (found.silenced, found.silenced_base) == (1, 1)
    assert (found.caught, found.caught_before_last_use) == (1, 1)
    # Raised on day 56, 4 days before the last use, 94 before the 90 days were over.
    assert found.days_until_confirmed == 94


def test_a_flag_after_which_use_went_on_is_false() -> None:
    rows = looks(0, 1)
    active = {"acme": np.arange(START - 50, START + 500, 10)}
    last = date.fromordinal(START) + timedelta(days=500)
    found = alerts(rows, np.array([0.5, 0.1]), fixed_rule(2), active, last)
    assert found.flags == 1
    assert found.false_per_account_month == found.per_account_month
    assert (found.losses, found.caught, found.days_until_confirmed) == (0, None, None)


def test_a_silence_that_the_file_is_too_short_for_is_none() -> None:
    rows = looks(0)
    active = {"acme": np.array([START - 5], np.int64)}
    found = alerts(rows, np.array([0.5]), fixed_rule(1), active, date.fromordinal(START + 60))
    assert (found.losses, found.silenced) == (0, 0)
