"""Whom an account is compared with: its segment's accounts, or all of them.

The mean is what the model's parts are measured from, so that they sum to the risk; the median is
what a person is told, because a few large accounts pull every mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from services.scoring.domain.features import Row, Rows
from services.scoring.domain.model import Model, coefficients, risk

SMALLEST_SEGMENT: Final = 30
"""Accounts of a segment that can be compared with each other; fewer are compared with all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Features of `accounts` accounts in the middle, `(features,)` each, before standardising.

    `segment` None: all accounts, or those that the model was fitted on. `base_rate`: their mean
    risk, which bands are relative to.
    """

    segment: str | None
    accounts: int
    base_rate: float
    mean: Row
    median: Row


Cohorts: TypeAlias = Mapping[str | None, Peers]
"""Peers by segment; under None, all accounts."""


def cohorts_of(model: Model, rows: Rows, segments: Sequence[str | None]) -> Cohorts:
    """The peers of every segment that is large enough, and all accounts.

    `rows` `(accounts, features)` are of all accounts that have a risk, `segments` parallel to them.
    """
    if not len(rows):
        return {None: peers_of_training(model)}
    found: dict[str | None, Peers] = {None: peers_of(model, rows, segment=None)}
    places: dict[str, list[int]] = {}
    for place, segment in enumerate(segments):
        if segment is not None:
            places.setdefault(segment, []).append(place)
    for segment, own in places.items():
        if len(own) >= SMALLEST_SEGMENT:
            found[segment] = peers_of(model, rows[own], segment=segment)
    return found


def peers_in(cohorts: Cohorts, segment: str | None) -> Peers:
    """Whom an account of that segment is compared with."""
    return cohorts.get(segment) or cohorts[None]


def peers_of(model: Model, rows: Rows, *, segment: str | None) -> Peers:
    """The middle of these accounts `(accounts, features)`, of one at least; missing as in `risk`.

    A median of a feature that none of them has is the model's: it is never shown alone.
    """
    median = coefficients(model.weights).median
    filled = np.where(np.isnan(rows), median, rows)
    known = ~np.isnan(rows)
    middle = np.array(
        [
            np.median(rows[known[:, index], index]) if known[:, index].any() else median[index]
            for index in range(rows.shape[1])
        ]
    )
    return Peers(
        segment=segment,
        accounts=len(rows),
        base_rate=float(risk(model, rows).mean()),
        mean=filled.mean(axis=0),
        median=middle,
    )


def peers_of_training(model: Model) -> Peers:
    """Those the model was standardised on: what is known before anybody was surveyed."""
    c = coefficients(model.weights)
    accounts = model.standardised_on or model.training.accounts
    return Peers(
        segment=None, accounts=accounts, base_rate=model.base_rate, mean=c.mean, median=c.median
    )
