"""`perennial train`: from logged rows and labels to a model that has been measured.

Every figure is of a walk-forward: a period is ranked by what was learnt before it began. The model
itself is fitted on all rows, its calibration being that of the walk-forward.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Final

import numpy as np

from services.scoring import learners, measures
from services.scoring.domain import features, gate
from services.scoring.domain.features import FEATURES, Rows
from services.scoring.domain.gate import Comparison, Line, Quality
from services.scoring.domain.labels import (
    Definition,
    Evidence,
    Labels,
    Rule,
    dated_share,
    definition_of,
    label,
)
from services.scoring.domain.model import Model, Vector, risk, sigmoid
from services.scoring.domain.table import COLUMNS, IndicatorTable
from services.scoring.domain.usage import Floats, Integers
from services.scoring.fitting import fit_model
from services.scoring.measures import Bin
from services.scoring.walkforward import (
    Fold,
    Lost,
    calibrated,
    calibration_of,
    folds,
    walk_forward,
)
from shared.errors import PerennialError

HORIZONS: Final = (28, 90, 180)
MIN_LOST_ACCOUNTS: Final = 100
CLEAR_WIN: Final = 0.01
SHUFFLES: Final = 3
TOP_SHARE: Final = 0.1

BLOCKS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "contract": ("days_to_renewal", "contract_days"),
        "time spent": ("seconds_28", "seconds_90", "seconds_per_user_day"),
        "support": ("tickets_28", "tickets_180", "tickets_open", "tickets_28_per_10_users"),
    }
)
"""Columns beyond the features, reported with and without; the served set stays what it is."""

_BLOCK_KNOWN_SHARE = 0.2

LABELS: Final[Mapping[Definition, str]] = MappingProxyType(
    {
        "contract": "left by the directory's dates, a cancellation or an outcome",
        "silence": "no activity in the horizon, or left by date, cancellation or outcome",
    }
)

OnProgress = Callable[[str], None]


class NotEnoughToLearnFrom(PerennialError):
    """Too few losses, or too short a time: there is no model to be had yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRows:
    """Rows as they were logged, in the order of time, then account; the arrays are parallel.

    `table` `(rows, columns of domain/table.py)`, `day` the last complete day that a row saw (an
    ordinal), `account` the index in `names`, `risk` as the model of `version` gave it then, NaN
    where none was given.
    """

    names: tuple[str, ...]
    account: Integers
    day: Integers
    table: Floats
    risk: Vector
    version: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one definition of a loss makes of the rows."""

    rows: int
    lost: int
    accounts: int
    lost_accounts: int
    by_rule: Mapping[str, int]
    open: int
    gone: int
    treated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The risk that was given to a month's rows, summed, and how many were lost."""

    month: str
    rows: int
    expected: float
    observed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The served features with and without further columns, free in sign."""

    known: float
    auc: float
    average_precision: float
    auc_with: float
    average_precision_with: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is said of a training; plain values, ready for `asdict`."""

    version: str
    horizon_days: int
    definition: Definition
    dated_share: float
    definitions: Mapping[Definition, Counted]
    periods: tuple[str, ...]
    served: Quality
    challenger: Quality
    indicators: Mapping[str, float]
    shuffled_auc: float
    blocks: Mapping[str, Block]
    reliability: tuple[Bin, ...]
    months: tuple[Month, ...]
    comparison: Comparison | None
    gate: tuple[Line, ...]
    advice: str = ""

    @property
    def passed(self) -> bool:
        return all(line.passed for line in self.gate)

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"passed": self.passed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """The rows that may teach, with their outcomes; parallel, in the order of time."""

    rows: Rows
    table: Floats
    lost: Lost
    day: Integers
    account: Integers


