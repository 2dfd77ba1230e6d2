"""What was found: every ranking on every slice, the gate, calibration, alerts.

`evaluate` is arithmetic on snapshots; where they come from does not matter to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import Model, Vector
from services.scoring.evaluation.alerts import Alerts, alerts, band_rule, fixed_rule
from services.scoring.evaluation.event_file import UnusableFile
from services.scoring.evaluation.protocol import Plan
from services.scoring.evaluation.rankings import FREE, HISTGB, PRIOR, SERVED, Ranked, Ranking, rank
from services.scoring.evaluation.snapshots import Snapshots
from services.scoring.fitting import fit_signed
from services.scoring.measures import (
    RESAMPLES,
    Bin,
    Lost,
    auc_intervals,
    average_precision,
    brier,
    calibration_error,
    lift_at,
    precision_at_capacity,
    ranking_auc,
    reliability,
)
from shared.messages import AccountFields

ALL: Final = "all"
USERS3: Final = "users3"
TOP_SHARE: Final = 0.1
CAPACITY: Final = 10
"""Accounts that one owner can work on between two looks."""
SLICE_RESAMPLES: Final = 200
MOST_SLICES_OF_A_KIND: Final = 8

MODELS: Final = (SERVED, FREE, PRIOR, HISTGB, "active_days_365", "frequency", "recency", "fixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One ranking on one slice; `auc_low`, `auc_high`: 95 %; `ece`, `brier` of probabilities only.

    None: there is nothing to measure, as no row was lost, or all were.
    """

    rows: int
    accounts: int
    base: float | None
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    ap: float | None = None
    lift10: float | None = None
    precision_at_capacity: float | None = None
    brier: float | None = None
    ece: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine:
    """What the served model must reach; `value` None: it could not be measured."""

    slice: str
    measure: str
    value: float | None
    limit: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Calibration over time: what was predicted of a month's looks, and what happened."""

    month: str
    rows: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureWeight:
    feature: str
    family: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """`measured` by slice, then by ranking; periods are slices too, by their first day.

    `snapshots`, `tested` and `ranked` are the rows behind it.
    """

    plan: Plan
    rows: int
    accounts: int
    lost: int
    measured: Mapping[str, Mapping[str, Measured]]
    slices: tuple[str, ...]
    periods: tuple[str, ...]
    gate: tuple[GateLine, ...]
    bins: tuple[Bin, ...]
    months: tuple[Month, ...]
    alerts: Mapping[str, tuple[Alerts, ...]]
    weights: tuple[FeatureWeight, ...]
    snapshots: Snapshots
    tested: Snapshots
    ranked: Ranked

    @property
    def passed(self) -> bool:
        return all(line.passed for line in self.gate)


