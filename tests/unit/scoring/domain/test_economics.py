"""A period's figures, with the arithmetic beside each."""

from datetime import date
from typing import Any

import pytest

from services.scoring.accounting import Accounting
from services.scoring.domain.cuts import Cut
from services.scoring.domain.economics import Accounts, Figures, LifetimeValue, Renewals
from services.scoring.domain.ledger import LifeStage
from services.scoring.domain.periods import Period
from tests.unit.scoring.ledgers import LedgerAccount, account, ledger_of
from tests.unit.scoring.portfolios import (
    FIRST_CHANGE,
    LONG_AGO,
    many,
    money_of,
    portfolio_of,
    whole_of,
)

NOW = "2026-06-01T12:00"
YEAR = ("2025-01-01", "2026-01-01")


def known(**fields: Any) -> dict[str, Any]:
    return {"status": "active", "contract_start": "2020-02-01", "currency": "EUR"} | fields


def figures(*accounts: LedgerAccount, first: str = YEAR[0], end: str = YEAR[1]) -> Figures:
    return whole_of(ledger_of(FIRST_CHANGE, *accounts, as_of=NOW), first, end)


def lost(on: str, **fields: Any) -> dict[str, dict[str, Any]]:
    left = {"status": "churned", "churned_at": on}
    return {LONG_AGO: known(**fields), f"{on}T12:00": known(**fields) | left}


# 16 stay, 4 leave in spring, 5 come in summer, 1 comes and goes, 2 try.
VENDOR = (
    *many(16, "stay", {LONG_AGO: known(mrr=10)}),
    *many(4, "left", lost("2025-04-10", mrr=10)),
    *many(5, "new", {LONG_AGO: known(mrr=20, contract_start="2025-07-01")}),
    *many(
        1,
        "guest",
        {LONG_AGO: known(mrr=5, contract_start="2025-02-01")},
        {"2025-11-30T12:00": known(mrr=5, churned_at="2025-11-30", contract_start="2025-02-01")},
    ),
    *many(2, "trial", {LONG_AGO: known(status="trial")}),
)


def test_accounts_of_a_year_and_its_churn() -> None:
    found = figures(*VENDOR)
    # 20 + 5 - 4 = 21; who came and went is in none; `~first` is a trial too.
    assert found.accounts == Accounts(start=20, new=5, lost=4, end=21, trials=3)
    # 4 / 20; newcomers are on neither side.
    assert (found.churn.rate, found.churn.retention) == (0.2, 0.8)
    # A month: 1 - 0.8 ** (1 / 12).
    assert found.churn.per_month == pytest.approx(0.018423, abs=5e-7)
    assert found.churn.per_year == pytest.approx(0.2)


def test_accounts_of_the_months_lead_through_the_year() -> None:
    shown = [
        (month, figures(*VENDOR, first=f"2025-{month:02d}-01", end=f"2025-{month + 1:02d}-01"))
        for month in range(1, 12)
    ]
    accounts = {month: one.accounts for month, one in shown}
    assert accounts[1] == Accounts(start=20, new=0, lost=0, end=20, trials=3)
    assert accounts[2] == Accounts(start=20, new=1, lost=0, end=21, trials=3)
    assert accounts[4] == Accounts(start=21, new=0, lost=4, end=17, trials=3)
    assert accounts[7] == Accounts(start=17, new=5, lost=0, end=22, trials=3)
    assert accounts[11] == Accounts(start=22, new=0, lost=1, end=21, trials=3)
    # 4 / 21 within April, that is 1 - (17 / 21) ** 12 in a year.
    assert dict(shown)[4].churn.per_year == pytest.approx(1 - (17 / 21) ** 12)


def test_the_pace_of_a_period_that_is_not_over_is_that_of_its_days_so_far() -> None:
    ledger = ledger_of(
        FIRST_CHANGE,
        *many(18, "stay", {LONG_AGO: known()}),
        *many(2, "left", lost("2026-02-10")),
        as_of="2026-03-31T12:00",
    )
    period = Period(first=date(2026, 1, 1), end=date(2027, 1, 1))
    found = Accounting().portfolio(ledger, period, Cut.WHOLE, {}).whole
    # 2 of 20 in the three months until the end of the running day: 1 - 0.9 ** 4 in a year.
    assert found.churn.rate == 0.1
    assert found.churn.per_year == pytest.approx(0.3439)