def train(
    logged: LoggedRows,
    evidence: Evidence,
    *,
    horizon_days: int,
    version: str,
    now: datetime,
    definition: Definition | None = None,
    active: Model | None = None,
    previous: Model | None = None,
    on_progress: OnProgress = lambda _: None,
) -> tuple[Model, Report]:
    """A model on all that may teach, and what it was measured to be worth.

    `active` is the model in service, for the gate; `previous` the last own one, for the advice.
    Raises NotEnoughToLearnFrom below 100 lost accounts or without a period to test.
    """
    chosen = definition or definition_of(evidence, logged.account)
    found: dict[Definition, Labels] = {
        one: label(evidence, logged.account, logged.day, horizon_days=horizon_days, definition=one)
        for one in ("contract", "silence")
    }
    counted = {one: _counted(labels, logged.account) for one, labels in found.items()}
    if counted[chosen].lost_accounts < MIN_LOST_ACCOUNTS:
        raise NotEnoughToLearnFrom(
            f"{counted[chosen].lost_accounts} accounts were lost in what is logged;"
            f" a model needs {MIN_LOST_ACCOUNTS}"
        )
    taught = taught_rows(logged, found[chosen])
    periods = folds(taught.day, taught.lost, horizon_days=horizon_days)
    if not periods:
        raise NotEnoughToLearnFrom(
            "what is logged spans no calendar period with losses known before it began"
        )
    on_progress("walk-forward")
    tested = walk_forward(taught.rows, taught.lost, learners.signed, periods)
    risks = calibrated(tested, taught.lost, taught.day, horizon_days=horizon_days)
    lost = taught.lost[tested.index]
    if not 0 < lost.sum() < len(lost):
        raise NotEnoughToLearnFrom("in the periods that can be tested all or none were lost")
    served = quality(lost, risks)
    on_progress("challenger")
    against = walk_forward(taught.rows, taught.lost, learners.boosted, periods)
    challenger = quality(lost, sigmoid(against.logit))
    indicators = {
        feature.name: measures.average_precision(
            lost, learners.by_feature(taught.rows[tested.index], index)
        )
        for index, feature in enumerate(FEATURES)
    }
    on_progress("shuffled labels")
    shuffled = _shuffled_auc(taught, periods)
    on_progress("blocks")
    blocks = _blocks(taught, periods, served_logit=tested.logit, lost=lost)
    comparison = _comparison(taught, tested.index, risks, active)
    on_progress("the fit on all rows")
    model = fit_model(
        taught.rows,
        taught.lost,
        taught.day,
        taught.account,
        version=version,
        kind="own",
        label=LABELS[chosen],
        horizon_days=horizon_days,
        created_at=now,
        calibration=calibration_of(tested.logit, lost),
        metrics=_rounded(served),
        challenger=_rounded(challenger),
    )
    report = Report(
        version=version,
        horizon_days=horizon_days,
        definition=chosen,
        dated_share=dated_share(evidence, logged.account),
        definitions=counted,
        periods=tuple(
            f"{date.fromordinal(fold.start)} to {date.fromordinal(fold.end - 1)}"
            for fold in periods
        ),
        served=served,
        challenger=challenger,
        indicators=indicators,
        shuffled_auc=shuffled,
        blocks=blocks,
        reliability=measures.reliability(lost, risks),
        months=months_of(taught.day[tested.index], risks, lost),
        comparison=comparison,
        gate=gate.judge(served, indicators, comparison),
        advice=_advice(served, challenger, previous),
    )
    return model, report


def taught_rows(logged: LoggedRows, labels: Labels) -> Taught:
    """The rows that may teach."""
    usable = labels.usable
    table = logged.table[usable]
    return Taught(
        rows=features.rows(as_table(table)),
        table=table,
        lost=labels.lost[usable],
        day=logged.day[usable],
        account=logged.account[usable],
    )


def as_table(values: Floats) -> IndicatorTable:
    """Rows of many days as functions of one day take them, where the day does not matter."""
    return IndicatorTable(date.min, values)


def quality(lost: Lost, risks: Vector) -> Quality:
    """The measures of probabilities; both outcomes must occur."""
    return Quality(
        rows=len(lost),
        lost=int(lost.sum()),
        base=float(lost.mean()),
        mean_risk=float(risks.mean()),
        auc=measures.ranking_auc(lost, risks),
        average_precision=measures.average_precision(lost, risks),
        lift_at_10_percent=measures.lift_at(lost, risks, TOP_SHARE),
        brier=float(((risks - lost) ** 2).mean()),
        ece=measures.calibration_error(lost, risks),
    )