def evaluate(
    snapshots: Snapshots,
    plan: Plan,
    prior: Model | None,
    *,
    main: Mapping[str, str],
    active: Mapping[str, NDArray[np.int64]],
    directory: Mapping[str, AccountFields],
    last: date,
    yearly_churn: float,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Everything; raises UnusableFile where nothing can be tested."""
    if not len(snapshots):
        raise UnusableFile(
            "no account takes part at any look: none has three active days, 28 days of tenure and"
            " use within 90 days; --eligible any takes every account that was ever active"
            if plan.eligible == "scored"
            else "no account was active before any look"
        )
    folds = plan.folds(snapshots.day, snapshots.lost)
    if not folds:
        raise UnusableFile(
            f"nothing can be tested: of {len(snapshots)} rows {int(snapshots.lost.sum())} were"
            f" lost, and no period has rows to test and both outcomes, {plan.horizon_days} days"
            " closed, before it to learn from"
        )
    ranked = rank(
        snapshots, folds, prior, main, horizon_days=plan.horizon_days, yearly_churn=yearly_churn
    )
    tested = snapshots.where(ranked.tested)
    groups = _capacity_groups(tested, directory)
    slices = _slices(tested, main, directory)
    periods = _periods(ranked)
    measured = {
        name: measure(
            tested.lost[chosen],
            {model: _part(ranking, chosen) for model, ranking in ranked.rankings.items()},
            tested.account[chosen],
            groups[chosen],
            resamples=resamples if name in {ALL, USERS3} else min(resamples, SLICE_RESAMPLES),
        )
        for name, chosen in (slices | periods).items()
    }
    risk = ranked.rankings[SERVED].score
    return Evaluation(
        plan=plan,
        rows=len(snapshots),
        accounts=len(np.unique(snapshots.account)),
        lost=int(snapshots.lost.sum()),
        measured=measured,
        slices=tuple(slices),
        periods=tuple(periods),
        gate=gate(measured, plan),
        bins=reliability(tested.lost, risk),
        months=_months(tested, risk),
        alerts={
            name: tuple(
                alerts(tested.where(chosen), risk[chosen], rule, active, last)
                for rule in (
                    fixed_rule(int(chosen.sum())),
                    band_rule(_base_rates(snapshots, ranked, plan)[chosen]),
                )
            )
            for name, chosen in slices.items()
            # Looks that are named lie as far apart as they like: no clock of a team's.
            if name in {ALL, USERS3} and chosen.any() and not plan.apart
        },
        weights=_weights(snapshots),
        snapshots=snapshots,
        tested=tested,
        ranked=ranked,
    )


def measure(
    lost: Lost,
    rankings: Mapping[str, Ranking],
    account: NDArray[np.int64],
    group: NDArray[np.int64],
    *,
    resamples: int,
) -> dict[str, Measured]:
    """Each ranking on the same rows; `group`: whose work and when, see CAPACITY."""
    rows, accounts = len(lost), len(np.unique(account))
    base = float(lost.mean()) if rows else None
    if not 0 < lost.sum() < rows:
        return {name: Measured(rows=rows, accounts=accounts, base=base) for name in rankings}
    intervals = auc_intervals(
        lost, {name: one.score for name, one in rankings.items()}, account, resamples=resamples
    )
    found = {}
    for name, one in rankings.items():
        low, high = intervals[name]
        found[name] = Measured(
            rows=rows,
            accounts=accounts,
            base=base,
            auc=ranking_auc(lost, one.score),
            auc_low=None if np.isnan(low) else low,
            auc_high=None if np.isnan(high) else high,
            ap=average_precision(lost, one.score),
            lift10=lift_at(lost, one.score, TOP_SHARE),
            precision_at_capacity=precision_at_capacity(lost, one.score, group, CAPACITY),
            brier=brier(lost, one.score) if one.is_probability else None,
            ece=calibration_error(lost, one.score) if one.is_probability else None,
        )
    return found


def gate(measured: Mapping[str, Mapping[str, Measured]], plan: Plan) -> tuple[GateLine, ...]:
    """The limits of scoring.md, section 7.

    Precision and lift mean something at comparable base rates only: where every account takes part,
    sparse use as it is, the AUC alone is asked. Without accounts of three users and more, nothing
    is asked of these.
    """
    wanted: list[tuple[str, str, float, bool]] = [(ALL, "auc", 0.80, True)]
    if plan.eligible == "scored":
        wanted = [
            (ALL, "auc", 0.85, True),
            (ALL, "ap", 0.63, True),
            (ALL, "lift10", 2.8, True),
            (ALL, "ece", 0.03, False),
        ]
        if measured[USERS3][SERVED].rows:
            wanted += [(USERS3, "auc", 0.82, True), (USERS3, "ap", 0.31, True)]
    lines = []
    for name, what, limit, at_least in wanted:
        value: float | None = getattr(measured[name][SERVED], what)
        passed = value is not None and (value >= limit if at_least else value <= limit)
        lines.append(GateLine(slice=name, measure=what, value=value, limit=limit, passed=passed))
    return tuple(lines)


def _part(ranking: Ranking, chosen: Lost) -> Ranking:
    return Ranking(score=ranking.score[chosen], is_probability=ranking.is_probability)


def _slices(
    tested: Snapshots, main: Mapping[str, str], directory: Mapping[str, AccountFields]
) -> dict[str, Lost]:
    """Which tested rows each slice holds; `all` and `users3` are always there."""
    users = np.nan_to_num(tested.column("active_users_365"))
    tenure = tested.column("tenure_days")
    slices = {
        ALL: np.ones(len(tested), np.bool_),
        USERS3: users >= 3,
        "users 1-2": (users >= 1) & (users <= 2),
        "users 3-9": (users >= 3) & (users <= 9),
        "users 10+": users >= 10,
        "tenure under 180 days": tenure < 180,
        "tenure 180 to 730 days": (tenure >= 180) & (tenure < 730),
        "tenure from 730 days": tenure >= 730,
        "scored": tested.column("state") == 1,
    }
    kinds: dict[str, Mapping[str, str | None]] = {
        "product": main,
        "plan": {name: fields.plan for name, fields in directory.items()},
        "segment": {name: fields.segment for name, fields in directory.items()},
    }
    for kind, values in kinds.items():
        slices |= _by_value(tested, kind, values)
    return {
        name: chosen
        for name, chosen in slices.items()
        if name in {ALL, USERS3} or 0 < chosen.sum() < len(tested)
    }


def _by_value(tested: Snapshots, kind: str, values: Mapping[str, str | None]) -> dict[str, Lost]:
    of_account = np.array([values.get(name) or "" for name in tested.names], np.str_)
    of_row = of_account[tested.account]
    known = sorted(set(of_row.tolist()) - {""})
    if len(known) > MOST_SLICES_OF_A_KIND:
        return {}
    return {f"{kind} {value}": of_row == value for value in known}


def _periods(ranked: Ranked) -> dict[str, Lost]:
    return {
        date.fromordinal(start).isoformat(): ranked.period == start
        for start in np.unique(ranked.period).tolist()
    }


def _capacity_groups(
    tested: Snapshots, directory: Mapping[str, AccountFields]
) -> NDArray[np.int64]:
    """One number per owner and look, `(tested,)`; accounts without an owner share one."""
    owners = [
        fields.owner or "" if (fields := directory.get(name)) else "" for name in tested.names
    ]
    _, number = np.unique(np.array(owners, np.str_), return_inverse=True)
    _, groups = np.unique(
        np.column_stack([number[tested.account], tested.day]), axis=0, return_inverse=True
    )
    return groups.reshape(-1).astype(np.int64)


def _months(tested: Snapshots, risk: Vector) -> tuple[Month, ...]:
    months = np.array([date.fromordinal(day).isoformat()[:7] for day in tested.day.tolist()])
    return tuple(
        Month(
            month=str(month),
            rows=int((months == month).sum()),
            predicted=float(risk[months == month].mean()),
            observed=float(tested.lost[months == month].mean()),
        )
        for month in np.unique(months)
    )


def _base_rates(snapshots: Snapshots, ranked: Ranked, plan: Plan) -> Vector:
    """The base rate of what each tested row's model had learnt from, `(tested,)`."""
    closed = snapshots.day + plan.horizon_days
    bases = {
        start: float(snapshots.lost[closed <= start].mean())
        for start in np.unique(ranked.period).tolist()
    }
    return np.array([bases[start] for start in ranked.period.tolist()])


def _weights(snapshots: Snapshots) -> tuple[FeatureWeight, ...]:
    """Of the model that all rows give, as a vendor would serve it today."""
    fit = fit_signed(snapshots.features, snapshots.lost)
    return tuple(
        FeatureWeight(feature=feature.name, family=feature.family, weight=one.weight)
        for feature, one in zip(FEATURES, fit.weights, strict=True)
    )


def ordered(measured: Mapping[str, Measured]) -> Sequence[tuple[str, Measured]]:
    """The rankings in the order in which tables show them."""
    return [(name, measured[name]) for name in MODELS if name in measured]
