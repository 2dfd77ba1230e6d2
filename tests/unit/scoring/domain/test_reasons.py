"""Reasons: they sum to the risk, and say it in words that can be checked."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.domain.features import FAMILIES, FEATURES, Row, Rows
from services.scoring.domain.model import logit_risk
from services.scoring.domain.peers import Peers, peers_of, peers_of_training
from services.scoring.domain.reasons import SENTENCES, in_words, known_then, reasons_of
from shared.messages import Reason
from tests.unit.scoring.factories import AS_OF, model

INDEX = {feature.name: index for index, feature in enumerate(FEATURES)}
VALUES = st.floats(-3, 6) | st.just(float("nan"))
ROWS = st.lists(VALUES, min_size=len(FEATURES), max_size=len(FEATURES)).map(np.array)
GROUPS = st.lists(ROWS, min_size=1, max_size=5).map(np.array)
ALL = peers_of_training(model())


def row(**changes: float) -> Row:
    """All features at the model's mean (1), but for the changes."""
    values = np.ones(len(FEATURES))
    for name, value in changes.items():
        values[INDEX[name]] = value
    return values


def segment(**medians: float) -> Peers:
    """A segment whose accounts are all the same."""
    middle = row(**medians)
    return Peers(segment="small", accounts=30, base_rate=0.1, mean=middle, median=middle)


def shown(one: Row, peers: Peers = ALL, year_ago: Row | None = None) -> tuple[Reason, ...]:
    return reasons_of(model(), peers, one, as_of=AS_OF, year_ago=year_ago).reasons


@given(ROWS, GROUPS)
def test_the_families_and_the_base_sum_to_the_log_odds(one: Row, group: Rows) -> None:
    for peers in (ALL, peers_of(model(), group, segment="small")):
        explained = reasons_of(model(), peers, one, as_of=AS_OF)
        total = explained.base + sum(explained.families.values())
        assert total == pytest.approx(logit_risk(model(), one[None])[0], abs=1e-9)


@given(GROUPS)
def test_the_parts_of_a_whole_segment_sum_to_nothing(group: Rows) -> None:
    peers = peers_of(model(), group, segment="small")
    parts = [reasons_of(model(), peers, one, as_of=AS_OF).families for one in group]
    for family in FAMILIES:
        assert sum(part[family] for part in parts) == pytest.approx(0, abs=1e-9)


@given(ROWS, GROUPS)
def test_three_at_most_raise_and_one_at_most_protects(one: Row, group: Rows) -> None:
    peers = peers_of(model(), group, segment="small")
    explained = reasons_of(model(), peers, one, as_of=AS_OF, year_ago=group[0])
    weights = [reason.weight for reason in explained.reasons]
    raising = [weight for weight in weights if weight > 0]
    assert raising == sorted(raising, reverse=True)
    assert len(raising) <= 3
    assert len(weights) - len(raising) <= 1
    assert all(abs(weight) > 0.1 for weight in weights)
    assert all(explained.families[r.family] == r.weight for r in explained.reasons)
    assert all(len(reason.text) <= 120 for reason in explained.reasons)


def test_a_reason_says_value_own_baseline_the_segments_median_and_weight() -> None:
    (reason,) = shown(
        row(active_days_90=9 / 90),
        replace(segment(active_days_90=41 / 90), mean=row(active_days_90=2.0)),
        row(active_days_90=38 / 90),
    )
    # (2 - 9/90) / 0.5 x 0.1 = 0.38: the parts are measured from the mean, the words say the median.
    assert reason.text == "Active on 9 of 90 days; a year ago 38, segment 41: +0.4."
    assert (reason.value, reason.baseline, reason.peer_median) == (9, 38, 41)
    assert (reason.baseline_of, reason.peer_segment) == ("own", "small")
    assert (reason.unit, reason.window_days) == ("days", 90)
    assert reason.change == pytest.approx((9 - 38) / 38)
    assert reason.as_of == AS_OF


def test_without_a_year_ago_the_peers_are_the_baseline() -> None:
    (reason,) = shown(row(champion_share=2.0))
    assert reason.text == "One user makes 200 % of the use; others 100 %: +0.2."
    assert (reason.baseline_of, reason.baseline, reason.peer_median) == ("segment", 1.0, 1.0)
    assert reason.peer_segment is None


def test_a_year_ago_is_not_said_where_it_was_not_known() -> None:
    unknown = row(champion_share=float("nan"))
    assert shown(row(champion_share=2.0), year_ago=unknown) == shown(row(champion_share=2.0))


def test_a_window_that_began_before_the_first_active_day_is_no_baseline() -> None:
    first = (AS_OF - timedelta(days=89)).toordinal()  # 90 days, with both ends
    known = known_then(row(), AS_OF, first_active=first)
    named = {name for name, index in INDEX.items() if not np.isnan(known[index])}
    assert {"active_days_28", "active_days_90", "champion_share", "mean_gap_days"} <= named
    assert not named & {"active_days_180", "active_days_365", "breadth_365"}
    # Of an account whose first day is not known, nothing is.
    assert np.isnan(known_then(row(), AS_OF, first_active=float("nan"))).all()


def test_tenure_has_no_year_ago() -> None:
    assert np.isnan(known_then(row(), AS_OF, first_active=0)[INDEX["tenure_days"]])


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (1, "Last used 1 day ago; segment 0: +0.1."),  # log(2) / 0.5 x 0.1 = 0.14
        (5, "Last used 5 days ago; segment 0: +0.4."),  # log(6) / 0.5 x 0.1 = 0.36
    ],
)
def test_one_of_a_thing_is_said_in_the_singular(days: int, text: str) -> None:
    (reason,) = shown(row(recency_days=float(np.log1p(days))), segment(recency_days=0.0))
    assert reason.text == text
    assert reason.value == days


def test_the_best_protecting_family_comes_last() -> None:
    found = shown(row(recency_days=3.0, tenure_days=3.0, breadth_365=2.5))
    # Recency (3 - 1) / 0.5 x 0.1 = +0.4; tenure -0.4; breadth -0.3.
    assert [reason.family for reason in found] == ["recency", "tenure"]


def test_equal_parts_keep_the_order_of_the_families() -> None:
    found = shown(row(mean_gap_days=3.0, recency_days=3.0, champion_share=3.0))
    assert [reason.family for reason in found] == ["recency", "champion", "rhythm"]


def test_the_windows_of_a_family_count_together_and_the_strongest_speaks() -> None:
    found = shown(row(active_days_28=0.5, active_days_365=0.0))
    # 0.1 + 0.2
    assert found[0].weight == pytest.approx(0.3)
    assert found[0].indicator == "active_days_365"


def test_what_is_not_known_is_no_reason() -> None:
    unknown = row(champion_share=float("nan"))
    explained = reasons_of(model(), segment(champion_share=-1.0), unknown, as_of=AS_OF)
    # The model's median (1) instead: (1 + 1) / 0.5 x 0.1.
    assert explained.families["champion"] == pytest.approx(0.4)
    assert explained.reasons == ()


def test_an_average_account_needs_no_reason() -> None:
    assert shown(row()) == ()


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
