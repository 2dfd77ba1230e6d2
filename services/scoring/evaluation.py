"""How good the served model would have been: walk-forward over the years, on unseen time.

For each test year the model is fitted on snapshots whose 90 days ended before 1 January, and
ranks the snapshots of the year; all years are pooled. Beside it stand the single indicators that
a model must beat. Intervals come from a bootstrap of *accounts*: an account's snapshots resemble
each other, so resampling rows would flatter.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import Vector, sigmoid, weighted
from services.scoring.fitting import fit_signed
from services.scoring.measures import (
    Bin,
    Lost,
    average_precision,
    calibration_error,
    lift_at,
    ranking_auc,
    reliability,
)
from services.scoring.snapshots import HORIZON_DAYS, Snapshots, read_events, take_snapshots

FIRST_TEST_YEAR: Final = 2016
TEAM_USERS: Final = 3
TOP_SHARE: Final = 0.1
RESAMPLES: Final = 500
SERVED: Final = "served"

BASELINES: Final[Mapping[str, str]] = {
    "active_days_365": "active_days_365",
    "frequency": "events_90",
    "recency": "recency_days",
}
"""Single indicators by the feature they are read from; they rank, but are no probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One ranking on one slice; `auc_low`, `auc_high`: 95 %; `ece` only of probabilities."""

    rows: int
    accounts: int
    base: float
    auc: float
    auc_low: float
    auc_high: float
    average_precision: float
    lift_at_10_percent: float
    ece: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One line of the gate: what the served model must reach on the contributor data."""

    slice: str
    measure: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """`results` by slice (`all`, `team`: 3+ users, a year), then by ranking."""

    rows: int
    accounts: int
    lost: int
    tested: int
    results: Mapping[str, Mapping[str, Measured]]
    reliability: tuple[Bin, ...]
    gate: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        return all(line.passed for line in self.gate)

    def as_json(self) -> dict[str, object]:
        """Plain values, ready for a JSON encoder."""
        return asdict(self)


def evaluate_served(path: Path) -> Evaluation:
    """The walk-forward evaluation on a contributor-style CSV (see `snapshots.read_events`)."""
    return evaluate(take_snapshots(read_events(path)))


def evaluate(snapshots: Snapshots, resamples: int = RESAMPLES) -> Evaluation:
    """The walk-forward evaluation; raises ValueError where no year can be tested."""
    tested, risks = walk_forward(snapshots)
    names = [feature.name for feature in FEATURES]
    rankings = {SERVED: risks}
    for name, feature in BASELINES.items():
        index = names.index(feature)
        rankings[name] = FEATURES[index].direction * tested.rows[:, index]
    years = np.array([date.fromordinal(day).year for day in tested.day.tolist()], np.int64)
    slices = {"all": np.ones(len(risks), np.bool_), "team": tested.users_365 >= TEAM_USERS}
    slices |= {str(year): years == year for year in np.unique(years).tolist()}
    results = {
        name: {
            ranking: _measure(tested, chosen, scores, ranking, resamples)
            for ranking, scores in rankings.items()
        }
        for name, chosen in slices.items()
        if 0 < tested.lost[chosen].sum() < chosen.sum()
    }
    return Evaluation(
        rows=len(snapshots.lost),
        accounts=len(np.unique(snapshots.account)),
        lost=int(snapshots.lost.sum()),
        tested=len(risks),
        results=results,
        reliability=reliability(tested.lost, risks),
        gate=_gate(results),
    )


def walk_forward(snapshots: Snapshots) -> tuple[Snapshots, Vector]:
    """The tested snapshots and the risk that the model of their year's start gives them."""
    parts: list[Snapshots] = []
    risks: list[Vector] = []
    last_year = date.fromordinal(int(snapshots.day.max())).year if snapshots.day.size else 0
    for year in range(FIRST_TEST_YEAR, last_year + 1):
        start, end = date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()
        test = snapshots.where((snapshots.day >= start) & (snapshots.day < end))
        train = snapshots.where(snapshots.day + HORIZON_DAYS < start)
        if not len(test.lost) or not 0 < train.lost.sum() < len(train.lost):
            continue
        fit = fit_signed(train.rows, train.lost)
        parts.append(test)
        risks.append(sigmoid(fit.intercept + weighted(fit.weights, test.rows).sum(axis=1)))
    if not parts:
        raise ValueError("no year has both snapshots to test and losses before it to learn from")
    return Snapshots.concatenate(parts), np.concatenate(risks)


def _measure(
    tested: Snapshots, chosen: Lost, scores: Vector, ranking: str, resamples: int
) -> Measured:
    lost, score, account = tested.lost[chosen], scores[chosen], tested.account[chosen]
    low, high = _interval(lost, score, account, resamples)
    return Measured(
        rows=len(lost),
        accounts=len(np.unique(account)),
        base=float(lost.mean()),
        auc=ranking_auc(lost, score),
        auc_low=low,
        auc_high=high,
        average_precision=average_precision(lost, score),
        lift_at_10_percent=lift_at(lost, score, TOP_SHARE),
        ece=calibration_error(lost, score) if ranking == SERVED else None,
    )


def _interval(
    lost: Lost, score: Vector, account: NDArray[np.int64], resamples: int
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the AUC when accounts are drawn with replacement."""
    order = np.argsort(account, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(account[order])) + 1)
    generator = np.random.default_rng(0)  # Two runs on one file say the same.
    aucs = []
    for _ in range(resamples):
        drawn = generator.integers(0, len(groups), len(groups))
        rows = np.concatenate([groups[group] for group in drawn.tolist()])
        if 0 < lost[rows].sum() < len(rows):
            aucs.append(ranking_auc(lost[rows], score[rows]))
    if not aucs:
        return float("nan"), float("nan")
    low, high = np.percentile(aucs, [2.5, 97.5]).tolist()
    return low, high


def _gate(results: Mapping[str, Mapping[str, Measured]]) -> tuple[Gate, ...]:
    """The limits of scoring.md, section 7; a slice that is absent has not passed."""
    lines = []
    for name, measure, limit, at_least in (
        ("all", "auc", 0.85, True),
        ("all", "average_precision", 0.63, True),
        ("all", "lift_at_10_percent", 2.8, True),
        ("all", "ece", 0.03, False),
        ("team", "auc", 0.82, True),
        ("team", "average_precision", 0.31, True),
    ):
        served = results.get(name, {}).get(SERVED)
        value = float("nan") if served is None else float(getattr(served, measure))
        passed = value >= limit if at_least else value <= limit
        lines.append(Gate(slice=name, measure=measure, value=value, limit=limit, passed=passed))
    return tuple(lines)
