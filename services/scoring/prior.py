"""Prior weights: the model that serves until a vendor has losses of its own to learn from.

Fitted on public events of companies that contribute to open source, a stand-in for the use of a
product. What leaves here are coefficients, means, counts and measures: nothing of any account.
"""

from datetime import datetime
from pathlib import Path
from typing import Final

from services.scoring.domain.model import Model, dump, load
from services.scoring.evaluation.rankings import SERVED
from services.scoring.evaluation.results import ALL, USERS3
from services.scoring.evaluation.runs import Report
from services.scoring.fitting import fit_model

VERSION: Final = "prior-1"
SILENCE: Final = "no activity in the horizon"

_MEASURES: Final = ("rows", "base", "auc", "ap", "lift10", "ece")


def fit_prior(report: Report, now: datetime) -> Model:
    """Prior weights on all the rows that an evaluation has replayed; the measures are those of its
    walk-forward, on periods the fits had not seen.
    """
    rows, measured = report.found.snapshots, report.found.measured
    metrics = {
        f"{name}_{measure}": round(float(value), 4)
        for name in (ALL, USERS3)
        for measure in _MEASURES
        if (value := getattr(measured[name][SERVED], measure)) is not None
    }
    return fit_model(
        rows.features,
        rows.lost,
        rows.day,
        rows.account,
        version=VERSION,
        kind="prior",
        label=SILENCE,
        horizon_days=report.found.plan.horizon_days,
        created_at=now,
        metrics=metrics,
    )


def write(model: Model, path: Path) -> None:
    """The model's file, in one step: a reader sees the old one or the new one."""
    content = dump(model)
    load(content)  # Raises ModelRejected here rather than in every process that would serve it.
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
