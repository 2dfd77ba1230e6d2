"""A model file proves itself before it is served."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.scoring
from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import (
    FORMAT,
    ModelRejected,
    dump,
    load,
    logit_risk,
    risk,
    standardise_to,
)
from tests.unit.scoring.factories import model, rows

PRIOR = Path(services.scoring.__path__[0]) / "prior.json"


def signed(change: Callable[[dict[str, Any]], object], written: object = FORMAT) -> bytes:
    """A model's file with a change in it and the digest made good again."""
    body = json.loads(dump(model()))["model"]
    change(body)
    canonical = json.dumps([written, body], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return json.dumps({"format": written, "sha256": digest, "model": body}).encode()


def test_a_model_comes_back_as_it_was_written() -> None:
    assert load(dump(model())) == model()


def test_a_store_that_reorders_keys_and_spaces_breaks_nothing() -> None:
    content = json.loads(dump(model()))
    assert load(json.dumps(content, sort_keys=False, indent=8).encode()) == model()


def test_a_change_without_the_digest_is_refused() -> None:
    content = dump(model()).replace(b'"horizon_days": 90', b'"horizon_days": 91')
    with pytest.raises(ModelRejected, match="digest"):
        load(content)


@given(st.integers(0, len(dump(model())) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_says_the_same(position: int, bit: int) -> None:
    content = bytearray(dump(model()))
    content[position] ^= 1 << bit
    # White space and an exponent's case may flip without a change of meaning.
    with suppress(ModelRejected):
        assert load(bytes(content)) == model()


@given(st.binary(max_size=200) | st.sampled_from([b"[]", b"null", b"[" * 5000, b'{"sha256":1}']))
def test_hostile_bytes_are_refused_and_nothing_else(content: bytes) -> None:
    with pytest.raises(ModelRejected):
        load(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda m: m.update(schema_sha256="0"), "other features", id="schema"),
        pytest.param(lambda m: m["features"].reverse(), "order", id="order"),
        pytest.param(lambda m: m["features"][0].update(weight=-0.1), "recency", id="sign"),
        pytest.param(lambda m: m["features"][0].update(sd=0.0), "deviation", id="no deviation"),
        pytest.param(lambda m: m["features"][0].update(mean=None), "finite", id="no number"),
        pytest.param(lambda m: m["features"][0].pop("mean"), "field", id="a field is missing"),
        pytest.param(lambda m: m.update(base_rate=1.0), "base rate", id="base rate"),
        pytest.param(lambda m: m.update(surprise=1), "surprise", id="an unknown field"),
        pytest.param(
            lambda m: m["features"][0].update(transform="identity"),
            "recency_days is defined otherwise",
            id="another transform",
        ),
        pytest.param(lambda m: m.update(kind="own"), "0 distributions", id="own, as it were"),
        pytest.param(lambda m: m["calibration"].update(slope=-1), "calibration", id="slope"),
        pytest.param(lambda m: m.update(intercept=float("nan")), "finite", id="NaN"),
        pytest.param(lambda m: m.pop("training"), "training", id="no training"),
        pytest.param(lambda m: m["features"][0].update(sd="wide"), "field", id="a word"),
        pytest.param(lambda m: m["golden"][0].update(values=[1.0]), "field", id="a short vector"),
        pytest.param(lambda m: m.update(intercept=10**400), "field", id="too large"),
        pytest.param(lambda m: m.update(features=7), "field", id="no list"),
        pytest.param(lambda m: m["golden"].pop() and m["golden"].pop(), "golden", id="2 golden"),
        pytest.param(
            lambda m: m["golden"][0].update(risk=m["golden"][0]["risk"] + 2e-9),
            "golden",
            id="a golden vector off by 2e-9",
        ),
        pytest.param(
            lambda m: m.update(intercept=m["intercept"] + 1e-3), "golden", id="other intercept"
        ),
    ],
)
def test_a_model_that_must_not_be_served(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ModelRejected, match=message):
        load(signed(change))


def test_a_file_of_a_newer_version_says_so() -> None:
    with pytest.raises(ModelRejected, match=r"newer version of Perennial: format 3, .* reads 2"):
        load(signed(lambda _: None, written=3))


def test_a_file_of_an_older_version_says_so() -> None:
    with pytest.raises(ModelRejected, match="older version"):
        load(signed(lambda _: None, written=1))


def test_the_risk_is_the_logistic_of_the_weighted_sum() -> None:
    one = np.ones((1, len(FEATURES)))  # All at their means: the intercept alone, -1.
    assert risk(model(), one)[0] == pytest.approx(1 / (1 + np.exp(1)))
    worse = one.copy()
    worse[0, 0] = 2.0  # Recency two deviations up: -1 + 0.1 x (2 - 1) / 0.5 = -0.8.
    assert logit_risk(model(), worse)[0] == pytest.approx(-0.8)


def test_a_missing_feature_is_the_median() -> None:
    known, missing = np.full((1, len(FEATURES)), 1.0), np.full((1, len(FEATURES)), np.nan)
    assert risk(model(), missing) == risk(model(), known)


def test_an_absurd_row_gives_a_probability_without_a_warning() -> None:
    far = np.array([np.full(len(FEATURES), 1e9), np.full(len(FEATURES), -1e9)])
    assert ((risk(model(), far) >= 0) & (risk(model(), far) <= 1)).all()


@given(st.integers(1, 60), st.floats(0.01, 0.6), st.integers(0, 100))
def test_a_prior_is_set_to_the_vendors_expected_churn(
    count: int, yearly_churn: float, seed: int
) -> None:
    own = rows(count, seed) * 3 + 7
    prior = standardise_to(model(), own, yearly_churn)
    wanted = 1 - (1 - yearly_churn) ** (90 / 365)
    assert risk(prior, own).mean() == pytest.approx(wanted, abs=1e-9)
    assert prior.base_rate == wanted
    assert load(dump(prior)) == prior


def test_ten_percent_a_year_are_two_point_six_in_ninety_days() -> None:
    assert standardise_to(model(), rows(30), 0.10).base_rate == pytest.approx(0.0256, abs=5e-5)


def test_the_vendors_own_means_need_twenty_accounts() -> None:
    own = rows(20) + 5
    assert standardise_to(model(), own[:19], 0.1).weights == model().weights
    enough = standardise_to(model(), own, 0.1)
    assert enough.standardised_on == 20
    assert [w.mean for w in enough.weights] == pytest.approx(own.mean(axis=0).tolist())


def test_without_any_account_the_base_rate_moves_the_log_odds() -> None:
    empty = standardise_to(model(), np.empty((0, len(FEATURES))), 0.1)
    odds = empty.base_rate / (1 - empty.base_rate)
    assert empty.intercept - model().intercept == pytest.approx(np.log(odds) - np.log(0.25 / 0.75))


def test_what_the_vendor_never_reports_says_nothing() -> None:
    own = rows(30)
    own[:, 3] = np.nan
    prior = standardise_to(model(), own, 0.1)
    with_it = own.copy()
    with_it[:, 3] = prior.weights[3].median
    assert np.array_equal(risk(prior, own), risk(prior, with_it))
    assert prior.weights[3].mean == prior.weights[3].median


def test_accounts_that_are_all_alike_in_one_feature_do_not_blow_it_up() -> None:
    own = rows(30)
    own[:, 7] = 2.0
    assert standardise_to(model(), own, 0.1).weights[7].sd == 0.125  # 0.5 / 4


@pytest.mark.parametrize("churn", [0.0, 1.0, -0.1])
def test_an_impossible_churn_is_a_mistake(churn: float) -> None:
    with pytest.raises(ValueError, match="yearly churn"):
        standardise_to(model(), rows(30), churn)


def test_the_prior_that_comes_with_the_program_loads() -> None:
    prior = load(PRIOR.read_bytes())
    assert prior.kind == "prior"
    assert prior.metrics["all_auc"] > 0.85


def test_no_risk_falls_when_an_account_gets_worse() -> None:
    prior = load(PRIOR.read_bytes())
    average = np.array([w.mean for w in prior.weights])
    for index, feature in enumerate(FEATURES):
        worse = average.copy()
        worse[index] += feature.direction
        assert risk(prior, np.array([worse]))[0] >= risk(prior, np.array([average]))[0]


def test_golden_vectors_belong_to_the_model_they_come_with() -> None:
    other = replace(model(), intercept=-2.0)
    with pytest.raises(ModelRejected, match="golden"):
        load(dump(other))
