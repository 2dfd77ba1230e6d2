"""Accounting: the same figures whether they were kept or not."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from services.scoring.accounting import Accounting
from services.scoring.domain.cuts import Cut
from services.scoring.domain.periods import latest_months
from tests.unit.scoring.ledgers import LedgerAccount, ledger_of
from tests.unit.scoring.portfolios import FIRST_CHANGE, LONG_AGO, many, period

NOW = "2026-03-05T12:00"
TODAY = date(2026, 3, 5)


def known(**fields: Any) -> dict[str, Any]:
    return {"status": "active", "contract_start": "2020-02-01", "currency": "EUR"} | fields


STAY = many(12, "stay", {LONG_AGO: known(mrr=10)})
LEFT = many(
    3, "left", {LONG_AGO: known(mrr=10)}, {"2026-01-10T12:00": known(churned_at="2026-01-10")}
)


def lost_by_month(accounting: Accounting, *accounts: LedgerAccount) -> list[int]:
    ledger = ledger_of(FIRST_CHANGE, *accounts, as_of=NOW)
    return [accounting.figures(ledger, one, {}).accounts.lost for one in latest_months(TODAY, 3)]


def test_a_closed_month_is_kept_while_its_books_are_the_same() -> None:
    accounting = Accounting()
    ledger = ledger_of(FIRST_CHANGE, *STAY, *LEFT, as_of=NOW)
    january, march = period("2026-01-01", "2026-02-01"), period("2026-03-01", "2026-04-01")
    first = accounting.figures(ledger, january, {})
    again = ledger_of(FIRST_CHANGE, *STAY, *LEFT, as_of="2026-03-06")
    assert accounting.figures(again, january, {}) is first
    assert accounting.figures(again, march, {}) is not accounting.figures(again, march, {})


def test_filters_are_kept_apart() -> None:
    accounting = Accounting()
    ledger = ledger_of(FIRST_CHANGE, *STAY, *LEFT, as_of=NOW)
    january = period("2026-01-01", "2026-02-01")
    assert accounting.figures(ledger, january, {}).accounts.lost == 3
    assert accounting.figures(ledger, january, {Cut.PLAN: "gold"}).accounts.lost == 0


def test_what_was_erased_is_forgotten() -> None:
    accounting = Accounting()
    assert lost_by_month(accounting, *STAY, *LEFT) == [3, 0, 0]
    assert lost_by_month(accounting, *STAY, *LEFT[:1]) == [1, 0, 0]


def test_what_came_in_time_but_was_read_late_counts() -> None:
    accounting = Accounting()
    not_yet = many(3, "left", {LONG_AGO: known(mrr=10)})
    assert lost_by_month(accounting, *STAY, *not_yet) == [0, 0, 0]
    assert lost_by_month(accounting, *STAY, *LEFT) == [3, 0, 0]


def test_a_first_load_that_comes_late_counts_for_the_past() -> None:
    """Before anything has changed, every account that comes is of the directory's beginning."""
    accounting = Accounting()
    young = many(3, "young", {"2026-03-01": known(contract_start="2026-01-15")})
    january = period("2026-01-01", "2026-02-01")
    before = ledger_of(*STAY, as_of=NOW)
    after = ledger_of(*STAY, *young, as_of=NOW)
    assert accounting.figures(before, january, {}).accounts.new == 0
    assert accounting.figures(after, january, {}).accounts.new == 3


def test_the_books_are_those_of_the_ledger_that_is_asked_of() -> None:
    accounting = Accounting()
    one = ledger_of(FIRST_CHANGE, *STAY, as_of=NOW)
    other = ledger_of(FIRST_CHANGE, *STAY[:5], as_of=NOW)
    whole = period("2026-01-01", "2026-03-06")
    for ledger, customers in ((one, 12), (other, 5), (one, 12)):
        found = accounting.portfolio(ledger, whole, Cut.WHOLE, {}).whole
        assert found.accounts.end == customers
    # An account that only events know changes nothing but their number.
    more = replace(one, accounts=(*one.accounts, "~~unrecorded"), titles=(*one.titles, "~~"))
    today = replace(
        more,
        today=replace(
            more.today,
            **{
                name: _one_more(getattr(more.today, name))
                for name in ("state", "risk", "band", "value_at_risk", "stage", "stage_since")
            },
        ),
    )
    assert accounting.portfolio(today, whole, Cut.WHOLE, {}).whole.accounts.end == 12


def _one_more(column: Any) -> Any:
    return np.append(column, column[-1:])
