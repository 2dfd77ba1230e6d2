"""Measures of a ranking and of probabilities against what happened.

`lost` is `(rows,)` of booleans with both outcomes in it; `score` `(rows,)`, higher is likelier.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import Rows
from services.scoring.domain.model import Vector

Lost: TypeAlias = NDArray[np.bool_]

BINS: Final = 10
RESAMPLES: Final = 1_000
_CELLS: Final = 2_000_000
"""Of rows x draws at once: memory, not speed."""


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


def auc_intervals(
    lost: Lost,
    scores: Mapping[str, Vector],
    account: NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """The 2.5th and 97.5th percentile of each ranking's AUC, by a bootstrap of *accounts*.

    An account's rows resemble each other, so resampling rows would flatter. All rankings are
    measured on the same draws. `account` `(rows,)`; NaN where no draw has both outcomes.
    """
    generator = np.random.default_rng(0)  # Two runs on one file say the same.
    names, index = np.unique(account, return_inverse=True)
    aucs: dict[str, list[Vector]] = {name: [] for name in scores}
    orders = {name: _order(lost, score, index) for name, score in scores.items()}
    step = max(1, _CELLS // max(len(lost), 1))
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        # How often each account was drawn: weights of its rows.
        drawn = generator.integers(0, len(names), (draws, len(names)))
        drawn += np.arange(draws)[:, None] * len(names)
        counts = np.bincount(drawn.ravel(), minlength=draws * len(names))
        weights = counts.reshape(draws, len(names)).astype(np.float64)
        for name, order in orders.items():
            aucs[name].append(_weighted_aucs(order, weights))
    return {name: _percentiles(np.concatenate(found)) for name, found in aucs.items()}


@dataclass(frozen=True, slots=True)
class _Order:
    """Rows by ascending score: whose they are, which are lost, where each distinct score starts."""

    account: NDArray[np.int64]
    lost: Vector
    starts: NDArray[np.int64]


def _order(lost: Lost, score: Vector, account: NDArray[np.int64]) -> _Order:
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return _Order(account[order], lost[order].astype(np.float64), starts)


def _weighted_aucs(order: _Order, weights: Rows) -> Vector:
    """The AUC of each draw, `(draws,)`; `weights` `(draws, accounts)`; NaN without an outcome."""
    rows = weights[:, order.account]
    positive = np.add.reduceat(rows * order.lost, order.starts, axis=1)
    negative = np.add.reduceat(rows * (1 - order.lost), order.starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    above = (positive * below).sum(axis=1)
    aucs: Vector = np.divide(above, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return aucs


def _percentiles(aucs: Vector) -> tuple[float, float]:
    known = aucs[~np.isnan(aucs)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5]).tolist()
    return low, high


def average_precision(lost: Lost, score: Vector) -> float:
    """Sum of (recall gained x precision) over the distinct scores, from the highest down."""
    hits, rows = _by_score(lost, score)
    found, taken = np.cumsum(hits), np.cumsum(rows)
    return float((hits / lost.sum() * found / taken).sum())


def lift_at(lost: Lost, score: Vector, share: float) -> float:
    """Losses among the top `share` of rows, over the base rate; ties at the cut count in part."""
    wanted = share * len(lost)
    return _hits_at_top(lost, score, wanted) / wanted / float(lost.mean())


def precision_at_capacity(
    lost: Lost, score: Vector, group: NDArray[np.int64], capacity: int
) -> float:
    """Losses among the `capacity` highest scores of each group, all groups together.

    A group is what one person can work on at a time: an owner's accounts as of one day. Ties at
    the cut count in part. `group` `(rows,)`.
    """
    hits = taken = 0.0
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        wanted = min(capacity, len(rows))
        hits += _hits_at_top(lost[rows], score[rows], wanted)
        taken += wanted
    return hits / taken


def brier(lost: Lost, probability: Vector) -> float:
    """The mean squared gap between a probability and what happened (1 lost, 0 kept)."""
    return float(np.mean((probability - lost) ** 2))


def precision_and_recall(lost: Lost, score: Vector) -> tuple[Vector, Vector]:
    """At each distinct score as a threshold, from the highest down."""
    hits, rows = _by_score(lost, score)
    found = np.cumsum(hits)
    return found / np.cumsum(rows), found / lost.sum()


def lifts(lost: Lost, score: Vector, shares: Vector) -> Vector:
    """`lift_at` each share of rows."""
    return np.array([lift_at(lost, score, share) for share in shares.tolist()])


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


def _hits_at_top(lost: Lost, score: Vector, wanted: float) -> float:
    """Losses among the `wanted` highest scores; of rows that tie at the cut, their share."""
    hits, rows = _by_score(lost, score)
    before = np.cumsum(rows) - rows
    taken = np.clip(wanted - before, 0, rows)
    return float((hits / rows * taken).sum())


def _by_score(lost: Lost, score: Vector) -> tuple[Vector, Vector]:
    """Losses and rows per distinct score, the highest first."""
    _, inverse, counts = np.unique(-score, return_inverse=True, return_counts=True)
    hits: Vector = np.bincount(inverse, weights=lost, minlength=len(counts)).astype(np.float64)
    rows: Vector = counts.astype(np.float64)
    return hits, rows
