"""The weekly look at the model in service: do accounts still look as they did, and leave as said?

What it finds is stored, for the gauges, the console and `perennial models drift`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.scoring import lifecycle, measures, model_store, training_store
from services.scoring.domain.drift import (
    AUC_MARGIN,
    PSI_LIMIT,
    PSI_WEEKS,
    RATIO_LIMITS,
    RATIO_MIN_EXPECTED,
    stability,
)
from services.scoring.domain.features import FEATURES
from services.scoring.domain.gate import MIN_LOSSES_TO_COMPARE
from services.scoring.domain.labels import definition_of, label
from services.scoring.domain.model import Model
from services.scoring.domain.usage import Floats
from services.scoring.tables import model_health
from services.scoring.training import LABELS, Month, months_of
from services.scoring.training_store import Logged

KEPT: Final = timedelta(days=3 * 365)
_QUARTER_DAYS: Final = 91
_WEEK: Final = timedelta(days=6)
"""A look within less than that of the last one is the same week's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One look at the model in service.

    `psi` by feature, empty for prior weights: there were no training rows of this vendor.
    `months` are by the day of the risk, of rows whose outcome is known. `calibration_ratio` is
    predicted / observed of the newest month with 30 losses expected. `alarms` are sentences.
    """

    version: str
    looked_at: datetime
    psi: Mapping[str, float]
    months: tuple[Month, ...]
    calibration_ratio: float | None
    quarter_auc: float | None
    gate_auc: float | None
    alarms: tuple[str, ...]

    @property
    def psi_max(self) -> float | None:
        return max(self.psi.values()) if self.psi else None

    def as_json(self) -> dict[str, object]:
        """Plain values, ready for a JSON encoder."""
        return asdict(self) | {
            "looked_at": self.looked_at.isoformat(),
            "psi_max": self.psi_max,
        }


async def look(engine: AsyncEngine, now: datetime) -> Health | None:
    """Look at the model in service and store what is found; None while there is none."""
    async with engine.connect() as connection:
        active = model_store.loaded(await model_store.read_active(connection))
        if active is None:
            return None
        rows, _ = await lifecycle.read_scored(connection)
        logged = await training_store.read_logged(connection, now)
        before = await _read_before(connection, now - _WEEK, active.version)
    health = _health(active, rows, logged, before, now)
    async with engine.begin() as connection:
        await connection.execute(
            insert(model_health).values(
                looked_at=now, version=active.version, findings=health.as_json()
            )
        )
        await connection.execute(model_health.delete().where(model_health.c.looked_at < now - KEPT))
    return health


async def read_newest(connection: AsyncConnection) -> Mapping[str, object] | None:
    """The findings of the last look, as `Health.as_json` gives them."""
    found: Mapping[str, object] | None = await connection.scalar(
        select(model_health.c.findings).order_by(model_health.c.looked_at.desc()).limit(1)
    )
    return found


async def read_history(connection: AsyncConnection, since: datetime) -> list[Mapping[str, object]]:
    """The findings since then, the oldest first: what a chart is drawn from."""
    found = await connection.execute(
        select(model_health.c.findings)
        .where(model_health.c.looked_at >= since)
        .order_by(model_health.c.looked_at)
    )
    return [row.findings for row in found]


def _health(
    active: Model, rows: Floats, logged: Logged, before: Mapping[str, float], now: datetime
) -> Health:
    psi = {
        feature.name: stability(then, rows[:, index])
        for index, (feature, then) in enumerate(zip(FEATURES, active.distributions, strict=False))
    }
    months, quarter_auc = _outcomes(active, logged)
    ratio = next(
        (_ratio(month) for month in reversed(months) if month.expected >= RATIO_MIN_EXPECTED),
        None,
    )
    gate_auc = active.metrics.get("auc", active.metrics.get("all_auc"))
    moved = [
        f"{name} is spread otherwise than in training for {PSI_WEEKS} weeks: PSI {value:.2f}"
        for name, value in psi.items()
        if value > PSI_LIMIT and before.get(name, 0.0) > PSI_LIMIT
    ]
    off = [
        f"{month.month}: {month.expected:.0f} losses expected, {month.observed} seen"
        for month in months
        if month.expected >= RATIO_MIN_EXPECTED
        and not RATIO_LIMITS[0] <= _ratio(month) <= RATIO_LIMITS[1]
    ]
    worse = (
        [f"the last quarter's AUC is {quarter_auc:.3f}; the gate measured {gate_auc:.3f}"]
        if quarter_auc is not None and gate_auc is not None and quarter_auc < gate_auc - AUC_MARGIN
        else []
    )
    return Health(
        version=active.version,
        looked_at=now,
        psi=psi,
        months=months,
        calibration_ratio=ratio,
        quarter_auc=quarter_auc,
        gate_auc=gate_auc,
        alarms=(*moved, *off, *worse),
    )


def _ratio(month: Month) -> float:
    # One loss instead of none: a ratio that JSON and a gauge can hold.
    return month.expected / max(month.observed, 1)


def _outcomes(active: Model, logged: Logged) -> tuple[tuple[Month, ...], float | None]:
    """Months of what was served and is known by now, and the last quarter's AUC."""
    found, evidence = logged.rows, logged.evidence
    by_label = {text: name for name, text in LABELS.items()}
    definition = by_label.get(active.label) or definition_of(evidence, found.account)
    labels = label(
        evidence,
        found.account,
        found.day,
        horizon_days=active.horizon_days,
        definition=definition,
    )
    same = [lifecycle.horizon_of(one) == active.horizon_days for one in found.version]
    chosen = labels.usable & ~np.isnan(found.risk) & np.array(same, np.bool_)
    day, risks, lost = found.day[chosen], found.risk[chosen], labels.lost[chosen]
    if not day.size:
        return (), None
    recent = day > day.max() - _QUARTER_DAYS
    losses = int(lost[recent].sum())
    auc = None
    if MIN_LOSSES_TO_COMPARE <= losses < recent.sum():
        auc = measures.ranking_auc(lost[recent], risks[recent])
    return months_of(day, risks, lost), auc


async def _read_before(
    connection: AsyncConnection, until: datetime, version: str
) -> Mapping[str, float]:
    """The stability indices of the week before, under the same model."""
    found = await connection.scalar(
        select(model_health.c.findings)
        .where(model_health.c.looked_at <= until, model_health.c.version == version)
        .order_by(model_health.c.looked_at.desc())
        .limit(1)
    )
    return {} if found is None else found["psi"]
