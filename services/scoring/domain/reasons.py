"""Why a risk is what it is: what each family of features adds to it, in words a CSM can check.

logit(risk) = the peers' base + the sum over the families. A family adds
weight x (feature - peers' mean) / sd for each of its features; families, because the windows
of one indicator share its weight among them and mean nothing alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from services.scoring.domain.features import FAMILIES, FEATURES, FeatureDefinition, Row, in_unit
from services.scoring.domain.model import Model, coefficients
from services.scoring.domain.peers import Peers
from shared.messages import Reason

SHOWN_RAISING: Final = 3
LEAST_SHOWN: Final = 0.1
_DIGITS: Final = 6  # log1p and back leaves 8.999999999999998 of nine days.

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


def reasons_of(
    model: Model, peers: Peers, row: Row, *, as_of: date, year_ago: Row | None = None
) -> Explanation:
    """The families' parts of one account's risk, and the few worth showing.

    `row` holds the account's features `(features,)` as of day `as_of`, `year_ago` those logged a
    year before, NaN where its windows were not complete (`known_then`).

    Shown: the three families that raise the risk most and by more than 0.1, then the one that
    protects most. Equal parts keep the order of `FAMILIES`.
    """
    c = coefficients(model.weights)
    known = ~np.isnan(row)
    parts = (c.weight * (np.where(known, row, c.median) - peers.mean) / c.sd).tolist()
    families = dict.fromkeys(FAMILIES, 0.0)
    for feature, part in zip(FEATURES, parts, strict=True):
        families[feature.family] += part
    base = model.intercept + float((c.weight * (peers.mean - c.mean) / c.sd).sum())
    reasons = (
        _reason(
            family=family,
            weight=families[family],
            parts=parts,
            row=row,
            year_ago=year_ago,
            peers=peers,
            as_of=as_of,
        )
        for family in _shown(families, row)
    )
    return Explanation(base=base, families=families, reasons=tuple(reasons))


def known_then(row: Row, as_of: date, *, first_active: float) -> Row:
    """A logged row `(features,)` as far as it may be compared with: NaN for the rest.

    `first_active`: the account's first active day as an ordinal. A window that began before it
    would count the days before anybody sent anything as days without use. Tenure is left out: a
    year ago it was a year less.
    """
    reach = as_of.toordinal() - first_active + 1
    known = [f.name != "tenure_days" and (f.window_days or 1) <= reach for f in FEATURES]
    return np.where(known, row, np.nan)


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
    year_ago: Row | None,
    peers: Peers,
    as_of: date,
) -> Reason:
    index = _spokesman(family, weight, parts, row)
    feature = FEATURES[index]
    value, others = _said(feature, row[index]), _said(feature, peers.median[index])
    has_own = year_ago is not None and not np.isnan(year_ago[index])
    before = _said(feature, year_ago[index]) if year_ago is not None and has_own else None
    baseline = others if before is None else before
    among = "others" if peers.segment is None else "segment"
    return Reason(
        family=family,
        indicator=feature.name,
        text=_text(feature, value, before, f"{among} {in_words(feature, others)}", weight),
        value=value,
        unit=feature.unit,
        baseline=baseline,
        baseline_of="segment" if before is None else "own",
        change=(value - baseline) / baseline if baseline else None,
        window_days=feature.window_days,
        weight=weight,
        as_of=as_of,
        peer_median=others,
        peer_segment=peers.segment,
    )


def _said(feature: FeatureDefinition, value: float) -> float:
    return round(in_unit(feature, float(value)), _DIGITS)


def _spokesman(family: str, weight: float, parts: list[float], row: Row) -> int:
    """The known feature that pulls most in its family's direction."""
    sign = 1 if weight > 0 else -1
    known = [i for i, f in enumerate(FEATURES) if f.family == family and not np.isnan(row[i])]
    return max(known, key=lambda index: sign * parts[index])


def _text(
    feature: FeatureDefinition, value: float, before: float | None, others: str, weight: float
) -> str:
    said = in_words(feature, value)
    sentence = SENTENCES[feature.name].format(value=said, s="" if said == "1" else "s")
    own = "" if before is None else f"a year ago {in_words(feature, before)}, "
    return f"{sentence}; {own}{others}: {weight:+.1f}."
