"""When a contract renews."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.renewal import days_to_renewal, renewal_date
from services.scoring.domain.usage import directory_of
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
    overdue = directory_of([AccountFields(contract_end=date(2026, 2, 1))])
    assert days_to_renewal(overdue, FEBRUARY_28.toordinal()).tolist() == [-27]


DATES = st.none() | st.dates(date(2023, 1, 1), date(2029, 12, 31))


@given(
    st.lists(
        st.builds(
            AccountFields,
            contract_start=DATES,
            contract_end=DATES,
            billing_period=st.sampled_from([None, "month", "month", "quarter"]),
        ),
        max_size=5,
    ),
    st.dates(date(2024, 1, 1), date(2028, 12, 31)) | st.just(date(2028, 2, 29)),
)
def test_the_renewals_of_many_are_those_of_each(fields: list[AccountFields], as_of: date) -> None:
    found = days_to_renewal(directory_of(fields), as_of.toordinal())
    each = [renewal_date(one, as_of) for one in fields]
    wanted = [np.nan if renewal is None else (renewal - as_of).days for renewal in each]
    assert np.array_equal(found, wanted, equal_nan=True)