def test_money_leads_from_the_start_to_the_end() -> None:
    def moved(**after: Any) -> dict[str, dict[str, Any]]:
        return {LONG_AGO: known(mrr="100.10"), "2025-05-05": known(**after)}

    ledger = ledger_of(
        FIRST_CHANGE,
        *many(8, "same", {LONG_AGO: known(mrr="100.10")}),
        *many(2, "more", moved(mrr="130.30")),
        *many(1, "less", moved(mrr="60.05")),
        *many(1, "left", lost("2025-09-09", mrr="100.10")),
        *many(3, "new", {LONG_AGO: known(mrr="33.33", contract_start="2025-07-01")}),
        as_of=NOW,
    )
    found = money_of(ledger, *YEAR)
    # 12 x 100.10 = 1201.20; + 3 x 33.33 + 2 x 30.20 - 40.05 - 100.10 = 1221.44
    assert found.mrr_start == 120_120
    assert (found.new, found.expansion) == (9_999, 6_040)
    assert (found.contraction, found.lost) == (4_005, 10_010)
    assert found.mrr_end == 122_144
    # Starters only: (1201.20 - 40.05 - 100.10) / 1201.20; + 60.40
    assert found.grr == pytest.approx(1061.05 / 1201.20)
    assert found.nrr == pytest.approx(1121.45 / 1201.20)
    assert found.n == 12


def test_what_is_to_come_has_not_happened() -> None:
    found = figures(
        *many(3, "stay", {LONG_AGO: known()}),
        *many(1, "coming", {LONG_AGO: known(contract_start="2026-08-01")}),
        *many(1, "going", {LONG_AGO: known(churned_at="2026-09-01")}),
        first="2026-01-01",
        end="2027-01-01",
    )
    assert found.accounts == Accounts(start=4, new=0, lost=0, end=4, trials=1)


def test_cents_are_those_that_were_written() -> None:
    # 0.29 * 100 is 28.999999999999996 as a float.
    ledger = ledger_of(*many(10, "small", {LONG_AGO: known(mrr="0.29")}), as_of=NOW)
    assert money_of(ledger, *YEAR).mrr_start == 290


def test_currencies_are_never_added() -> None:
    ledger = ledger_of(
        FIRST_CHANGE,
        *many(10, "euro", {LONG_AGO: known(mrr=10)}),
        *many(10, "dollar", {LONG_AGO: known(mrr=7, currency="USD")}),
        *many(
            2,
            "changed",
            {LONG_AGO: known(mrr=10), "2025-05-05": known(mrr=11, currency="USD")},
        ),
        *many(1, "unknown", {LONG_AGO: known(mrr=3, currency=None)}),
        as_of=NOW,
    )
    money = whole_of(ledger, *YEAR).money
    assert [(one.currency, one.mrr_start, one.mrr_end) for one in money] == [
        ("EUR", 12_000, 10_000),
        ("USD", 7_000, 9_200),
        (None, 300, 300),
    ]
    euro, dollar, _ = money
    # Who pays in another currency now has not shrunk or grown: it goes here, comes there.
    assert (euro.lost, euro.contraction, dollar.new, dollar.expansion) == (2_000, 0, 2_200, 0)
    assert (euro.grr, euro.nrr, euro.n) == (1, 1, 10)
    assert (dollar.grr, dollar.nrr, dollar.n) == (1, 1, 10)


def test_a_price_that_becomes_known_is_no_growth() -> None:
    ledger = ledger_of(
        FIRST_CHANGE,
        *many(10, "known", {LONG_AGO: known(mrr=10)}),
        *many(1, "told", {LONG_AGO: known(), "2025-05-05": known(mrr=50)}),
        *many(1, "cleared", {LONG_AGO: known(mrr=70), "2025-05-05": known()}),
        as_of=NOW,
    )
    found = money_of(ledger, *YEAR)
    # 10 x 10 + 70 = 170; + 50 - 70 = 150
    assert (found.mrr_start, found.new, found.lost, found.mrr_end) == (17_000, 5_000, 7_000, 15_000)
    assert (found.grr, found.nrr, found.n) == (1, 1, 10)