def months_of(day: Integers, risks: Vector, lost: Lost) -> tuple[Month, ...]:
    """Expected and observed losses of the rows of each month."""
    epoch = (day - date(1970, 1, 1).toordinal()).astype("datetime64[D]")
    months = epoch.astype("datetime64[M]")
    return tuple(
        Month(
            month=str(month),
            rows=int((months == month).sum()),
            expected=float(risks[months == month].sum()),
            observed=int(lost[months == month].sum()),
        )
        for month in np.unique(months)
    )


def _counted(labels: Labels, account: Integers) -> Counted:
    usable, lost = labels.usable, labels.lost & labels.usable
    return Counted(
        rows=int(usable.sum()),
        lost=int(lost.sum()),
        accounts=len(np.unique(account[usable])),
        lost_accounts=len(np.unique(account[lost])),
        by_rule={
            rule.name.lower(): int((labels.rule[usable] == rule).sum())
            for rule in Rule
            if rule is not Rule.NONE
        },
        open=int((~labels.closed).sum()),
        gone=int((labels.closed & labels.gone).sum()),
        treated=int((labels.closed & ~labels.gone & labels.treated).sum()),
    )


def _shuffled_auc(taught: Taught, periods: tuple[Fold, ...]) -> float:
    """The AUC when outcomes are dealt out by chance: far from a half, something leaks."""
    generator = np.random.default_rng(0)
    aucs = []
    for _ in range(SHUFFLES):
        dealt = generator.permutation(taught.lost)
        try:
            tested = walk_forward(taught.rows, dealt, learners.signed, periods)
        except ValueError:  # Chance dealt a fold no loss.
            continue
        happened = dealt[tested.index]
        if 0 < happened.sum() < len(happened):
            aucs.append(measures.ranking_auc(happened, tested.logit))
    return float(np.mean(aucs)) if aucs else float("nan")


def _blocks(
    taught: Taught, periods: tuple[Fold, ...], *, served_logit: Vector, lost: Lost
) -> dict[str, Block]:
    found = {}
    for name, columns in BLOCKS.items():
        extra = taught.table[:, [COLUMNS.index(column) for column in columns]]
        known = float((~np.isnan(extra)).any(axis=1).mean())
        if known < _BLOCK_KNOWN_SHARE:
            continue
        wide = np.hstack([taught.rows, extra])
        tested = walk_forward(wide, taught.lost, learners.signed_with_blocks, periods)
        found[name] = Block(
            known=known,
            auc=measures.ranking_auc(lost, served_logit),
            average_precision=measures.average_precision(lost, served_logit),
            auc_with=measures.ranking_auc(lost, tested.logit),
            average_precision_with=measures.average_precision(lost, tested.logit),
        )
    return found


def _comparison(
    taught: Taught, index: Integers, risks: Vector, active: Model | None
) -> Comparison | None:
    """Both models on tested rows that the active one was not fitted on: else it would be graded on
    what it knows by heart. Prior weights have seen none of this vendor's.
    """
    if active is None:
        return None
    seen_until = 0 if active.kind == "prior" else active.training.last.toordinal()
    unseen = taught.day[index] > seen_until
    lost = taught.lost[index][unseen]
    if lost.sum() < gate.MIN_LOSSES_TO_COMPARE or lost.all():
        return None
    theirs = risk(active, taught.rows[index[unseen]])
    return Comparison(
        version=active.version,
        candidate=quality(lost, risks[unseen]),
        active=quality(lost, theirs),
    )


def _rounded(measured: Quality) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in asdict(measured).items()}


def _advice(served: Quality, challenger: Quality, previous: Model | None) -> str:
    """Two clear wins of the challenger in a row ask for interactions."""
    if challenger.auc - served.auc < CLEAR_WIN:
        return ""
    won = f"gradient boosting ranks better by {challenger.auc - served.auc:.3f} AUC"
    before = 0.0
    if previous is not None:
        before = previous.challenger.get("auc", 0.0) - previous.metrics.get("auc", 0.0)
    if before < CLEAR_WIN:
        return f"{won}; should the next training say so too, add interactions"
    return f"{won}, and did the last time: add interactions"
