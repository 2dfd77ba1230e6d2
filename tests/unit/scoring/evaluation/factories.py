"""Snapshots made up: accounts lost at random, or by how regularly they are used."""

from datetime import date

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain import features
from services.scoring.domain.table import COLUMNS, STATES, IndicatorTable
from services.scoring.evaluation.protocol import Plan
from services.scoring.evaluation.snapshots import Snapshots

FIRST = date(2014, 1, 1)
LAST = date(2020, 1, 1)


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "days": (FIRST, LAST),
        "horizon_days": 90,
        "eligible": "scored",
        "first_test": None,
        "apart": False,
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


def snapshots(
    seed: int = 0, *, use_matters: bool = True, accounts: int = 200, rows: int = 25
) -> Snapshots:
    """Six years of looks every 28 days, at `rows` of the `accounts` each; a third is lost."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(FIRST.toordinal(), LAST.toordinal(), 28), rows)
    count = len(day)
    account = generator.integers(0, accounts, count)
    strength = np.clip(generator.normal(0, 1, accounts)[account], -2, 2)
    active = np.rint(90 * (strength + 2.5) / 5)
    odds = -2.0 * strength if use_matters else np.zeros(count)
    table = np.full((count, len(COLUMNS)), np.nan)

    def put(name: str, values: NDArray[np.generic] | float) -> None:
        table[:, COLUMNS.index(name)] = values

    put("state", STATES.index("scored"))
    put("recency_days", generator.integers(0, 60, count))
    put("tenure_days", generator.integers(28, 2_000, count))
    put("active_days_ever", active * 5)
    for window in (7, 28, 90, 180, 365):
        put(f"events_{window}", np.rint(3 * active * window / 90))
        put(f"active_days_{window}", np.minimum(np.rint(active * window / 90), window))
        put(f"active_users_{window}", generator.integers(1, 6, count))
        put(f"breadth_{window}", generator.integers(1, 4, count))
    for name in ("share_of_known_users", "stickiness", "champion_share"):
        put(name, generator.random(count))
    put("mean_gap_days", 90 / (active + 1))
    put("p95_gap_days", 200 / (active + 1))
    return Snapshots(
        table=table,
        features=features.rows(IndicatorTable(date.min, table)),
        lost=generator.random(count) < 1 / (1 + np.exp(1.0 - odds)),
        day=day,
        account=account,
        names=tuple(f"account-{number}" for number in range(accounts)),
    )


def days_of(snapshots: Snapshots) -> dict[str, NDArray[np.int64]]:
    """Active days that end with each account's last look."""
    return {
        name: np.array(
            [day - 1 for day in np.unique(snapshots.day[snapshots.account == number]).tolist()],
            np.int64,
        )
        for number, name in enumerate(snapshots.names)
    }
