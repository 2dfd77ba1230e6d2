"""Whether accounts still look like those that a model was fitted on, and leave as often as it said.

The population stability index compares shares of accounts per bin, then and now:
PSI = sum of (now - then) x ln(now / then); above 0.25 the population is another one (Siddiqi 2006,
"Credit Risk Scorecards", chapter 10).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.domain.features import Row, Rows

PSI_LIMIT: Final = 0.25
PSI_WEEKS: Final = 2
RATIO_LIMITS: Final = (0.75, 1.33)
RATIO_MIN_EXPECTED: Final = 30
AUC_MARGIN: Final = 0.05

_BINS: Final = 10
_SMALLEST_SHARE: Final = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """One feature's values in bins: at most an edge, between two, above the last, and missing.

    `edges` ascend; `shares` are one per bin, so two more, and sum to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


def distribution_of(values: Row) -> Distribution:
    """Tenths of the known values; where many are equal, fewer and wider bins."""
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS)) if known.size else known
    return Distribution(edges=tuple(edges.tolist()), shares=tuple(_shares(edges, values).tolist()))


def distributions_of(rows: Rows) -> tuple[Distribution, ...]:
    """One per feature of `rows` `(rows, features)`."""
    return tuple(distribution_of(rows[:, index]) for index in range(rows.shape[1]))


def stability(then: Distribution, values: Row) -> float:
    """The PSI of a feature's values now `(rows,)`; 0 says that nothing has moved."""
    if not values.size:
        return 0.0
    before = np.maximum(np.array(then.shares), _SMALLEST_SHARE)
    now = np.maximum(_shares(np.array(then.edges), values), _SMALLEST_SHARE)
    return float(((now - before) * np.log(now / before)).sum())


def _shares(edges: Row, values: Row) -> Row:
    known = values[~np.isnan(values)]
    bins = np.searchsorted(edges, known, side="left")
    counts = np.bincount(bins, minlength=len(edges) + 1).astype(np.float64)
    shares: Row = np.append(counts, len(values) - len(known)) / max(len(values), 1)
    return shares
