"""When a contract renews."""

from datetime import date

import pytest

from services.scoring.domain.renewal import days_to_renewal, renewal_date
from shared.messages import AccountFields

FEBRUARY_28 = date(2026, 2, 28)


@pytest.mark.parametrize(
    ("fields", "renewal"),
    [
        pytest.param(AccountFields(), None, id="nothing is known"),
        pytest.param(
            AccountFields(contract_end=date(2026, 6, 30), billing_period="year"),
            date(2026, 6, 30),
            id="a contract ends",
        ),
        pytest.param(
            AccountFields(contract_end=date(2026, 2, 1), billing_period="year"),
            date(2026, 2, 1),
            id="an overdue one stays overdue",
        ),
        pytest.param(
            AccountFields(contract_end=date(2026, 2, 1), billing_period="month"),
            date(2026, 3, 1),
            id="a monthly one rolls on",
        ),
        pytest.param(
            AccountFields(contract_start=date(2024, 8, 15), billing_period="month"),
            date(2026, 3, 15),
            id="a monthly one without an end renews on its day",
        ),
        pytest.param(
            AccountFields(contract_start=date(2025, 1, 31), billing_period="month"),
            date(2026, 2, 28),
            id="a month too short renews on its last day",
        ),
        pytest.param(
            AccountFields(contract_start=date(2026, 5, 1), billing_period="month"),
            None,
            id="not begun yet",
        ),
    ],
)
def test_the_renewal_of(fields: AccountFields, renewal: date | None) -> None:
    assert renewal_date(fields, FEBRUARY_28) == renewal


def test_an_overdue_renewal_counts_below_zero() -> None:
    overdue = AccountFields(contract_end=date(2026, 2, 1))
    assert days_to_renewal(overdue, FEBRUARY_28) == -27
