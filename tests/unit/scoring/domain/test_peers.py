"""Whom an account is compared with."""

import numpy as np
import pytest

from services.scoring.domain.features import FEATURES
from services.scoring.domain.model import risk
from services.scoring.domain.peers import (
    SMALLEST_SEGMENT,
    cohorts_of,
    peers_in,
    peers_of,
    peers_of_training,
)
from tests.unit.scoring.factories import model, rows

FIRST = 0
"""Index of the feature that the tests look at."""


def test_peers_mean_what_the_risk_means_and_their_median_is_of_those_that_know() -> None:
    group = np.ones((3, len(FEATURES)))
    group[:, FIRST] = [3.0, 5.0, np.nan]
    peers = peers_of(model(), group, segment="small")
    assert peers.mean[FIRST] == 3.0  # (3 + 5 + 1, the model's median) / 3
    assert peers.median[FIRST] == 4.0  # of 3 and 5
    assert peers.accounts == 3
    assert peers.base_rate == pytest.approx(risk(model(), group).mean())


def test_what_nobody_knows_is_in_the_middle_where_the_model_has_it() -> None:
    nobody = peers_of(model(), np.full((2, len(FEATURES)), np.nan), segment=None)
    assert nobody.median.tolist() == nobody.mean.tolist() == [1.0] * len(FEATURES)


def test_a_segment_is_compared_with_itself_once_it_is_large_enough() -> None:
    large, small = SMALLEST_SEGMENT, SMALLEST_SEGMENT - 1
    segments = ["large"] * large + ["small"] * small + [None] * 5
    own = rows(len(segments))
    found = cohorts_of(model(), own, segments)
    assert set(found) == {None, "large"}
    assert peers_in(found, "large").accounts == large
    assert peers_in(found, "large").segment == "large"
    assert peers_in(found, "large").mean == pytest.approx(own[:large].mean(axis=0))
    for segment in ("small", None, "unheard of"):
        assert peers_in(found, segment).segment is None
        assert peers_in(found, segment).accounts == len(segments)


def test_before_anybody_was_surveyed_there_are_those_of_the_training() -> None:
    found = cohorts_of(model(), rows(0), [])
    trained = peers_of_training(model())
    assert peers_in(found, "any").mean.tolist() == trained.mean.tolist()
    assert (trained.accounts, trained.base_rate) == (model().training.accounts, 0.25)
