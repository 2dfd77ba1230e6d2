"""The fit: a logistic regression whose weights are bound to their features' declared directions.

The one place that meets scipy, which serving does not need.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import FEATURES, Rows
from services.scoring.domain.model import Vector, Weight, sigmoid

C: Final = 0.02
"""Inverse strength of the L2 penalty on standardised features, as scikit-learn defines it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Weights in the order of `FEATURES` and the intercept."""

    weights: tuple[Weight, ...]
    intercept: float


def fit_signed(rows: Rows, lost: NDArray[np.bool_]) -> Fit:
    """Minimises |w|^2 / 2 + C x the log loss (L-BFGS-B); the intercept bears no penalty.

    A free fit lets correlated windows trade signs until *rising* use raises the risk: absurd as a
    reason, and worth 0.004 AUC.

    `rows` `(rows, features)`, `lost` `(rows,)`; raises ValueError unless both outcomes occur.
    """
    if len(rows) != len(lost) or not 0 < lost.sum() < len(lost):
        raise ValueError("a fit needs accounts that were lost and accounts that were not")
    scales = tuple(_scale(feature.name, rows[:, i]) for i, feature in enumerate(FEATURES))
    median = np.array([scale.median for scale in scales])
    mean = np.array([scale.mean for scale in scales])
    sd = np.array([scale.sd for scale in scales])
    standardised = (np.where(np.isnan(rows), median, rows) - mean) / sd
    solution = _minimise(standardised, lost.astype(np.float64))
    weights = tuple(
        Weight(
            feature=scale.feature,
            mean=scale.mean,
            sd=scale.sd,
            median=scale.median,
            weight=float(weight) + 0.0,  # A weight held at its bound may be -0.0.
        )
        for scale, weight in zip(scales, solution[:-1], strict=True)
    )
    return Fit(weights=weights, intercept=float(solution[-1]))


def _scale(name: str, values: Vector) -> Weight:
    known = values[~np.isnan(values)]
    median = float(np.median(known)) if known.size else 0.0
    filled = np.where(np.isnan(values), median, values)
    sd = float(filled.std())
    return Weight(
        feature=name,
        mean=float(filled.mean()),
        sd=sd if sd > 0 else 1.0,
        median=median,
        weight=0.0,
    )


def _minimise(standardised: Rows, lost: Vector) -> Vector:
    from scipy.optimize import minimize  # noqa: PLC0415 - serving does without scipy

    def loss(parameters: Vector) -> tuple[float, Vector]:
        weights, intercept = parameters[:-1], parameters[-1]
        logits = standardised @ weights + intercept
        # log(1 + exp(x)) without overflow.
        log_loss = np.logaddexp(0.0, logits) - lost * logits
        residual = C * (sigmoid(logits) - lost)
        gradient = np.append(weights + standardised.T @ residual, residual.sum())
        return float(0.5 * weights @ weights + C * log_loss.sum()), gradient

    bounds = [(0.0, None) if f.direction > 0 else (None, 0.0) for f in FEATURES]
    result = minimize(
        loss,
        np.zeros(len(FEATURES) + 1),
        jac=True,
        method="L-BFGS-B",
        bounds=[*bounds, (None, None)],
        options={"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-8},
    )
    if not result.success:
        raise ArithmeticError(f"the fit did not converge: {result.message}")
    solution: Vector = np.asarray(result.x, np.float64)
    return solution
