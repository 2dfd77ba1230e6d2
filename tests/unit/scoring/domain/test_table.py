"""Rows come back from storage as they went, and only under the columns they were made of."""

from datetime import date

import numpy as np
import pytest

from services.scoring.domain.table import COLUMNS, IndicatorTable, table_of, unpack
from tests.unit.scoring.factories import AS_OF, history
from tests.unit.scoring.factories import table_of as measured


def test_a_stored_row_comes_back_bit_for_bit() -> None:
    table = measured([history([0, 1, 40]), history([])])
    packed = table.packed()
    assert [len(row) for row in packed] == [8 * len(COLUMNS)] * 2
    back = unpack(AS_OF, packed)
    assert back.values.tobytes() == np.ascontiguousarray(table.values).tobytes()
    assert back.as_of == AS_OF
    assert len(unpack(AS_OF, [])) == 0


def test_columns_are_found_by_name_and_are_views() -> None:
    table = table_of(date(2026, 1, 1), {name: np.arange(2.0) for name in COLUMNS})
    table.column("stickiness")[1] = 7
    assert table.row(1)["stickiness"] == 7
    assert table.row(0)["stickiness"] == 0
    assert table.where(np.array([False, True])).row(0) == table.row(1)


def test_a_table_of_other_columns_is_a_mistake() -> None:
    columns = {name: np.zeros(1) for name in COLUMNS[1:]}
    with pytest.raises(ValueError, match=COLUMNS[0]):
        table_of(AS_OF, columns)


def test_column_names_are_distinct() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert IndicatorTable(AS_OF, np.empty((0, len(COLUMNS)))).packed() == []
