"""How far accounts have moved from those a model was fitted on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.drift import PSI_LIMIT, distribution_of, distributions_of, stability

TENTHS = np.arange(1, 101, dtype=np.float64)  # 1 to 100: each tenth holds ten.


def test_bins_are_tenths_and_one_for_what_is_missing() -> None:
    found = distribution_of(TENTHS)
    assert len(found.edges) == 9
    assert found.shares == pytest.approx([0.1] * 10 + [0.0])
    half = distribution_of(np.append(TENTHS, np.full(100, np.nan)))
    assert half.shares == pytest.approx([0.05] * 10 + [0.5])


def test_equal_values_share_a_bin() -> None:
    found = distribution_of(np.append(np.zeros(50), np.arange(1, 51)))
    assert found.edges[0] == 0.0
    assert found.shares[0] == 0.5
    assert sum(found.shares) == pytest.approx(1.0)


def test_a_feature_that_nobody_has_is_one_bin() -> None:
    found = distribution_of(np.full(5, np.nan))
    assert (found.edges, found.shares) == ((), (0.0, 1.0))
    assert stability(found, np.full(3, np.nan)) == 0.0
    assert stability(found, np.array([1.0])) > PSI_LIMIT


def test_the_same_accounts_have_not_moved() -> None:
    assert stability(distribution_of(TENTHS), TENTHS) == 0.0


def test_a_shift_is_as_large_as_its_formula_says() -> None:
    # All ten of the lowest tenth move into the highest: shares 0.1 -> 0 and 0.1 -> 0.2.
    moved = np.where(TENTHS <= 10, 95.0, TENTHS)
    # (0.2 - 0.1) ln(0.2 / 0.1) + (0.0001 - 0.1) ln(0.0001 / 0.1) = 0.0693 + 0.6901
    assert stability(distribution_of(TENTHS), moved) == pytest.approx(0.7594, abs=1e-4)


def test_nobody_says_nothing() -> None:
    assert stability(distribution_of(TENTHS), np.empty(0)) == 0.0


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=50),
    st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=50),
)
def test_an_index_is_never_negative_and_shares_sum_to_one(
    then: list[float], now: list[float]
) -> None:
    (found,) = distributions_of(np.array([then]).T)
    assert sum(found.shares) == pytest.approx(1.0)
    assert len(found.shares) == len(found.edges) + 2
    assert stability(found, np.array(now)) >= 0.0
