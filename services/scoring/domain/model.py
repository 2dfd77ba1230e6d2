"""The served risk model: coefficients in a JSON file that proves itself before it is used.

A logistic regression on standardised features:
logit(risk) = intercept + sum of weight x (feature - mean) / sd; a missing feature is its median.
A calibration (slope, intercept) is multiplied into weights and intercept when a model is fitted,
so that the reasons of a risk sum to what is served.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.features import FEATURES, FeatureDefinition, Row, Rows, schema_hash

Vector: TypeAlias = NDArray[np.float64]

GOLDEN_TOLERANCE: Final = 1e-9
MIN_GOLDEN: Final = 3
MIN_ACCOUNTS_TO_STANDARDISE: Final = 20
DAYS_A_YEAR: Final = 365
SMALLEST_SD_SHARE: Final = 0.25


class ModelRejected(Exception):
    """A model file that must not be served; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One feature's part in the model; `mean`, `sd` and `median` are of the transformed value."""

    feature: str
    mean: float
    sd: float
    median: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What the model was fitted on: days of the first and last snapshot, and counts."""

    first: date
    last: date
    rows: int
    lost: int
    accounts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Features (None is missing) and the risk that the model must give for them."""

    values: tuple[float | None, ...]
    risk: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights in the order of `FEATURES`.

    `base_rate` is the mean risk of the accounts it was fitted on or, for prior weights, the one
    they were set to. `standardised_on` counts the vendor's accounts whose means and deviations
    replace the fitted ones; 0: none do.
    """

    version: str
    label: str
    horizon_days: int
    prior: bool
    base_rate: float
    intercept: float
    weights: tuple[Weight, ...]
    schema_sha256: str
    training: Training
    standardised_on: int
    metrics: Mapping[str, float]
    golden: tuple[Golden, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """The numbers of weights as vectors, `(features,)` each."""

    mean: Vector
    sd: Vector
    median: Vector
    weight: Vector


def load(content: bytes) -> Model:
    """The model in a file; raises ModelRejected unless its every check holds.

    Checked: the SHA-256 of the model's canonical JSON, the schema against this code's features,
    numbers that are numbers, signs against the declared directions, and the golden vectors.
    """
    try:
        envelope = json.loads(content)
        digest, body = envelope["sha256"], envelope["model"]
        is_whole = digest == _digest(body)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelRejected("not a model file: JSON with `sha256` and `model`") from error
    if not is_whole:
        raise ModelRejected("the digest does not match: the file was changed or cut")
    try:
        model = _model(body)
        _check(model)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise ModelRejected(f"a field is missing or of the wrong kind: {error}") from error
    return model


def dump(model: Model) -> bytes:
    """The model as `load` reads it; numbers keep all their digits."""
    body = asdict(model)
    body["training"] |= {
        "first": model.training.first.isoformat(),
        "last": model.training.last.isoformat(),
    }
    content = {"sha256": _digest(body), "model": body}
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def risk(model: Model, rows: Rows) -> Vector:
    """The probability that each account is lost within the horizon, `(accounts,)`."""
    return sigmoid(logit_risk(model, rows))


def logit_risk(model: Model, rows: Rows) -> Vector:
    """The log-odds of the risk, `(accounts,)`."""
    logits: Vector = model.intercept + weighted(model.weights, rows).sum(axis=1)
    return logits


def weighted(weights: Sequence[Weight], rows: Rows) -> Rows:
    """What each feature adds to the log-odds, `(accounts, features)`."""
    c = coefficients(weights)
    terms: Rows = c.weight * (np.where(np.isnan(rows), c.median, rows) - c.mean) / c.sd
    return terms


def coefficients(weights: Sequence[Weight]) -> Coefficients:
    return Coefficients(
        mean=np.array([w.mean for w in weights]),
        sd=np.array([w.sd for w in weights]),
        median=np.array([w.median for w in weights]),
        weight=np.array([w.weight for w in weights]),
    )


def standardise_to(model: Model, rows: Rows, yearly_churn: float) -> Model:
    """Prior weights made fit for a vendor who has no losses to learn from yet.

    `rows` are the vendor's own `scored` accounts `(accounts, features)`; their means, deviations
    and medians replace the fitted ones, and the intercept makes their mean risk what
    `yearly_churn` (0.10: ten in a hundred leave a year) means for the horizon.

    Fewer than 20 accounts have no distribution to speak of: the fitted means stay, and only the
    intercept is solved for; with none it moves by the difference of the log-odds (prior
    correction; King & Zeng 2001, "Logistic Regression in Rare Events Data", section 4).
    `model` is the prior as fitted, never one standardised before.
    """
    if not 0 < yearly_churn < 1:
        raise ValueError("yearly churn is a share between 0 and 1")
    target = 1 - (1 - yearly_churn) ** (model.horizon_days / DAYS_A_YEAR)
    if not len(rows):
        moved = model.intercept + logit(target) - logit(model.base_rate)
        return with_golden(replace(model, intercept=moved, base_rate=target))
    own = len(rows) >= MIN_ACCOUNTS_TO_STANDARDISE
    weights = tuple(
        _restandardised(weight, rows[:, index]) if own else weight
        for index, weight in enumerate(model.weights)
    )
    standardised = replace(
        model,
        weights=weights,
        base_rate=target,
        intercept=0.0,
        standardised_on=len(rows) if own else 0,
    )
    intercept = _intercept_for(logit_risk(standardised, rows), target)
    return with_golden(replace(standardised, intercept=intercept))


def with_golden(model: Model) -> Model:
    """The model with golden vectors of its own: an average account, a weak, a strong, an empty."""
    c = coefficients(model.weights)
    direction = np.array([feature.direction for feature in FEATURES])
    vectors = (c.mean, c.mean + direction * c.sd, c.mean - direction * c.sd)
    missing = np.full(len(FEATURES), np.nan)
    risks = risk(model, np.array([*vectors, missing]))
    values = [*(tuple(vector.tolist()) for vector in vectors), (None,) * len(FEATURES)]
    golden = tuple(
        Golden(values=one, risk=float(its_risk))
        for one, its_risk in zip(values, risks, strict=True)
    )
    return replace(model, golden=golden)


def sigmoid(logits: Vector) -> Vector:
    # By tanh: no overflow on either side.
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def logit(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))


def segment_means(model: Model, rows: Rows) -> Row:
    """The mean of each feature over a segment's accounts, missing ones as in `risk`."""
    median = coefficients(model.weights).median
    means: Row = np.where(np.isnan(rows), median, rows).mean(axis=0)
    return means


