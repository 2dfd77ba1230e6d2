"""What can learn from rows: the model that is served, what challenges it, and what it must beat.

Each takes rows `(rows, columns)` and outcomes and returns log-odds for other rows; all of them go
through the same folds (`walkforward.py`). The one place that meets scikit-learn.
"""

from typing import Final

import numpy as np

from services.scoring.domain.features import FEATURES, Rows
from services.scoring.domain.model import Vector, weighted
from services.scoring.fitting import C, fit_signed, minimise
from services.scoring.walkforward import Lost, Predict

TREES: Final = 150
DEPTH: Final = 3
RATE: Final = 0.04
LEAF: Final = 60
L2: Final = 10.0


def signed(rows: Rows, lost: Lost) -> Predict:
    """The model that is served: a weight per feature, bound to its declared direction."""
    fit = fit_signed(rows, lost)

    def predict(tested: Rows) -> Vector:
        logits: Vector = fit.intercept + weighted(fit.weights, tested).sum(axis=1)
        return logits

    return predict


def signed_with_blocks(rows: Rows, lost: Lost) -> Predict:
    """As `signed`, with columns beyond the features: free weights, and one for being missing."""
    median = np.array([_median(column) for column in rows.T])
    filled = np.where(np.isnan(rows), median, rows)
    mean, sd = filled.mean(axis=0), filled.std(axis=0)
    sd[sd == 0] = 1.0

    def columns(some: Rows) -> Rows:
        missing = np.isnan(some)
        known = (np.where(missing, median, some) - mean) / sd
        return np.hstack([known, missing[:, len(FEATURES) :]])

    free = 2 * (rows.shape[1] - len(FEATURES))
    bounds = [(0.0, None) if f.direction > 0 else (None, 0.0) for f in FEATURES]
    solution = minimise(columns(rows), lost.astype(np.float64), [*bounds, *([(None, None)] * free)])

    def predict(tested: Rows) -> Vector:
        logits: Vector = columns(tested) @ solution[:-1] + solution[-1]
        return logits

    return predict


def free(rows: Rows, lost: Lost) -> Predict:
    """A logistic regression with no bound on any sign, on whatever columns there are; reported."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - as in `boosted`

    known = ~np.isnan(rows).all(axis=0)
    median = np.nanmedian(rows[:, known], axis=0)
    gaps = np.isnan(rows[:, known]).any(axis=0)

    def filled(new: Rows) -> Rows:
        missing = np.isnan(new[:, known])
        return np.hstack([np.where(missing, median, new[:, known]), missing[:, gaps]])

    learnt = filled(rows)
    mean, sd = learnt.mean(axis=0), learnt.std(axis=0)
    sd[sd == 0] = 1
    fit = LogisticRegression(C=C, max_iter=2_000).fit((learnt - mean) / sd, lost)
    return lambda new: np.asarray(fit.decision_function((filled(new) - mean) / sd), np.float64)


def boosted(rows: Rows, lost: Lost) -> Predict:
    """The challenger: shallow gradient boosted trees; reported, never served."""
    from sklearn.ensemble import (  # noqa: PLC0415 - serving does without scikit-learn
        HistGradientBoostingClassifier,
    )
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - comes with scikit-learn

    known = ~np.isnan(rows).all(axis=0)  # It cannot bin a column that has no value at all.
    trees = HistGradientBoostingClassifier(
        max_depth=DEPTH,
        max_iter=TREES,
        learning_rate=RATE,
        min_samples_leaf=LEAF,
        l2_regularization=L2,
        early_stopping=False,
        random_state=0,
    )
    # Threads that wait for each other on a busy machine take six times as long as one.
    with threadpool_limits(limits=1):
        trees.fit(rows[:, known], lost)

    def predict(tested: Rows) -> Vector:
        logits: Vector = np.asarray(trees.decision_function(tested[:, known]), np.float64)
        return logits

    return predict


def by_feature(rows: Rows, index: int) -> Vector:
    """One feature as a ranking, the riskier the higher; it learns nothing. `(rows,)`."""
    column = rows[:, index]
    ranking: Vector = FEATURES[index].direction * np.where(
        np.isnan(column), _median(column), column
    )
    return ranking


def _median(column: Vector) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if known.size else 0.0
