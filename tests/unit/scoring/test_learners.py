"""What can learn from rows, beside the model that is served."""

import numpy as np
import pytest

from services.scoring import learners, measures
from services.scoring.domain.features import FEATURES, Rows
from services.scoring.walkforward import Lost

WIDTH = len(FEATURES)
STICKINESS = [feature.name for feature in FEATURES].index("stickiness")


def rows_and_losses(seed: int = 0, count: int = 3_000) -> tuple[Rows, Lost]:
    """Stickiness, and a further column that is often missing, drive the losses."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(0, 1, (count, WIDTH + 1))
    odds = -1 - rows[:, STICKINESS] + 1.5 * rows[:, WIDTH]
    lost = generator.random(count) < 1 / (1 + np.exp(-odds))
    rows[generator.random(count) < 0.2, WIDTH] = np.nan
    return rows, lost


def auc(learn: object, width: int) -> float:
    rows, lost = rows_and_losses(1)
    others, their_losses = rows_and_losses(2)
    predict = learn(rows[:, :width], lost)  # type: ignore[operator]
    return measures.ranking_auc(their_losses, predict(others[:, :width]))


def test_further_columns_help_where_they_tell_something() -> None:
    assert auc(learners.signed_with_blocks, WIDTH + 1) > auc(learners.signed, WIDTH) + 0.1


def test_without_further_columns_it_is_the_served_model() -> None:
    rows, lost = rows_and_losses()
    served, wide = (
        learn(rows[:, :WIDTH], lost)(rows[:, :WIDTH])
        for learn in (learners.signed, learners.signed_with_blocks)
    )
    assert np.allclose(served, wide, atol=1e-4)


def test_boosted_trees_take_columns_that_nobody_has() -> None:
    rows, lost = rows_and_losses()
    rows[:, 3] = np.nan
    assert np.isfinite(learners.boosted(rows, lost)(rows)).all()
    assert auc(learners.boosted, WIDTH + 1) > 0.8


@pytest.mark.parametrize(
    ("name", "expected"),
    [("recency_days", [1.0, 2.0, 3.0]), ("stickiness", [-1.0, -2.0, -3.0])],
)
def test_a_single_indicator_ranks_the_riskier_higher(name: str, expected: list[float]) -> None:
    index = [feature.name for feature in FEATURES].index(name)
    rows = np.zeros((3, WIDTH))
    rows[:, index] = [1.0, np.nan, 3.0]  # Missing: the middle of 1 and 3.
    assert learners.by_feature(rows, index).tolist() == expected
