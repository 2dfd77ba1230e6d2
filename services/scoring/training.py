"""Prior weights: the model that serves until a vendor has losses of its own to learn from.

Fitted on public events of companies that contribute to open source, a stand-in for the use of a
product. What leaves here are coefficients, means, counts and measures: nothing of any account.
"""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from services.scoring.domain.features import schema_hash
from services.scoring.domain.model import Model, Training, dump, load, with_golden
from services.scoring.evaluation import SERVED, evaluate
from services.scoring.fitting import fit_signed
from services.scoring.snapshots import HORIZON_DAYS, Snapshots, read_events, take_snapshots

SILENCE: Final = "no activity in the horizon"


def fit_prior(path: Path) -> Model:
    """Prior weights from a contributor-style CSV (see `snapshots.read_events`), on all its
    snapshots; the measures are those of the walk-forward, on years the fits had not seen.
    """
    snapshots = take_snapshots(read_events(path))
    measured = evaluate(snapshots).results
    metrics = {
        f"{slice_name}_{measure}": round(float(getattr(measured[slice_name][SERVED], measure)), 4)
        for slice_name in ("all", "team")
        if slice_name in measured
        for measure in ("rows", "base", "auc", "average_precision", "lift_at_10_percent", "ece")
    }
    return replace(fit_model(snapshots, version="prior-1", prior=True), metrics=metrics)


def fit_model(snapshots: Snapshots, *, version: str, prior: bool) -> Model:
    """A model on all the snapshots, its golden vectors in it."""
    fit = fit_signed(snapshots.rows, snapshots.lost)
    model = Model(
        version=version,
        label=SILENCE,
        horizon_days=HORIZON_DAYS,
        prior=prior,
        base_rate=float(snapshots.lost.mean()),
        intercept=fit.intercept,
        weights=fit.weights,
        schema_sha256=schema_hash(),
        training=Training(
            first=date.fromordinal(int(snapshots.day.min())),
            last=date.fromordinal(int(snapshots.day.max())),
            rows=len(snapshots.lost),
            lost=int(snapshots.lost.sum()),
            accounts=len(np.unique(snapshots.account)),
        ),
        standardised_on=0,
        metrics={},
        golden=(),
    )
    return with_golden(model)


def write(model: Model, path: Path) -> None:
    """The model's file, in one step: a reader sees the old one or the new one."""
    content = dump(model)
    load(content)  # Raises ModelRejected here rather than in every process that would serve it.
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
