"""Renewals to come, and what the risk says of them."""

from typing import Any

import numpy as np
import pytest

from services.scoring.domain.books import Books
from services.scoring.domain.cuts import Cut
from services.scoring.domain.forecast import Due, Forecast, expected_loss, forecast
from tests.unit.scoring.ledgers import LedgerAccount, ledger_of
from tests.unit.scoring.portfolios import FIRST_CHANGE, LONG_AGO, many

NOW = "2026-03-01T12:00"


def ends(end: str, **fields: Any) -> dict[str, dict[str, Any]]:
    known = {"status": "active", "contract_end": end, "mrr": 10, "currency": "EUR"}
    return {LONG_AGO: known | fields}


def forecast_of(*accounts: LedgerAccount, cut: Cut = Cut.WHOLE, **filters: str) -> Forecast:
    ledger = ledger_of(FIRST_CHANGE, *accounts, as_of=NOW)
    books = Books(ledger.versions, len(ledger.accounts))
    wanted = {Cut(name): value for name, value in filters.items()}
    return forecast(ledger, books, cut=cut, filters=wanted)


@pytest.mark.parametrize(
    ("days", "loss"),
    [
        pytest.param(0, 0.1, id="today"),
        pytest.param(90, 0.1, id="at the horizon"),
        pytest.param(135, 1 - 0.9**1.5, id="1 - 0.9 ** 1.5 = 0.146"),
        pytest.param(180, 0.19, id="twice the horizon: 1 - 0.9 * 0.9"),
    ],
)
def test_a_later_end_has_more_time_to_be_lost(days: int, loss: float) -> None:
    assert expected_loss(np.array([0.1]), np.array([float(days)]))[0] == pytest.approx(loss)


def test_what_comes_up_and_what_may_be_lost_of_it() -> None:
    found = forecast_of(
        *many(8, "soon", ends("2026-03-20"), risk=0.25),
        *many(4, "mid", ends("2026-05-15", mrr=20), risk=0.5),
        *many(2, "late", ends("2026-08-27", currency="USD"), risk=0.1),
        *many(1, "unscored", ends("2026-03-30")),
        *many(1, "far", ends("2026-08-28"), risk=0.9),
        *many(1, "over", ends("2026-02-28"), risk=0.9),
        *many(1, "month", ends("2026-03-20", billing_period="month"), risk=0.9),
        *many(1, "trial", ends("2026-03-20", status="trial"), risk=0.9),
        *many(1, "left", ends("2026-03-20", status="churned", churned_at="2026-02-20"), risk=0.9),
        *many(1, "ending", ends("2026-03-31", churned_at="2026-03-31"), risk=0.2),
    ).whole
    thirty, ninety, half_year = found
    assert [one.days for one in found] == [30, 90, 180]
    # 31 March is the 30th day from now, and so beyond "within 30 days".
    assert (thirty.due, thirty.without_risk) == (9, 1)
    assert thirty.expected_lost == pytest.approx(8 * 0.25)
    assert thirty.expected_rate is None
    # 8 x 0.25 + 4 x 0.5 + 1 that has given notice = 5 of 13 with a risk
    assert (ninety.due, ninety.without_risk) == (14, 1)
    assert ninety.expected_lost == pytest.approx(5)
    assert ninety.expected_rate == pytest.approx(1 - 5 / 13)
    # 27 August is 179 days away: 2 x (1 - 0.9 ** (179 / 90)) more
    later = 2 * (1 - 0.9 ** (179 / 90))
    assert half_year.expected_lost == pytest.approx(5 + later)
    # A year's price: 8 x 120 + 4 x 240 + 2 x 120; lost 8 x 30 + 4 x 120 + 120.
    euro, dollar = half_year.money
    assert euro == Due(currency="EUR", due=216_000, expected_lost=84_000)
    assert (dollar.currency, dollar.due) == ("USD", 24_000)
    assert dollar.expected_lost == 2 * round(12_000 * later / 2)


def test_parts_of_the_forecast_sum_to_the_whole() -> None:
    accounts = [
        *many(5, "a", ends("2026-03-20", owner="ada", segment="small"), risk=0.3),
        *many(7, "b", ends("2026-06-20", owner="bob", segment="large"), risk=0.05),
        *many(2, "c", ends("2026-04-20", segment="small")),
    ]
    found = forecast_of(*accounts, cut=Cut.OWNER)
    assert [one.key for one in found.parts] == ["bob", "ada", None]
    for index, whole in enumerate(found.whole):
        parts = [one.horizons[index] for one in found.parts]
        assert sum(one.due for one in parts) == whole.due
        assert sum(one.without_risk for one in parts) == whole.without_risk
        assert sum(one.expected_lost for one in parts) == pytest.approx(whole.expected_lost)
        for name in ("due", "expected_lost"):
            told = sum(getattr(money, name) for one in parts for money in one.money)
            assert told == sum(getattr(money, name) for money in whole.money)
    alone = forecast_of(*accounts, segment="small").whole
    assert [one.due for one in alone] == [5, 7, 7]


def test_nothing_comes_up() -> None:
    found = forecast_of()
    assert [(one.due, one.expected_rate, one.money) for one in found.whole] == [(0, None, [])] * 3
    assert found.parts == []
