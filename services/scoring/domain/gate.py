"""Whether a trained model may be served: line by line, on rows it had not seen.

A model must beat what a person could do with a single indicator, must not rank worse than the one
in service, and must mean what it says: 10 % is one in ten.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ABOVE_BEST_INDICATOR: Final = 0.01
BELOW_ACTIVE: Final = 0.005
ECE_LIMIT: Final = 0.03
MEAN_WITHIN: Final = 0.20
MIN_LOSSES_TO_COMPARE: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well risks fitted what happened; `ece` and `brier` are of probabilities."""

    rows: int
    lost: int
    base: float
    mean_risk: float
    auc: float
    average_precision: float
    lift_at_10_percent: float
    brier: float
    ece: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One condition; `passed` also where there was nothing to compare, as `note` then says."""

    name: str
    value: float | None
    limit: float | None
    passed: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The candidate and the model in service on the rows that neither was fitted on."""

    version: str
    candidate: Quality
    active: Quality


def judge(
    served: Quality, indicators: Mapping[str, float], comparison: Comparison | None
) -> tuple[Line, ...]:
    """The lines of the gate.

    `served` is the walk-forward's, `indicators` the average precision of each single indicator on
    the same rows; without a `comparison` no model can be compared.
    """
    best = max(indicators, key=lambda name: indicators[name])
    lines = [
        _at_least(
            "average precision above the best single indicator",
            served.average_precision,
            indicators[best] + ABOVE_BEST_INDICATOR,
            note=f"{best}: {indicators[best]:.3f}",
        ),
        *_compared(comparison),
        _at_most("calibration error", served.ece, ECE_LIMIT),
        _at_most(
            "mean risk off the share that was lost",
            abs(served.mean_risk / served.base - 1),
            MEAN_WITHIN,
        ),
    ]
    return tuple(lines)


def _compared(comparison: Comparison | None) -> list[Line]:
    names = ("AUC beside the model in service", "average precision beside the model in service")
    if comparison is None:
        note = f"fewer than {MIN_LOSSES_TO_COMPARE} losses that it was not fitted on"
        return [Line(name=name, value=None, limit=None, passed=True, note=note) for name in names]
    ours, theirs = comparison.candidate, comparison.active
    pairs = ((ours.auc, theirs.auc), (ours.average_precision, theirs.average_precision))
    return [
        _at_least(name, our, their - BELOW_ACTIVE, note=f"{comparison.version}: {their:.3f}")
        for name, (our, their) in zip(names, pairs, strict=True)
    ]


def _at_least(name: str, value: float, limit: float, *, note: str) -> Line:
    return Line(name=name, value=value, limit=limit, passed=value >= limit, note=note)


def _at_most(name: str, value: float, limit: float) -> Line:
    return Line(name=name, value=value, limit=limit, passed=value <= limit)
