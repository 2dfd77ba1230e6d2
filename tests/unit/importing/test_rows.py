import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.importing.mapping import map_accounts, map_events
from services.importing.rows import AccountRows, EventRows, Item, Row, RowError
from services.importing.times import TimeForm
from shared.account_cells import read_cell
from shared.csv_table import CsvRow

EVENTS = ["at", "account", "user", "kind", "feature", "duration_seconds", "note"]
ACCOUNTS = ["id", "name", "seats", "mrr", "contract_end", "goals"]


def event(cells: list[str], *, number: int = 7, **asked: str) -> Row:
    build = EventRows(
        columns=map_events(EVENTS, {"occurred_at": "at", "type": "kind", **asked}),
        header=EVENTS,
        time_form=TimeForm.ISO,
        zone=None,
        default_type="activity",
        id_prefix="abc",
    )
    return build(CsvRow(number, number + 1, cells))


def account(cells: list[str], *, decimal_comma: bool = False) -> Row:
    build = AccountRows(
        columns=map_accounts(ACCOUNTS, {}), header=ACCOUNTS, decimal_comma=decimal_comma
    )
    return build(CsvRow(1, 2, cells))


def sent(row: Row) -> dict[str, Any]:
    assert isinstance(row, Item), row
    fields: dict[str, Any] = json.loads(row.body)
    return fields


def test_a_row_becomes_an_event_named_after_file_and_row() -> None:
    row = event(["2024-01-02", " acme ", "u1", "session_end", "2024", "90.5", "a b"])
    assert sent(row) == {
        "id": "abc-7",
        "account_id": "acme",
        "user_id": "u1",
        "type": "session_end",
        "occurred_at": "2024-01-02T00:00:00+00:00",
        "properties": {"feature": "2024", "duration_seconds": 90.5, "note": "a b"},
    }


def test_empty_cells_are_left_out_and_an_empty_type_is_the_default() -> None:
    assert sent(event(["2024-01-02", "acme", "", "", "", " ", ""])) == {
        "id": "abc-7",
        "account_id": "acme",
        "type": "activity",
        "occurred_at": "2024-01-02T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("cells", "field", "code"),
    [
        (["2024-01-02", " ", "", "", "", "", ""], "account_id", "missing_account"),
        (["2024-01-02", "", "ann", "", "", "", ""], "account_id", "missing_account"),
        (["", "acme", "", "", "", "", ""], "occurred_at", "invalid_time"),
        (["soon", "acme", "", "", "", "", ""], "occurred_at", "invalid_time"),
        (["2024-01-02", "acme", "", "", "", "", "caf\udce9"], "note", "invalid_text"),
        (["2024-01-02", "ac\udce9", "", "", "", "", ""], "account", "invalid_text"),
    ],
)
def test_a_row_that_cannot_be_sent_names_field_and_reason(
    cells: list[str], field: str, code: str
) -> None:
    row = event(cells)
    assert isinstance(row, RowError)
    assert (row.number, row.line, row.field, row.code) == (7, 8, field, code)


def test_an_id_column_without_an_id_is_refused_for_it_would_count_twice() -> None:
    row = event(["2024-01-02", "acme", "", "", "", "", ""], id="note")
    assert isinstance(row, RowError)
    assert (row.field, row.code) == ("id", "invalid_id")
    assert sent(event(["2024-01-02", "acme", "", "", "", "", "n"], id="note"))["id"] == "n"


@given(st.lists(st.text(), min_size=len(EVENTS), max_size=len(EVENTS)))
def test_any_cells_are_an_item_or_an_error(cells: list[str]) -> None:
    row = event(cells)
    assert isinstance(row, RowError) or json.loads(row.body)["account_id"] == row.account


def test_an_account_patch_has_only_the_filled_cells() -> None:
    row = account(["a1", "", "12", "99.50", "2025-01-31", ""])
    assert sent(row) == {"id": "a1", "seats": 12, "mrr": "99.50", "contract_end": "2025-01-31"}


def test_goals_are_json() -> None:
    row = account(["a1", "", "", "", "", '[{"metric":"m","baseline":1,"target":2}]'])
    assert sent(row)["goals"] == [{"metric": "m", "baseline": 1, "target": 2}]


def test_a_decimal_comma_counts_only_where_the_delimiter_is_a_semicolon() -> None:
    assert sent(account(["a1", "", "", "99,5", "", ""], decimal_comma=True))["mrr"] == "99.5"
    assert isinstance(account(["a1", "", "", "99,5", "", ""]), RowError)


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        (["", "Acme", "", "", "", ""], "id"),
        (["a1", "", "12.5", "", "", ""], "seats"),
        (["a1", "", "", "1,234.50", "", ""], "mrr"),
        (["a1", "", "", "", "31.01.2025", ""], "contract_end"),
        (["a1", "", "", "", "2025-02-30", ""], "contract_end"),
        (["a1", "", "", "", "", "a goal"], "goals"),
    ],
)
def test_a_wrong_account_field_is_named(cells: list[str], field: str) -> None:
    row = account(cells)
    assert isinstance(row, RowError)
    assert row.field == field


def test_a_dot_before_three_digits_is_refused_beside_decimal_commas() -> None:
    # 1.234 may be 1234 where the comma is decimal.
    assert isinstance(account(["a1", "", "", "1.234", "", ""], decimal_comma=True), RowError)
    assert sent(account(["a1", "", "", "1.234", "", ""]))["mrr"] == "1.234"


@pytest.mark.parametrize(
    ("text", "decimal_comma", "value"), [("-12.50", False, "-12.50"), ("-12,5", True, "-12.5")]
)
def test_a_margin_may_be_negative(text: str, value: str, *, decimal_comma: bool) -> None:
    assert read_cell("margin_per_month", text, decimal_comma=decimal_comma) == value