def _restandardised(weight: Weight, values: Vector) -> Weight:
    known = values[~np.isnan(values)]
    if not known.size:  # Nobody reports it: it must say nothing about anybody.
        return replace(weight, mean=weight.median)
    median = float(np.median(known))
    filled = np.where(np.isnan(values), median, values)
    # Where the vendor's accounts are all but equal, one user more or less would outweigh
    # everything else: the scale never becomes much finer than the one the weight was learnt on.
    sd = max(float(filled.std()), SMALLEST_SD_SHARE * weight.sd)
    return replace(weight, mean=float(filled.mean()), sd=sd, median=median)


def _intercept_for(logits: Vector, target: float) -> float:
    """The shift that makes the mean risk `target`; the mean rises with it: bisection."""
    low, high = logit(target) - float(logits.max()), logit(target) - float(logits.min())
    while high - low > 1e-12 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        if float(sigmoid(logits + middle).mean()) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _model(body: Mapping[str, Any]) -> Model:
    if unknown := body.keys() - {field.name for field in fields(Model)}:
        raise ValueError(f"unknown {sorted(unknown)}")
    training = body["training"]
    return Model(
        version=str(body["version"]),
        label=str(body["label"]),
        horizon_days=int(body["horizon_days"]),
        prior=bool(body["prior"]),
        base_rate=float(body["base_rate"]),
        intercept=float(body["intercept"]),
        weights=tuple(Weight(**weight) for weight in body["weights"]),
        schema_sha256=str(body["schema_sha256"]),
        training=Training(
            first=date.fromisoformat(training["first"]),
            last=date.fromisoformat(training["last"]),
            rows=int(training["rows"]),
            lost=int(training["lost"]),
            accounts=int(training["accounts"]),
        ),
        standardised_on=int(body["standardised_on"]),
        metrics={name: float(value) for name, value in body["metrics"].items()},
        golden=tuple(
            Golden(values=tuple(one["values"]), risk=float(one["risk"])) for one in body["golden"]
        ),
    )


def _check(model: Model) -> None:
    if model.schema_sha256 != schema_hash():
        raise ModelRejected("fitted on other features than this version computes: train again")
    if tuple(w.feature for w in model.weights) != tuple(f.name for f in FEATURES):
        raise ModelRejected("the weights do not stand in the order of the features")
    numbers = np.array([(w.mean, w.sd, w.median, w.weight) for w in model.weights], np.float64)
    if not (np.isfinite(numbers).all() and np.isfinite(model.intercept)):
        raise ModelRejected("a coefficient is not a finite number")
    if not (0 < model.base_rate < 1 and (numbers[:, 1] > 0).all()):
        raise ModelRejected("a deviation or the base rate is out of range")
    wrong = [f.name for f, w in zip(FEATURES, model.weights, strict=True) if _against(f, w)]
    if wrong:
        raise ModelRejected(f"weights against their declared direction: {', '.join(wrong)}")
    if len(model.golden) < MIN_GOLDEN:
        raise ModelRejected(f"fewer than {MIN_GOLDEN} golden vectors")
    values = np.array([one.values for one in model.golden], np.float64)
    expected = np.array([one.risk for one in model.golden])
    if not (np.abs(risk(model, values) - expected) <= GOLDEN_TOLERANCE).all():
        raise ModelRejected("the golden vectors do not give their risks: this code differs")


def _against(feature: FeatureDefinition, weight: Weight) -> bool:
    return weight.weight * feature.direction < 0


def _digest(body: object) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
