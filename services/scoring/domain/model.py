"""The served risk model: coefficients in a JSON file that proves itself before it is used.

A logistic regression on standardised features:
logit(risk) = intercept + sum of weight x (feature - mean) / sd; a missing feature is its median.
A calibration (slope, intercept) is multiplied into weights and intercept when a model is fitted,
so that the reasons of a risk sum to what is served; the file tells both.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scoring.domain.drift import Distribution
from services.scoring.domain.features import FEATURES, FeatureDefinition, Rows, schema_hash

Vector: TypeAlias = NDArray[np.float64]

Kind: TypeAlias = Literal["prior", "own"]
"""`prior`: weights of public data; `own`: fitted on the vendor's own losses."""

FORMAT: Final = 2
"""Of the file. It grows when an older reader could not understand a newer file."""

GOLDEN_TOLERANCE: Final = 1e-9
MIN_GOLDEN: Final = 3
MIN_ACCOUNTS_TO_STANDARDISE: Final = 20
DAYS_A_YEAR: Final = 365
SMALLEST_SD_SHARE: Final = 0.25


class ModelRefusal(StrEnum):
    """Why a model file must not be served."""

    FORMAT = "format"
    DIGEST = "digest"
    FIELDS = "fields"
    FEATURES = "features"
    NUMBERS = "numbers"
    DIRECTION = "direction"
    GOLDEN = "golden"
    OTHER_VERSION = "other_version"
    """It is sound, and not the model that it is stored as."""


