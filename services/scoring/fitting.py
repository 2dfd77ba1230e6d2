"""The fit: a logistic regression whose weights are bound to their features' declared directions,
and the whole model that comes of it.

The one place that meets scipy, which serving does not need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.drift import distributions_of
from services.scoring.domain.features import FEATURES, Rows, schema_hash
from services.scoring.domain.model import (
    Calibration,
    Kind,
    Model,
    Training,
    Vector,
    Weight,
    fingerprint,
    sigmoid,
    with_golden,
)

C: Final = 0.02
"""Inverse strength of the L2 penalty on standardised features, as scikit-learn defines it."""


_NOT_MEASURED: Final[Mapping[str, float]] = MappingProxyType({})


_FLAT: Final = 1e-4
"""A slope of the loss (a sum over all rows, times C) that is none."""


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
    bounds = [(0.0, None) if f.direction > 0 else (None, 0.0) for f in FEATURES]
    solution = minimise(standardised, lost.astype(np.float64), bounds)
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


def fit_model(
    rows: Rows,
    lost: NDArray[np.bool_],
    day: NDArray[np.int64],
    account: NDArray[np.int64],
    *,
    version: str,
    kind: Kind,
    label: str,
    horizon_days: int,
    created_at: datetime,
    calibration: Calibration | None = None,
    metrics: Mapping[str, float] = _NOT_MEASURED,
    challenger: Mapping[str, float] = _NOT_MEASURED,
) -> Model:
    """A model on all the rows `(rows, features)`, in the order of time, its golden vectors in it.

    `calibration` is folded into weights and intercept: logit = slope x (intercept + terms) + shift.
    """
    fit, fold = fit_signed(rows, lost), calibration or Calibration()
    model = Model(
        version=version,
        kind=kind,
        label=label,
        horizon_days=horizon_days,
        created_at=created_at,
        base_rate=float(lost.mean()),
        intercept=fold.slope * fit.intercept + fold.intercept,
        weights=tuple(replace(one, weight=fold.slope * one.weight) for one in fit.weights),
        calibration=fold,
        schema_sha256=schema_hash(),
        training=Training(
            first=date.fromordinal(int(day.min())),
            last=date.fromordinal(int(day.max())),
            rows=len(lost),
            lost=int(lost.sum()),
            accounts=len(np.unique(account)),
            data_sha256=fingerprint(rows, lost, day),
        ),
        metrics=dict(metrics),
        challenger=dict(challenger),
        distributions=distributions_of(rows) if kind == "own" else (),
        golden=(),
    )
    return with_golden(model)


def minimise(
    standardised: Rows, lost: Vector, bounds: Sequence[tuple[float | None, float | None]]
) -> Vector:
    """The weights, each within its bounds, and the intercept, `(columns + 1,)`."""
    from scipy.optimize import minimize  # noqa: PLC0415 - serving does without scipy

    def loss(parameters: Vector) -> tuple[float, Vector]:
        weights, intercept = parameters[:-1], parameters[-1]
        logits = standardised @ weights + intercept
        # log(1 + exp(x)) without overflow.
        log_loss = np.logaddexp(0.0, logits) - lost * logits
        residual = C * (sigmoid(logits) - lost)
        gradient = np.append(weights + standardised.T @ residual, residual.sum())
        return float(0.5 * weights @ weights + C * log_loss.sum()), gradient

    limits = [*bounds, (None, None)]
    result = minimize(
        loss,
        np.zeros(len(limits)),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-8},
    )
    solution: Vector = np.asarray(result.x, np.float64)
    # Where rounding hides any further descent the search gives up: it is at the bottom then.
    if not result.success and _steepest(solution, loss(solution)[1], limits) > _FLAT:
        raise ArithmeticError(f"the fit did not converge: {result.message}")
    return solution


def _steepest(
    at: Vector, gradient: Vector, limits: Sequence[tuple[float | None, float | None]]
) -> float:
    """The largest slope along which a parameter may still move."""
    slopes = [
        abs(slope)
        for value, slope, (low, high) in zip(at.tolist(), gradient.tolist(), limits, strict=True)
        if not (low is not None and value <= low and slope > 0)
        and not (high is not None and value >= high and slope < 0)
    ]
    return float(max(slopes, default=0.0))


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
