"""Reasons: they sum to the risk, and say it in words that can be checked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.features import FAMILIES, FEATURES, Row
from services.scoring.domain.model import logit_risk
from services.scoring.domain.reasons import SENTENCES, explain, in_words, reasons
from tests.unit.scoring.factories import AS_OF, indicators, model

INDEX = {feature.name: index for index, feature in enumerate(FEATURES)}
ROWS = st.lists(
    st.floats(-3, 6) | st.just(float("nan")), min_size=len(FEATURES), max_size=len(FEATURES)
).map(np.array)
SEGMENTS = st.none() | st.lists(
    st.floats(-3, 6), min_size=len(FEATURES), max_size=len(FEATURES)
).map(np.array)


def row(**changes: float) -> Row:
    """All features at the model's mean (1), but for the changes."""
    values = np.ones(len(FEATURES))
    for name, value in changes.items():
        values[INDEX[name]] = value
    return values


@given(ROWS, SEGMENTS)
def test_the_families_and_the_base_sum_to_the_log_odds(one: Row, segment: Row | None) -> None:
    explained = explain(model(), one, indicators(), segment=segment)
    total = explained.base + sum(explained.families.values())
    assert total == pytest.approx(logit_risk(model(), one[None])[0], abs=1e-9)


@given(ROWS, SEGMENTS)
def test_three_at_most_raise_and_one_at_most_protects(one: Row, segment: Row | None) -> None:
    explained = explain(model(), one, indicators(), segment=segment)
    weights = [reason.weight for reason in explained.reasons]
    raising = [weight for weight in weights if weight > 0]
    assert raising == sorted(raising, reverse=True)
    assert len(raising) <= 3
    assert len(weights) - len(raising) <= 1
    assert all(abs(weight) > 0.1 for weight in weights)
    assert all(explained.families[r.family] == r.weight for r in explained.reasons)
    assert all(len(reason.text) <= 120 for reason in explained.reasons)


def test_a_reason_says_value_own_baseline_others_and_weight() -> None:
    segment = row(active_days_90=1 + 41 / 90)
    (reason,) = reasons(
        model(),
        row(active_days_90=0.1),
        indicators(),
        own_year_ago_row=row(active_days_90=38 / 90),
        segment=segment,
    )
    # (1 + 41/90 - 0.1) / 0.5 x 0.1 = 0.27; 1 + 41/90 of 90 days are 131.
    assert reason.text == "Active on 9 of 90 days; a year ago 38, others 131: +0.3."
    assert [reason.value, reason.baseline] == pytest.approx([9, 38])
    assert (reason.baseline_of, reason.unit, reason.window_days) == ("own", "days", 90)
    assert reason.change == pytest.approx((9 - 38) / 38)
    assert reason.as_of == AS_OF


def test_without_a_year_ago_the_others_are_the_baseline() -> None:
    (reason,) = reasons(model(), row(champion_share=2.0), indicators())
    assert reason.text == "One user makes 200 % of the use; others 100 %: +0.2."
    assert (reason.baseline_of, reason.baseline) == ("segment", 1.0)


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (1, "Last used 1 day ago; others 0: +0.1."),  # log(2) / 0.5 x 0.1 = 0.14
        (5, "Last used 5 days ago; others 0: +0.4."),  # log(6) / 0.5 x 0.1 = 0.36
    ],
)
def test_one_of_a_thing_is_said_in_the_singular(days: int, text: str) -> None:
    zero = row(recency_days=0.0)
    (reason,) = reasons(
        model(), row(recency_days=float(np.log1p(days))), indicators(), segment=zero
    )
    assert reason.text == text


def test_the_best_protecting_family_comes_last() -> None:
    found = reasons(model(), row(recency_days=3.0, tenure_days=3.0, breadth_365=2.5), indicators())
    # Recency (3 - 1) / 0.5 x 0.1 = +0.4; tenure -0.4; breadth -0.3.
    assert [reason.family for reason in found] == ["recency", "tenure"]


def test_equal_parts_keep_the_order_of_the_families() -> None:
    found = reasons(
        model(), row(mean_gap_days=3.0, recency_days=3.0, champion_share=3.0), indicators()
    )
    assert [reason.family for reason in found] == ["recency", "champion", "rhythm"]


def test_the_windows_of_a_family_count_together_and_the_strongest_speaks() -> None:
    found = reasons(model(), row(active_days_28=0.5, active_days_365=0.0), indicators())
    # 0.1 + 0.2
    assert found[0].weight == pytest.approx(0.3)
    assert found[0].indicator == "active_days_365"


def test_what_is_not_known_is_no_reason() -> None:
    unknown = row(champion_share=float("nan"))
    explained = explain(model(), unknown, indicators(), segment=row(champion_share=-1.0))
    # The median (1) instead: (1 + 1) / 0.5 x 0.1.
    assert explained.families["champion"] == pytest.approx(0.4)
    assert explained.reasons == ()


def test_an_average_account_needs_no_reason() -> None:
    assert reasons(model(), row(), indicators()) == ()


def test_every_feature_has_its_sentence_and_every_family_its_place() -> None:
    assert set(SENTENCES) == set(INDEX)
    assert {feature.family for feature in FEATURES} == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stickiness", 0.416, "42 %"),
        ("events_90", 1234.4, "1,234"),
        ("mean_gap_days", 3.54, "3.5"),
        ("mean_gap_days", 3.04, "3"),
        ("mean_gap_days", 12.5, "12"),
    ],
)
def test_values_are_said_shortly(name: str, value: float, words: str) -> None:
    assert in_words(FEATURES[INDEX[name]], value) == words
