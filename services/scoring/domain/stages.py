"""Where each account stands on its way: trial, land, adopt, expand, renew, lost.

By rules on dates, milestones and use alone, of all accounts at once; of two that hold, the one that
is named first in `stages` counts. The sweep writes down where it changes.
"""

from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.ledger import LifeStage
from services.scoring.domain.table import IndicatorTable
from services.scoring.domain.usage import STATUSES, Directory, Floats, Integers

LAND_DAYS: Final = 60
RENEW_DAYS: Final = 120
RETURN_DAYS: Final = 30
"""Use so long after it has left says that an account is back, whatever the directory forgot."""

_FIRST_YEAR: Final = 365
_TRIAL: Final = STATUSES.index("trial")
_CHURNED: Final = STATUSES.index("churned")
_DAY: Final = 86_400_000_000  # microseconds
_EPOCH: Final = date(1970, 1, 1).toordinal()


def stages(table: IndicatorTable, directory: Directory, expanding: NDArray[np.bool_]) -> Integers:
    """The `LifeStage` of each account `(accounts,)` as of the table's day.

    `expanding`: its flag `expansion_ready` is up. *Lost*: churned, or its day of leaving is over.
    *Renew*: older than 60 days, and the contract ends within 120, or has ended and nobody said what
    became of it; one by the month never. *Land*: until a first milestone, at most 60 days.
    """
    as_of = table.as_of.toordinal()
    age = _age(table, directory, as_of)
    left = directory.contract_end - as_of
    is_old = age >= LAND_DAYS
    reached = np.nan_to_num(table.column("milestones"))
    # Who has neither a contract nor ever used the product has not landed.
    lands = (~is_old | np.isnan(age)) & (reached < 1)
    return np.select(
        [
            _is_lost(table, directory, as_of),
            directory.status == _TRIAL,
            is_old & (left <= RENEW_DAYS) & ~directory.monthly,
            lands,
            expanding,
        ],
        [
            int(LifeStage.LOST),
            int(LifeStage.TRIAL),
            int(LifeStage.RENEW),
            int(LifeStage.LAND),
            int(LifeStage.EXPAND),
        ],
        int(LifeStage.ADOPT),
    )


def since(
    stage: Integers, table: IndicatorTable, directory: Directory, before: Integers, now: int
) -> Integers:
    """Since when each account is at its stage (epoch microseconds), where that has changed.

    `before`: the stage that was stored, 0: none. A change is as of `now`; who is looked at for the
    first time has been there since the day that the rules name, if they name one.
    """
    start, end = directory.contract_start, directory.contract_end
    is_young = table.as_of.toordinal() - start < _FIRST_YEAR
    began: Floats = np.select(
        [
            stage == LifeStage.LOST,
            stage == LifeStage.RENEW,
            (stage == LifeStage.TRIAL) | (stage == LifeStage.LAND),
            # Later there may have been a renewal in between.
            (stage == LifeStage.ADOPT) & is_young,
        ],
        [directory.churned_at, end - RENEW_DAYS, start, start + LAND_DAYS],
        np.nan,
    )
    at = np.full(len(stage), now)
    dated = (before == 0) & ~np.isnan(began)
    at[dated] = np.minimum((began[dated].astype(np.int64) - _EPOCH) * _DAY, now)
    return at


def _age(table: IndicatorTable, directory: Directory, as_of: int) -> Floats:
    """Days since the contract's start, else since the first use; NaN where there is neither."""
    start = directory.contract_start
    return np.where(np.isnan(start), table.column("tenure_days"), as_of - start)


def _is_lost(table: IndicatorTable, directory: Directory, as_of: int) -> NDArray[np.bool_]:
    gone = as_of - directory.churned_at
    is_back = gone - table.column("recency_days") > RETURN_DAYS
    lost: NDArray[np.bool_] = (directory.status == _CHURNED) | ((gone >= 0) & ~is_back)
    return lost
