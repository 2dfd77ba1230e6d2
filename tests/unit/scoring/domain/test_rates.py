"""Rates, and the worked examples that they go by."""

import pytest

from services.scoring.domain.rates import (
    churn,
    months_of_life,
    per_months,
    share_of,
)


def test_two_percent_a_month_is_a_fifth_in_a_year() -> None:
    # 1 - 0.98 ** 12 = 1 - 0.78472 = 0.21528
    assert per_months(0.02, 1, 12) == pytest.approx(0.21528, abs=5e-6)


def test_ten_percent_a_year_is_less_than_a_twelfth_of_it_in_a_month() -> None:
    # 1 - 0.9 ** (1 / 12) = 1 - 0.991258 = 0.008742
    assert per_months(0.10, 12, 1) == pytest.approx(0.008742, abs=5e-7)


def test_where_one_of_24_leaves_every_month_a_customer_stays_for_24() -> None:
    assert months_of_life(1 / 24) == pytest.approx(24)


@pytest.mark.parametrize(
    ("monthly", "months"),
    [
        pytest.param(0.05, 20, id="1 / 0.05"),
        pytest.param(1 / 60, 60, id="the most"),
        pytest.param(0.001, 60, id="1,000 months are not believed"),
        pytest.param(0.0, 60, id="nobody left yet"),
        pytest.param(1.0, 1, id="all left"),
    ],
)
def test_a_customer_stays_so_long(monthly: float, months: float) -> None:
    assert months_of_life(monthly) == pytest.approx(months)


def test_churn_and_retention_are_the_whole() -> None:
    # 3 of 20 within a quarter: 0.15; a month: 1 - 0.85 ** (1 / 3) = 0.05273; a year:
    # 1 - 0.85 ** 4 = 0.47799
    found = churn(3, 20, 3)
    assert (found.rate, found.n) == (0.15, 20)
    assert found.retention == pytest.approx(0.85)
    assert found.per_month == pytest.approx(0.05273, abs=5e-6)
    assert found.per_year == pytest.approx(0.47799, abs=5e-6)


def test_fewer_than_ten_accounts_have_no_rate() -> None:
    nine, ten = churn(1, 9, 12), churn(1, 10, 12)
    assert (nine.rate, nine.retention, nine.per_month, nine.per_year) == (None,) * 4
    assert (nine.n, ten.rate) == (9, 0.1)
    assert (share_of(9, 9, 9), share_of(9, 10, 10), share_of(0, 0, 10)) == (None, 0.9, None)