def test_renewals_by_number_and_by_value() -> None:
    def due(**after: Any) -> dict[str, dict[str, Any]]:
        before = known(billing_period="year", contract_end="2025-06-30", mrr=after.pop("mrr", 10))
        return {LONG_AGO: before} | ({"2025-06-20": before | after} if after else {})

    found = figures(
        *many(9, "renewed", due(contract_end="2026-06-30")),
        *many(1, "small", due(status="churned", churned_at="2025-06-19")),
        *many(2, "large", due(status="churned", churned_at="2025-06-19", mrr=30)),
        *many(3, "open", due()),
        *many(4, "monthly", {LONG_AGO: known(billing_period="month", contract_end="2025-06-30")}),
    )
    # 9 / (15 - 3), below the target of 0.9
    assert found.renewals == Renewals(due=15, renewed=9, lost=3, pending=3, rate=0.75)
    (euro,) = found.money
    # A year of 9 x 10, 1 x 10 + 2 x 30, 3 x 10: 1,080 / (1,080 + 840)
    assert euro.renewals == Renewals(
        due=228_000, renewed=108_000, lost=84_000, pending=36_000, rate=0.5625
    )


def test_a_decision_counts_once_and_late_news_when_they_come() -> None:
    before = known(contract_end="2025-06-20")
    late = many(12, "late", {LONG_AGO: before}, {"2025-08-15": known(contract_end="2026-06-20")})
    june = figures(*late, first="2025-06-01", end="2025-07-01").renewals
    july = figures(*late, first="2025-07-01", end="2025-08-01").renewals
    august = figures(*late, first="2025-08-01", end="2025-09-01").renewals
    assert june == Renewals(due=12, renewed=0, lost=0, pending=12, rate=None)
    assert july == Renewals(due=0, renewed=0, lost=0, pending=0, rate=None)
    # 15 - 7 = 8 August
    assert august == Renewals(due=12, renewed=12, lost=0, pending=0, rate=1)


def test_a_lifetime_goes_by_the_segments_own_churn() -> None:
    """Of 40 small ones 16 left in the year, of 40 large ones none, of 5 others none."""
    small, large = {"segment": "small", "margin_per_month": 2}, {"segment": "large"}
    found = figures(
        *many(24, "stay", {LONG_AGO: known(**small)}),
        *many(16, "left", lost("2025-04-10", **small)),
        *many(40, "large", {LONG_AGO: known(**large, margin_per_month=10)}),
        *many(5, "other", {LONG_AGO: known(segment="other", margin_per_month=4)}),
    )
    ((euro,), n) = (found.money, 24 + 40 + 5)
    # small: 1 / (1 - 0.6 ** (1 / 12)) = 23.995 months; large: 60 at most; others as the vendor:
    # 16 / 85 a year, 1 / (1 - (69 / 85) ** (1 / 12)) = 58.043 months.
    small_months, vendor_months = 1 / (1 - 0.6 ** (1 / 12)), 1 / (1 - (69 / 85) ** (1 / 12))
    assert small_months == pytest.approx(23.995, abs=5e-4)
    assert vendor_months == pytest.approx(58.043, abs=5e-3)
    cents = 24 * round(200 * small_months) + 40 * 60_000 + 5 * round(400 * vendor_months)
    assert euro.lifetime.average == round(cents / n)
    assert (euro.lifetime.of, euro.lifetime.n) == ("mixed", n)
    # (24 x 2 + 40 x 10 + 5 x 4) a month: the average is margin x months.
    assert euro.lifetime.months == pytest.approx(cents / 46_800)


def test_two_a_month_for_24_months_are_48() -> None:
    """Of 10,000 so many leave that one of 24 left every month: 1 - (23 / 24) ** 12 = 0.3999."""
    found = figures(
        *many(6_001, "stay", {LONG_AGO: known(margin_per_month=2)}),
        *many(3_999, "left", lost("2025-04-10", margin_per_month=2)),
    )
    (euro,) = found.money
    assert euro.lifetime == LifetimeValue(
        average=pytest.approx(4_800, abs=1),  # type: ignore[arg-type]
        months=pytest.approx(24, abs=0.01),  # type: ignore[arg-type]
        of="vendor",
        n=6_001,
    )


def test_of_few_accounts_nobody_knows_how_long_they_stay() -> None:
    (euro,) = figures(*many(9, "stay", {LONG_AGO: known(mrr=3, margin_per_month=2)})).money
    assert euro.lifetime == LifetimeValue(average=None, months=None, of=None, n=0)


