"""Values that are valid by default; a test states what matters."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from services.scoring.domain.features import FEATURES, schema_hash
from services.scoring.domain.indicators import Indicators, indicators_of, measure
from services.scoring.domain.model import Model, Training, Weight, with_golden
from services.scoring.domain.table import IndicatorTable
from services.scoring.domain.usage import History, directory_of, usage_of
from shared.messages import AccountFields, UsageEvent

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
AS_OF = date(2026, 2, 28)


def usage_event(**changes: Any) -> UsageEvent:
    event = UsageEvent(
        id="1",
        source="app",
        account="acme",
        user="u1:ada",
        type="login",
        occurred_at=NOW,
        received_at=NOW,
    )
    return msgspec.structs.replace(event, **changes)


def history(ages: Iterable[int], **changes: Any) -> History:
    """Days by their age: 0 is the last complete day, -1 today; one event of one user on each."""
    days = sorted(AS_OF.toordinal() - age for age in ages)
    one = History(
        days=days,
        events=[1] * len(days),
        milliseconds=[0] * len(days),
        users=[(1,)] * len(days),
        features=[()] * len(days),
    )
    return replace(one, **changes)


def table_of(
    histories: Sequence[History], fields: AccountFields | None = None, now: datetime = NOW
) -> IndicatorTable:
    """The indicators of the histories, whose accounts all have the same fields."""
    directory = directory_of([fields or AccountFields()] * len(histories))
    return measure(usage_of(histories), directory, now)


def measured(one: History, fields: AccountFields | None = None) -> Indicators:
    return indicators_of(table_of([one], fields), 0)


def indicators(**changes: Any) -> Indicators:
    """Those of an account that came every second day for a year."""
    return replace(measured(history(range(0, 365, 2))), **changes)


def model(**changes: Any) -> Model:
    """Each feature weighs 0.1 in its direction; mean 1, deviation 0.5, median 1."""
    weights = tuple(
        Weight(feature=f.name, mean=1.0, sd=0.5, median=1.0, weight=0.1 * f.direction)
        for f in FEATURES
    )
    one = Model(
        version="test-1",
        label="no activity in the horizon",
        horizon_days=90,
        kind="prior",
        created_at=NOW,
        base_rate=0.25,
        intercept=-1.0,
        weights=weights,
        schema_sha256=schema_hash(),
        training=Training(
            first=date(2020, 1, 1),
            last=date(2021, 1, 1),
            rows=100,
            lost=25,
            accounts=10,
            data_sha256="0" * 64,
        ),
        metrics={"all_auc": 0.85},
        challenger={},
        golden=(),
    )
    return with_golden(replace(one, **changes))


def rows(count: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Feature rows `(count, features)` around the mean of `model`."""
    return np.random.default_rng(seed).normal(1.0, 0.5, (count, len(FEATURES)))


def days_later(days: float) -> datetime:
    return NOW + timedelta(days=days)
