"""Why a risk is what it is: what each family of features adds to it, in words a CSM can check.

logit(risk) = the segment's base + the sum over the families. A family adds
weight x (feature - segment's mean) / sd for each of its features; families, because the windows
of one indicator share its weight among them and mean nothing alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.domain.features import FAMILIES, FEATURES, FeatureDefinition, Row, in_unit
from services.scoring.domain.indicators import Indicators
from services.scoring.domain.model import Model, coefficients
from shared.messages import Reason

SHOWN_RAISING: Final = 3
LEAST_SHOWN: Final = 0.1

SENTENCES: Final[Mapping[str, str]] = {
    "recency_days": "Last used {value} day{s} ago",
    "active_days_28": "Active on {value} of 28 days",
    "active_days_90": "Active on {value} of 90 days",
    "active_days_180": "Active on {value} of 180 days",
    "active_days_365": "Active on {value} of 365 days",
    "events_28": "{value} event{s} in 28 days",
    "events_90": "{value} event{s} in 90 days",
    "active_users_28": "Active users in 28 days: {value}",
    "active_users_90": "Active users in 90 days: {value}",
    "active_users_365": "Active users in 365 days: {value}",
    "share_of_known_users": "{value} of the year's users came in 28 days",
    "stickiness": "An active user comes on {value} of the days",
    "champion_share": "One user makes {value} of the use",
    "breadth_365": "Features used in 365 days: {value}",
    "tenure_days": "Customer for {value} day{s}",
    "mean_gap_days": "Days between active days: {value}",
}
"""How each feature is said; a test keeps it complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A risk taken apart: `base + sum(families.values()) == logit(risk)`, to 1e-9."""

    base: float
    families: Mapping[str, float]
    reasons: tuple[Reason, ...]


def explain(
    model: Model,
    row: Row,
    indicators: Indicators,
    *,
    year_ago: Row | None = None,
    segment: Row | None = None,
) -> Explanation:
    """The families' parts of one account's risk, and the few worth showing.

    `row` holds the account's features `(features,)` as `features.model_row` gives them,
    `indicators` say as of when; `year_ago` is its logged row of a year before, `segment` the mean
    features of its segment (`model.segment_means`), without which the model's own means stand.

    Shown: the three families that raise the risk most and by more than 0.1, then the one that
    protects most. Equal parts keep the order of `FAMILIES`.
    """
    c = coefficients(model.weights)
    middle = c.mean if segment is None else segment
    known = ~np.isnan(row)
    parts = (c.weight * (np.where(known, row, c.median) - middle) / c.sd).tolist()
    families = dict.fromkeys(FAMILIES, 0.0)
    for feature, part in zip(FEATURES, parts, strict=True):
        families[feature.family] += part
    base = model.intercept + float((c.weight * (middle - c.mean) / c.sd).sum())
    reasons = (
        _reason(
            family=family,
            weight=families[family],
            parts=parts,
            row=row,
            indicators=indicators,
            year_ago=year_ago,
            middle=middle,
        )
        for family in _shown(families, row)
    )
    return Explanation(base=base, families=families, reasons=tuple(reasons))


def reasons(
    model: Model,
    row: Row,
    indicators: Indicators,
    own_year_ago_row: Row | None = None,
    segment: Row | None = None,
) -> tuple[Reason, ...]:
    """The shown reasons of `explain` alone."""
    return explain(model, row, indicators, year_ago=own_year_ago_row, segment=segment).reasons


def in_words(feature: FeatureDefinition, value: float) -> str:
    """A value in its indicator's unit, as short as it can be checked."""
    if feature.unit == "share":
        return f"{round(value * 100)} %"
    rounded = round(value, 1)
    if abs(value) >= 10 or rounded == round(rounded):
        return f"{round(value):,}"
    return f"{rounded:.1f}"


def _shown(families: Mapping[str, float], row: Row) -> list[str]:
    sayable = {f.family for f, x in zip(FEATURES, row.tolist(), strict=True) if x == x}  # noqa: PLR0124 - NaN
    ranked = sorted(FAMILIES, key=lambda family: -families[family])  # Stable: ties keep order.
    ranked = [family for family in ranked if family in sayable]
    raising = [family for family in ranked if families[family] > LEAST_SHOWN][:SHOWN_RAISING]
    protecting = [family for family in ranked if families[family] < -LEAST_SHOWN]
    strongest = sorted(protecting, key=families.__getitem__)[:1]
    return raising + strongest


def _reason(
    *,
    family: str,
    weight: float,
    parts: list[float],
    row: Row,
    indicators: Indicators,
    year_ago: Row | None,
    middle: Row,
) -> Reason:
    index = _spokesman(family, weight, parts, row)
    feature = FEATURES[index]
    value = in_unit(feature, float(row[index]))
    others = in_unit(feature, float(middle[index]))
    own = None if year_ago is None or np.isnan(year_ago[index]) else float(year_ago[index])
    before = None if own is None else in_unit(feature, own)
    baseline = others if before is None else before
    return Reason(
        family=family,
        indicator=feature.name,
        text=_text(feature, value, before, others, weight),
        value=value,
        unit=feature.unit,
        baseline=baseline,
        baseline_of="segment" if before is None else "own",
        change=(value - baseline) / baseline if baseline else None,
        window_days=feature.window_days,
        weight=weight,
        as_of=indicators.as_of,
    )


def _spokesman(family: str, weight: float, parts: list[float], row: Row) -> int:
    """The known feature that pulls most in its family's direction."""
    sign = 1 if weight > 0 else -1
    known = [i for i, f in enumerate(FEATURES) if f.family == family and not np.isnan(row[i])]
    return max(known, key=lambda index: sign * parts[index])


def _text(
    feature: FeatureDefinition, value: float, before: float | None, others: float, weight: float
) -> str:
    said = in_words(feature, value)
    sentence = SENTENCES[feature.name].format(value=said, s="" if said == "1" else "s")
    own = "" if before is None else f"a year ago {in_words(feature, before)}, "
    return f"{sentence}; {own}others {in_words(feature, others)}: {weight:+.1f}."
