"""Measures of a ranking and of probabilities against what happened.

`lost` is `(rows,)` of booleans with both outcomes in it; `score` `(rows,)`, higher is likelier.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.model import Vector

Lost: TypeAlias = NDArray[np.bool_]

BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A tenth of the rows, by their probability: the mean predicted and what happened."""

    rows: int
    predicted: float
    observed: float


def ranking_auc(lost: Lost, score: Vector) -> float:
    """The chance that a lost row ranks above a kept one; a tie counts half (Mann-Whitney)."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(lost.sum())
    above = rank[lost].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(lost) - positives)))


def average_precision(lost: Lost, score: Vector) -> float:
    """Sum of (recall gained x precision) over the distinct scores, from the highest down."""
    hits, rows = _by_score(lost, score)
    found, taken = np.cumsum(hits), np.cumsum(rows)
    return float((hits / lost.sum() * found / taken).sum())


def lift_at(lost: Lost, score: Vector, share: float) -> float:
    """Losses among the top `share` of rows, over the base rate; ties at the cut count in part."""
    hits, rows = _by_score(lost, score)
    wanted = share * len(lost)
    before = np.cumsum(rows) - rows
    taken = np.clip(wanted - before, 0, rows)
    return float((hits / rows * taken).sum() / wanted / lost.mean())


def reliability(lost: Lost, probability: Vector) -> tuple[Bin, ...]:
    """Ten bins of equally many rows, the lowest probabilities first."""
    order = np.argsort(probability, kind="stable")
    return tuple(
        Bin(
            rows=len(rows),
            predicted=float(probability[rows].mean()),
            observed=float(lost[rows].mean()),
        )
        for rows in np.array_split(order, min(BINS, len(order)))
    )


def calibration_error(lost: Lost, probability: Vector) -> float:
    """ECE: the gaps between predicted and observed over the ten bins, weighted by their rows."""
    bins = reliability(lost, probability)
    return sum(b.rows * abs(b.predicted - b.observed) for b in bins) / len(lost)


def _by_score(lost: Lost, score: Vector) -> tuple[Vector, Vector]:
    """Losses and rows per distinct score, the highest first."""
    _, inverse, counts = np.unique(-score, return_inverse=True, return_counts=True)
    hits: Vector = np.bincount(inverse, weights=lost, minlength=len(counts)).astype(np.float64)
    rows: Vector = counts.astype(np.float64)
    return hits, rows