class ModelRejected(Exception):
    """A model file that must not be served; the message says what is wrong with it."""

    def __init__(self, reason: ModelRefusal, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


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
    """What the model was fitted on: days of the first and last row, and counts.

    `data_sha256` is the fingerprint of the ordered rows and their labels (`fingerprint`).
    """

    first: date
    last: date
    rows: int
    lost: int
    accounts: int
    data_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """As fitted on `losses` losses of a walk-forward; 0: too few, nothing was changed."""

    slope: float = 1.0
    intercept: float = 0.0
    losses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Features (None is missing) and the risk that the model must give for them."""

    values: tuple[float | None, ...]
    risk: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights in the order of `FEATURES`, the calibration in them.

    `label` says what counts as lost. `base_rate` is the mean risk of the accounts it was fitted on
    or, for prior weights, the one they were set to. `standardised_on` counts the vendor's accounts
    whose means and deviations replace the fitted ones; 0: none do. `metrics` are those of a
    walk-forward, `challenger` those of gradient boosting on the same rows. `distributions` are the
    training rows', one per feature; prior weights have none.
    """

    version: str
    kind: Kind
    label: str
    horizon_days: int
    created_at: datetime
    base_rate: float
    intercept: float
    weights: tuple[Weight, ...]
    calibration: Calibration = Calibration()
    schema_sha256: str
    training: Training
    standardised_on: int = 0
    metrics: Mapping[str, float]
    challenger: Mapping[str, float]
    distributions: tuple[Distribution, ...] = ()
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

    Checked: the format, the SHA-256 of the model's canonical JSON, the features against this
    code's, numbers that are numbers, signs against the declared directions, and the golden vectors.
    """
    try:
        envelope = json.loads(content)
        written, digest, body = envelope.get("format", 1), envelope["sha256"], envelope["model"]
        is_newer, is_whole = written > FORMAT, digest == _digest(written, body)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelRejected(
            ModelRefusal.FORMAT, "not a model file: JSON with `sha256` and `model`"
        ) from error
    if is_newer:
        raise ModelRejected(
            ModelRefusal.FORMAT,
            f"written by a newer version of Perennial: format {written}, this one reads {FORMAT}",
        )
    if written != FORMAT:
        raise ModelRejected(
            ModelRefusal.FORMAT, f"written by an older version of Perennial: format {written}"
        )
    if not is_whole:
        raise ModelRejected(
            ModelRefusal.DIGEST, "the digest does not match: the file was changed or cut"
        )
    try:
        _check_features(body["schema_sha256"], body["features"])
        model = _model(body)
        _check(model)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise ModelRejected(
            ModelRefusal.FIELDS, f"a field is missing or of the wrong kind: {error}"
        ) from error
    return model


def dump(model: Model) -> bytes:
    """The model as `load` reads it; numbers keep all their digits."""
    body = asdict(model)
    weights = body.pop("weights")
    body["features"] = [
        asdict(feature) | {name: value for name, value in weight.items() if name != "feature"}
        for feature, weight in zip(FEATURES, weights, strict=True)
    ]
    body["created_at"] = model.created_at.isoformat()
    body["training"] |= {
        "first": model.training.first.isoformat(),
        "last": model.training.last.isoformat(),
    }
    content = {"format": FORMAT, "sha256": _digest(FORMAT, body), "model": body}
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def fingerprint(rows: Rows, lost: NDArray[np.bool_], day: NDArray[np.int64]) -> str:
    """SHA-256 of training rows `(rows, features)` in their order, with their days and labels."""
    digest = hashlib.sha256()
    for part in (rows.astype("<f8"), day.astype("<i8"), lost.astype("u1")):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


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


def _check_features(schema: str, features: Sequence[Mapping[str, Any]]) -> None:
    """That the model speaks of the features that this code computes, in their order."""
    if schema != schema_hash():
        raise ModelRejected(
            ModelRefusal.FEATURES,
            "fitted on other features than this version computes: train again",
        )
    if [one["name"] for one in features] != [feature.name for feature in FEATURES]:
        raise ModelRejected(
            ModelRefusal.FEATURES, "the weights do not stand in the order of the features"
        )
    for feature, one in zip(FEATURES, features, strict=True):
        if any(one[name] != value for name, value in asdict(feature).items()):
            raise ModelRejected(
                ModelRefusal.FEATURES,
                f"{feature.name} is defined otherwise in this version: train again",
            )


def _model(body: Mapping[str, Any]) -> Model:
    named = {field.name for field in fields(Model)} - {"weights"} | {"features"}
    if body.keys() != named:
        raise ValueError(f"unknown or missing: {sorted(body.keys() ^ named)}")
    kind = body["kind"]
    if kind not in {"prior", "own"}:
        raise ValueError("kind")
    training, calibration = body["training"], body["calibration"]
    return Model(
        version=str(body["version"]),
        kind=kind,
        label=str(body["label"]),
        horizon_days=int(body["horizon_days"]),
        created_at=datetime.fromisoformat(body["created_at"]),
        base_rate=float(body["base_rate"]),
        intercept=float(body["intercept"]),
        weights=tuple(
            Weight(
                feature=one["name"],
                mean=one["mean"],
                sd=one["sd"],
                median=one["median"],
                weight=one["weight"],
            )
            for one in body["features"]
        ),
        calibration=Calibration(
            slope=float(calibration["slope"]),
            intercept=float(calibration["intercept"]),
            losses=int(calibration["losses"]),
        ),
        schema_sha256=str(body["schema_sha256"]),
        training=Training(
            first=date.fromisoformat(training["first"]),
            last=date.fromisoformat(training["last"]),
            rows=int(training["rows"]),
            lost=int(training["lost"]),
            accounts=int(training["accounts"]),
            data_sha256=str(training["data_sha256"]),
        ),
        standardised_on=int(body["standardised_on"]),
        metrics={name: float(value) for name, value in body["metrics"].items()},
        challenger={name: float(value) for name, value in body["challenger"].items()},
        distributions=tuple(
            Distribution(edges=tuple(one["edges"]), shares=tuple(one["shares"]))
            for one in body["distributions"]
        ),
        golden=tuple(
            Golden(values=tuple(one["values"]), risk=float(one["risk"])) for one in body["golden"]
        ),
    )


def _check(model: Model) -> None:
    numbers = np.array([(w.mean, w.sd, w.median, w.weight) for w in model.weights], np.float64)
    if not (np.isfinite(numbers).all() and np.isfinite(model.intercept)):
        raise ModelRejected(ModelRefusal.NUMBERS, "a coefficient is not a finite number")
    calibration = (model.calibration.slope, model.calibration.intercept)
    if not (np.isfinite(calibration).all() and model.calibration.slope > 0):
        raise ModelRejected(
            ModelRefusal.NUMBERS, "the calibration is no pair of numbers with a slope above 0"
        )
    if not (0 < model.base_rate < 1 and (numbers[:, 1] > 0).all()):
        raise ModelRejected(ModelRefusal.NUMBERS, "a deviation or the base rate is out of range")
    wrong = [f.name for f, w in zip(FEATURES, model.weights, strict=True) if _against(f, w)]
    if wrong:
        raise ModelRejected(
            ModelRefusal.DIRECTION, f"weights against their declared direction: {', '.join(wrong)}"
        )
    _check_distributions(model)
    if len(model.golden) < MIN_GOLDEN:
        raise ModelRejected(ModelRefusal.GOLDEN, f"fewer than {MIN_GOLDEN} golden vectors")
    values = np.array([one.values for one in model.golden], np.float64)
    expected = np.array([one.risk for one in model.golden])
    if not (np.abs(risk(model, values) - expected) <= GOLDEN_TOLERANCE).all():
        raise ModelRejected(
            ModelRefusal.GOLDEN, "the golden vectors do not give their risks: this code differs"
        )


def _check_distributions(model: Model) -> None:
    wanted = len(FEATURES) if model.kind == "own" else 0
    if len(model.distributions) != wanted:
        raise ModelRejected(
            ModelRefusal.NUMBERS,
            f"{len(model.distributions)} distributions of features, not {wanted}",
        )
    for one in model.distributions:
        edges, shares = np.array(one.edges, np.float64), np.array(one.shares, np.float64)
        if not (
            len(shares) == len(edges) + 2
            and np.isfinite(edges).all()
            and (np.diff(edges) > 0).all()
            and (shares >= 0).all()
            and abs(float(shares.sum()) - 1) < GOLDEN_TOLERANCE
        ):
            raise ModelRejected(ModelRefusal.NUMBERS, "a distribution of a feature is none")


def _against(feature: FeatureDefinition, weight: Weight) -> bool:
    return weight.weight * feature.direction < 0


def _digest(written: object, body: object) -> str:
    canonical = json.dumps([written, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
