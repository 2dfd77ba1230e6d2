"""The descent ends at the lowest point, also where rows say next to nothing."""

import numpy as np
import pytest

from services.scoring.domain.features import FEATURES
from services.scoring.fitting import _steepest, fit_signed


@pytest.mark.parametrize("rows", [60, 2_000, 8_000])
def test_outcomes_that_nothing_explains_end_the_descent_all_the_same(rows: int) -> None:
    for seed in range(12):
        generator = np.random.default_rng(seed)
        # Windows within each other, as features are: nearly collinear.
        strength = generator.normal(0, 1, (rows, 1))
        values = strength + generator.normal(0, 0.05, (rows, len(FEATURES)))
        lost = generator.random(rows) < 0.25
        fit = fit_signed(values, lost)
        assert abs(1 / (1 + np.exp(-fit.intercept)) - lost.mean()) < 0.02


def test_a_slope_into_a_bound_is_none() -> None:
    at, gradient = np.array([0.0, 0.0, 0.5]), np.array([3.0, -2.0, 0.1])
    # The first may not fall below 0, the second not rise above it: only the third may move.
    limits = [(0.0, None), (None, 0.0), (None, None)]
    assert _steepest(at, gradient, limits) == pytest.approx(0.1)
    # The other way round both may move.
    assert _steepest(at, -gradient, limits) == pytest.approx(3.0)
