"""The features: indicators as the model eats them, in one declared order.

Serving and training both come through `rows`. The definitions are hashed into every model file;
a model fitted on other definitions is refused.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.table import IndicatorTable

Rows: TypeAlias = NDArray[np.float64]
"""Features of accounts, `(accounts, features)`; NaN is "not known"."""

Row: TypeAlias = NDArray[np.float64]
"""Features of one account, `(features,)`."""

Transform: TypeAlias = Literal["identity", "log1p", "per_window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDefinition:
    """One feature: `name` is the column of the indicators it is made from.

    `direction` says whether more of it raises (+1) or lowers (-1) the risk; the fit is bound to
    it. `unit` is that of the indicator, before the transform.
    """

    name: str
    family: str
    definition: str
    transform: Transform
    direction: Literal[-1, 1]
    unit: str
    window_days: int | None


def _active_days(window: int) -> FeatureDefinition:
    return FeatureDefinition(
        name=f"active_days_{window}",
        family="regularity",
        definition=f"distinct days with activity in {window} days / {window}",
        transform="per_window",
        direction=-1,
        unit="days",
        window_days=window,
    )


def _events(window: int) -> FeatureDefinition:
    return FeatureDefinition(
        name=f"events_{window}",
        family="rate",
        definition=f"activity events in {window} days",
        transform="log1p",
        direction=-1,
        unit="events",
        window_days=window,
    )


def _users(window: int) -> FeatureDefinition:
    return FeatureDefinition(
        name=f"active_users_{window}",
        family="users",
        definition=f"distinct users active in {window} days",
        transform="log1p",
        direction=-1,
        unit="users",
        window_days=window,
    )


FEATURES: Final = (
    FeatureDefinition(
        name="recency_days",
        family="recency",
        definition="days from the last active day to the last complete day",
        transform="log1p",
        direction=1,
        unit="days",
        window_days=None,
    ),
    _active_days(28),
    _active_days(90),
    _active_days(180),
    _active_days(365),
    _events(28),
    _events(90),
    _users(28),
    _users(90),
    _users(365),
    FeatureDefinition(
        name="share_of_known_users",
        family="users",
        definition="users active in 28 days / users active in 365 days",
        transform="identity",
        direction=-1,
        unit="share",
        window_days=28,
    ),
    FeatureDefinition(
        name="stickiness",
        family="stickiness",
        definition="user-days in 28 days / (28 x users active in 28 days)",
        transform="identity",
        direction=-1,
        unit="share",
        window_days=28,
    ),
    FeatureDefinition(
        name="champion_share",
        family="champion",
        definition="largest share of one user in the user-days of 90 days",
        transform="identity",
        direction=1,
        unit="share",
        window_days=90,
    ),
    FeatureDefinition(
        name="breadth_365",
        family="breadth",
        definition="distinct product features used in 365 days",
        transform="log1p",
        direction=-1,
        unit="features",
        window_days=365,
    ),
    FeatureDefinition(
        name="tenure_days",
        family="tenure",
        definition="days since the first of contract start and first active day",
        transform="log1p",
        direction=-1,
        unit="days",
        window_days=None,
    ),
    FeatureDefinition(
        name="mean_gap_days",
        family="rhythm",
        definition="mean days between the last 60 active days, of 400 days; else tenure",
        transform="log1p",
        direction=1,
        unit="days",
        window_days=None,
    ),
)

FAMILIES: Final = tuple(dict.fromkeys(feature.family for feature in FEATURES))
"""The families in the order of their first features: the order of ties among reasons."""


def rows(table: IndicatorTable) -> Rows:
    """The features of each account, `(accounts, features)`."""
    values = np.empty((len(table), len(FEATURES)))
    for index, feature in enumerate(FEATURES):
        column = table.column(feature.name)
        match feature.transform:
            case "log1p":
                values[:, index] = np.log1p(column)
            case "per_window":
                values[:, index] = column / _window(feature)
            case "identity":
                values[:, index] = column
    return values


def in_unit(feature: FeatureDefinition, value: float) -> float:
    """A feature's value back in the unit of its indicator: what a person can check."""
    match feature.transform:
        case "log1p":
            return float(np.expm1(value))
        case "per_window":
            return value * _window(feature)
        case "identity":
            return value


def schema_hash() -> str:
    """SHA-256 of the ordered definitions."""
    definitions = [asdict(feature) for feature in FEATURES]
    text = json.dumps(definitions, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _window(feature: FeatureDefinition) -> int:
    if feature.window_days is None:
        raise ValueError(f"{feature.name} is per window but has none")
    return feature.window_days
