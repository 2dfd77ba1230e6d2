"""What each model and each simple rule says of the tested rows: the higher, the likelier lost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring import learners
from services.scoring.domain.features import Rows
from services.scoring.domain.model import (
    Model,
    Vector,
    fingerprint,
    risk,
    standardise_to,
)
from services.scoring.evaluation.snapshots import Snapshots
from services.scoring.fitting import fit_signed
from services.scoring.walkforward import Fold, Tested, calibrated, walk_forward

SERVED: Final = "served"
FREE: Final = "free"
PRIOR: Final = "prior"
HISTGB: Final = "histgb"

_LOGS: Final = (
    "recency_days", "tenure_days", "active_days_ever", "mean_gap_days", "p95_gap_days",
    "events_7", "events_28", "events_90", "events_180", "events_365",
    "active_users_7", "active_users_28", "active_users_90", "active_users_180", "active_users_365",
    "active_days_28", "active_days_365",
    "breadth_28", "breadth_90", "breadth_180", "breadth_365",
)  # fmt: skip
_SHARES: Final = (
    "active_days_7", "active_days_28", "active_days_90", "active_days_180", "active_days_365",
    "share_of_known_users", "stickiness", "champion_share",
)  # fmt: skip
_TRENDS: Final = ((7, 28), (28, 90), (28, 180), (90, 365))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """`score` `(tested,)`; only a probability can be right or wrong by itself."""

    score: Vector
    is_probability: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """`tested` indexes the snapshots; each ranking is parallel to it."""

    tested: NDArray[np.int64]
    period: NDArray[np.int64]
    """When the row's period began, an ordinal."""
    rankings: Mapping[str, Ranking]
    prior_crossed: bool
    """The prior was fitted on this very file: tested are weights that are not, see `_crossed`."""


def rank(
    snapshots: Snapshots,
    folds: tuple[Fold, ...],
    prior: Model | None,
    main: Mapping[str, str],
    *,
    horizon_days: int,
    yearly_churn: float,
) -> Ranked:
    """All rankings of the rows that `folds` test; `main` is each account's main feature.

    Without a `prior` its ranking is absent.
    """
    served = walk_forward(snapshots.features, snapshots.lost, learners.signed, folds)
    free = walk_forward(wide(snapshots), snapshots.lost, learners.free, folds)
    boosted = walk_forward(snapshots.features, snapshots.lost, learners.boosted, folds)
    tested = served.index
    rankings = {
        SERVED: _as_served(served, snapshots, horizon_days),
        FREE: _as_served(free, snapshots, horizon_days),
    }
    groups = _groups(snapshots, main)
    crossed = prior is not None and _is_the_priors(snapshots, prior) and len(np.unique(groups)) > 1
    if prior is not None:
        risks = (
            _crossed(snapshots, prior, groups, yearly_churn)
            if crossed
            else risk(standardise_to(prior, snapshots.features, yearly_churn), snapshots.features)
        )
        rankings[PRIOR] = Ranking(score=risks[tested], is_probability=True)
    rankings[HISTGB] = _as_served(boosted, snapshots, horizon_days)
    rows = snapshots.where(tested)
    simple = {
        "active_days_365": -rows.column("active_days_365"),
        "frequency": -rows.column("events_90"),
        "recency": rows.column("recency_days"),
        "fixed": fixed_formula(rows),
    }
    rankings |= {name: Ranking(score=score, is_probability=False) for name, score in simple.items()}
    return Ranked(tested=tested, period=served.start, rankings=rankings, prior_crossed=crossed)


def wide(snapshots: Snapshots) -> Rows:
    """Everything that use says, all windows and how they compare, `(rows, columns)`."""
    columns = [np.log1p(snapshots.column(name)) for name in _LOGS]
    columns += [snapshots.column(name) for name in _SHARES]
    for short, long in _TRENDS:
        now = snapshots.column(f"events_{short}") / short
        before = snapshots.column(f"events_{long}") / long
        columns.append(np.log1p(now) - np.log1p(before))
    return np.column_stack(columns)


def fixed_formula(snapshots: Snapshots) -> Vector:
    """The points that a vendor might think of, 0 to 100: 40 for users who stay away (users of 28
    days among those of 365), 30 for days of silence (of 90), 30 for falling use (28 against 180).
    """
    present = snapshots.column("share_of_known_users")
    events_28, events_180 = snapshots.column("events_28"), snapshots.column("events_180")
    pace = np.divide(
        events_28 / 28, events_180 / 180, out=np.zeros(len(snapshots)), where=events_180 > 0
    )
    silent = np.minimum(snapshots.column("recency_days") / 90, 1)
    away = 1 - np.where(np.isnan(present), 1, present)
    points: Vector = 40 * away + 30 * silent + 30 * (1 - np.minimum(pace, 1))
    return points


def _as_served(tested: Tested, snapshots: Snapshots, horizon_days: int) -> Ranking:
    risks = calibrated(tested, snapshots.lost, snapshots.day, horizon_days=horizon_days)
    return Ranking(score=risks, is_probability=True)


def _is_the_priors(snapshots: Snapshots, prior: Model) -> bool:
    """Whether the prior's weights were fitted on these very rows."""
    learnt = prior.training
    counts = (len(snapshots), int(snapshots.lost.sum()), len(np.unique(snapshots.account)))
    return counts == (learnt.rows, learnt.lost, learnt.accounts) or learnt.data_sha256 == (
        fingerprint(snapshots.features, snapshots.lost, snapshots.day)
    )


def _groups(snapshots: Snapshots, main: Mapping[str, str]) -> NDArray[np.int64]:
    """The main feature of each row's account, as a number, `(rows,)`."""
    features = sorted({"", *main.values()})
    numbers = np.array([features.index(main.get(name, "")) for name in snapshots.names], np.int64)
    return numbers[snapshots.account]


def _crossed(
    snapshots: Snapshots, prior: Model, groups: NDArray[np.int64], yearly_churn: float
) -> Vector:
    """Risks by prior weights that never saw the account's community, `(rows,)`.

    Each group's weights are fitted on all the others, then standardised by what is usual in the
    whole file, of which no label is needed: what a vendor with such accounts gets from the prior
    that is shipped. (Standardised by each group alone, groups of different base rates would be
    set to one mean risk, and nobody could rank them together.)
    """
    risks = np.full(len(snapshots), float(snapshots.lost.mean()))
    for group in np.unique(groups).tolist():
        here = groups == group
        others = snapshots.lost[~here]
        if not 0 < others.sum() < len(others):
            continue
        fit = fit_signed(snapshots.features[~here], others)
        foreign = replace(
            prior, weights=fit.weights, intercept=fit.intercept, base_rate=float(others.mean())
        )
        usual = standardise_to(foreign, snapshots.features, yearly_churn)
        risks[here] = risk(usual, snapshots.features[here])
    return risks
