"""A simulated vendor's logged rows: accounts that leave because of their use, or regardless."""

from datetime import date

import numpy as np

from services.scoring.domain.labels import (
    NO_CANCELLATIONS,
    NO_TERMS,
    NOTHING,
    Dated,
    Evidence,
    Terms,
)
from services.scoring.domain.table import COLUMNS, STATES
from services.scoring.domain.usage import Floats
from services.scoring.training import LoggedRows

FIRST = date(2022, 1, 2).toordinal()
LOOKS = 30
EVERY_DAYS = 28
END = FIRST + LOOKS * EVERY_DAYS


def vendor(
    seed: int = 1, *, effect: float = 1.0, accounts: int = 600
) -> tuple[LoggedRows, Evidence]:
    """Rows every 28 days of more than two years, and when each account left, by the directory.

    Three things that do not depend on each other drive the risk: regularity, recency and share.
    `effect` 0: none does.
    """
    generator = np.random.default_rng(seed)
    state = generator.normal(0, 1, (3, accounts))
    start = generator.integers(-8, LOOKS - 2, accounts)  # Newcomers take the place of leavers.
    left = np.full(accounts, np.iinfo(np.int64).max)
    owners, days, tables = [], [], []
    for look in range(LOOKS):
        day = FIRST + look * EVERY_DAYS
        here = np.flatnonzero((start <= look) & (left > day))
        # They wander, so that those who stay are not the ones who would never leave.
        state = 0.8 * state + 0.6 * generator.normal(0, 1, state.shape)
        now = state[:, here]
        hazard = 1 / (1 + np.exp(3.6 - effect * now.sum(axis=0)))
        leaves = generator.random(len(here)) < hazard
        left[here[leaves]] = day + generator.integers(1, EVERY_DAYS + 1, int(leaves.sum()))
        owners.append(here)
        days.append(np.full(len(here), day))
        tables.append(_table(now, generator))
    owner, looked_on = np.concatenate(owners), np.concatenate(days)
    gone = left < np.iinfo(np.int64).max
    logged = LoggedRows(
        names=tuple(f"account-{number:04}" for number in range(accounts)),
        account=owner,
        day=looked_on,
        table=np.concatenate(tables),
        risk=np.full(len(looked_on), np.nan),
        version=("",) * len(looked_on),
    )
    everybody = np.arange(accounts)
    evidence = Evidence(
        known_until=END + 200,
        active=Dated(owner=owner, day=looked_on),
        churned=Dated(owner=np.flatnonzero(gone), day=left[gone]),
        # A contract that runs on: the directory has dates of all.
        terms=Terms(
            owner=everybody, known_on=np.full(accounts, FIRST), end=np.full(accounts, END + 999)
        ),
        cancellations=NO_CANCELLATIONS,
        outcomes_churned=NOTHING,
        outcomes_saved=NOTHING,
    )
    return logged, evidence


def without_contracts(evidence: Evidence) -> Evidence:
    """The same, but the directory has no dates."""
    return Evidence(
        known_until=evidence.known_until,
        active=evidence.active,
        churned=NOTHING,
        terms=NO_TERMS,
        cancellations=NO_CANCELLATIONS,
        outcomes_churned=NOTHING,
        outcomes_saved=NOTHING,
    )


def _table(drivers: Floats, generator: np.random.Generator) -> Floats:
    regularity, recency, share = drivers
    count = drivers.shape[1]
    values = np.full((count, len(COLUMNS)), np.nan)

    def put(name: str, column: object) -> None:
        values[:, COLUMNS.index(name)] = column

    put("state", float(STATES.index("scored")))
    put("recency_days", np.expm1(np.clip(2 + recency, 0, 4)).round())
    active = np.clip(0.4 - 0.12 * regularity, 0.01, 1)
    for window in (28, 90, 180, 365):
        put(f"active_days_{window}", (active * window).round())
    for window in (28, 90):
        put(f"events_{window}", generator.poisson(40, count))
    for window in (28, 90, 365):
        put(f"active_users_{window}", generator.integers(1, 9, count))
    put("share_of_known_users", np.clip(0.6 - 0.2 * share, 0, 1))
    put("stickiness", generator.uniform(0, 1, count))
    put("champion_share", generator.uniform(0.2, 1, count))
    put("breadth_365", generator.integers(1, 9, count))
    put("tenure_days", generator.integers(60, 900, count))
    put("mean_gap_days", generator.uniform(1, 9, count))
    put("days_to_renewal", generator.integers(1, 365, count))
    return values
