"""The features are the indicators, transformed, in one declared order."""

import numpy as np
import pytest

from services.scoring.domain.features import (
    FEATURES,
    FeatureDefinition,
    Row,
    in_unit,
    rows,
    schema_hash,
)
from services.scoring.domain.table import COLUMNS
from tests.unit.scoring.factories import history, table_of

INDEX = {feature.name: index for index, feature in enumerate(FEATURES)}


def row_with(**changes: float) -> Row:
    """The features of an account that came every second day for a year, but for some columns."""
    table = table_of([history(range(0, 365, 2))])
    for name, value in changes.items():
        table.column(name)[0] = value
    row: Row = rows(table)[0]
    return row


def test_there_are_sixteen_and_each_is_an_indicator() -> None:
    names = [feature.name for feature in FEATURES]
    assert len(names) == len(set(names)) == 16
    assert set(names) <= set(COLUMNS)


def test_a_row_holds_the_transformed_values_in_order() -> None:
    row = row_with(recency_days=9, active_days_90=18, stickiness=0.25)
    assert row.shape == (16,)
    assert row[INDEX["recency_days"]] == pytest.approx(np.log(10))  # log(1 + 9)
    assert row[INDEX["active_days_90"]] == pytest.approx(0.2)  # 18 / 90
    assert row[INDEX["stickiness"]] == 0.25


def test_a_missing_value_is_nan() -> None:
    (row,) = rows(table_of([history([0, 1, 30], users=[(), (), ()])]))
    assert np.isnan(row[INDEX["active_users_28"]])
    assert np.isnan(row[INDEX["breadth_365"]])
    assert not np.isnan(row[INDEX["events_28"]])


def test_many_rows_are_the_rows_of_each() -> None:
    several = [history([0, 5, age]) for age in (30, 60, 80)]
    each = [rows(table_of([one]))[0] for one in several]
    assert np.array_equal(rows(table_of(several)), each, equal_nan=True)
    assert rows(table_of([])).shape == (0, 16)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_value_comes_back_in_its_unit(feature: FeatureDefinition) -> None:
    value = float(row_with(**{feature.name: 0.5})[INDEX[feature.name]])
    assert in_unit(feature, value) == pytest.approx(0.5)


def test_the_schema_hash_guards_the_definitions() -> None:
    # Changed on purpose? Then every stored model must be trained again: say so in the CHANGELOG.
    assert schema_hash() == "d6fab46863dfc1af33aa651af3f87d29998c153542d72f9a7fe969fbb9eac8ca"