def test_what_is_at_risk_is_of_todays_customers() -> None:
    ledger = ledger_of(
        FIRST_CHANGE,
        *many(
            10,
            "margin",
            {LONG_AGO: known(mrr=30, margin_per_month=20)},
            risk=0.25,
            value_at_risk=60.0,
        ),
        *many(2, "mrr", {LONG_AGO: known(mrr=30)}, risk=0.5, value_at_risk=180.0),
        *many(3, "young", {LONG_AGO: known(margin_per_month=20)}),
        *many(
            1,
            "left",
            lost("2026-05-10", mrr=30, margin_per_month=20),
            risk=0.9,
            value_at_risk=216.0,
        ),
        *many(1, "trial", {LONG_AGO: known(status="trial")}, risk=0.9, value_at_risk=216.0),
        as_of=NOW,
    )
    found = money_of(ledger, "2025-06-02", "2026-06-02")
    # 10 x 0.25 x 12 x 20 + 2 x 0.5 x 12 x 30
    assert found.value_at_risk == 60_000 + 36_000
    assert (found.by_margin, found.by_mrr) == (10, 2)
    # 1 of 16 left in the year: 60 months at most; 10 x 0.25 x 20 x 60
    assert found.lifetime_at_risk == 300_000
    past = money_of(ledger, *YEAR)
    assert (past.value_at_risk, past.lifetime_at_risk) == (None, None)


MOVED = ledger_of(
    FIRST_CHANGE,
    account(
        "acme",
        {
            LONG_AGO: known(mrr=10, owner="ada", reseller="Initech"),
            "2025-05-05": known(mrr=15, owner="bob"),
        },
        stages={"2024-11-01": LifeStage.ADOPT, "2025-03-01": LifeStage.RENEW},
        risk=0.5,
        value_at_risk=40.0,
    ),
    account(
        "globex",
        {
            LONG_AGO: known(mrr=20, owner="cyd", contract_start="2025-03-03"),
            "2025-02-01": known(mrr=20, owner="bob", contract_start="2025-03-03"),
            "2025-04-01": known(mrr=20, owner="ada", contract_start="2025-03-03"),
        },
        stages={"2025-03-03": LifeStage.LAND},
    ),
    as_of=NOW,
)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        # Acme is Ada's all year, Globex Bob's: so they were at the start and on the first day.
        (Cut.OWNER, {"ada": (1000, 1500), "bob": (0, 2000)}),
        (Cut.SALES, {"indirect": (1000, 1500), "direct": (0, 2000)}),
        (Cut.RESELLER, {"Initech": (1000, 1500), None: (0, 2000)}),
        (Cut.STAGE, {"adopt": (1000, 1500), "land": (0, 2000)}),
        (Cut.CURRENCY, {"EUR": (1000, 3500)}),
        (Cut.REGION, {None: (1000, 3500)}),
    ],
)
def test_an_account_stays_in_the_part_in_which_the_period_found_it(
    cut: Cut, expected: dict[str | None, tuple[int, int]]
) -> None:
    parts = portfolio_of(MOVED, *YEAR, cut=cut).parts
    money = {
        one.key: (one.figures.money[0].mrr_start, one.figures.money[0].mrr_end)
        for one in parts
        if one.figures.money
    }
    assert money == expected


def test_what_is_at_risk_is_the_present_owners() -> None:
    parts = portfolio_of(MOVED, "2025-01-01", "2026-06-02", cut=Cut.OWNER).parts
    at_risk = {one.key: one.figures.money[0].value_at_risk for one in parts if one.figures.money}
    assert at_risk == {"ada": 0, "bob": 4_000}


@pytest.mark.parametrize(
    ("filters", "start", "end"),
    [
        ({"owner": "ada"}, 1, 1),
        ({"owner": "bob"}, 0, 1),
        ({"owner": "bob", "sales": "indirect"}, 0, 0),
        ({"reseller": ""}, 0, 1),
        ({"owner": "nobody"}, 0, 0),
    ],
)
def test_filters_go_by_the_same_place(filters: dict[str, str], start: int, end: int) -> None:
    found = whole_of(MOVED, *YEAR, **filters).accounts
    assert (found.start, found.end) == (start, end)


def test_more_parts_than_can_be_told_are_summed() -> None:
    vendors = [
        account(f"a{n:03d}", {LONG_AGO: known(mrr=n, owner=f"o{n:03d}")}) for n in range(510)
    ]
    twice = many(1, "b", {LONG_AGO: known(mrr=1, owner="o509")})
    found = portfolio_of(ledger_of(*vendors, *twice, as_of=NOW), *YEAR, cut=Cut.OWNER)
    assert (len(found.parts), found.rest) == (500, 10)
    assert (found.parts[0].key, found.parts[1].key) == ("o509", "o000")
    assert found.others is not None
    assert found.others.accounts.start == 10
    # o499 ... o508
    assert found.others.money[0].mrr_start == 100 * sum(range(499, 509))
