"""The features are the indicators, transformed, in one declared order."""

from dataclasses import fields

import numpy as np
import pytest

from services.scoring.domain.features import (
    FEATURES,
    FeatureDefinition,
    in_unit,
    model_row,
    rows,
    schema_hash,
)
from services.scoring.domain.indicators import Indicators
from tests.unit.scoring.factories import history, indicators, indicators_of

INDEX = {feature.name: index for index, feature in enumerate(FEATURES)}


def test_there_are_sixteen_and_each_is_an_indicator() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(names) == len(set(names)) == 16
    assert set(names) <= {field.name for field in fields(Indicators)}


def test_a_row_holds_the_transformed_values_in_order() -> None:
    row = model_row(indicators(recency_days=9, active_days_90=18, stickiness=0.25))
    assert row.shape == (16,)
    assert row[INDEX["recency_days"]] == pytest.approx(np.log(10))  # log(1 + 9)
    assert row[INDEX["active_days_90"]] == pytest.approx(0.2)  # 18 / 90
    assert row[INDEX["stickiness"]] == 0.25


def test_a_missing_value_is_nan() -> None:
    row = model_row(indicators_of(history([0, 1, 30], users=[(), (), ()])))
    assert np.isnan(row[INDEX["active_users_28"]])
    assert np.isnan(row[INDEX["breadth_365"]])
    assert not np.isnan(row[INDEX["events_28"]])


def test_many_rows_are_the_rows_of_each() -> None:
    several = [indicators(recency_days=days) for days in (0, 3, 80)]
    each = np.array([model_row(one) for one in several])
    assert np.array_equal(rows(several), each, equal_nan=True)
    assert rows([]).shape == (0, 16)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_value_comes_back_in_its_unit(feature: FeatureDefinition) -> None:
    one = indicators(recency_days=12, share_of_known_users=0.4, champion_share=0.7, breadth_365=3)
    value = float(model_row(one)[INDEX[feature.name]])
    assert in_unit(feature, value) == pytest.approx(float(getattr(one, feature.name)))


def test_the_schema_hash_guards_the_definitions() -> None:
    # Changed on purpose? Then every stored model must be trained again: say so in the CHANGELOG.
    assert schema_hash() == "d6fab46863dfc1af33aa651af3f87d29998c153542d72f9a7fe969fbb9eac8ca"
