"""What an address asks of the list of accounts, and cells of its file."""

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.console.listing import Wanted, wanted_of, wanted_of_query
from services.notifier.console.spreadsheet import Cell, defused, lines

TEXTS = st.text(max_size=20)


@given(st.dictionaries(st.sampled_from(["q", "band", "owner", "sort", "order", "x"]), TEXTS))
def test_an_address_of_a_wish_asks_for_the_same(given_: dict[str, str]) -> None:
    wanted = wanted_of(given_)
    assert wanted_of_query(wanted.query) == wanted


def test_what_is_usual_is_not_in_the_address() -> None:
    assert Wanted().query == ""
    assert Wanted(order="asc").query == "sort=risk&order=asc"
    assert Wanted(sort="mrr", owner="a@b.example").query == "owner=a%40b.example&sort=mrr"


def test_a_column_is_sorted_the_way_one_expects_then_the_other_way_round() -> None:
    by_name = Wanted().sorted_by("name")
    assert (by_name.sort, by_name.order) == ("name", "asc")
    assert by_name.sorted_by("name").order == "desc"
    assert by_name.sorted_by("risk") == Wanted()


@given(TEXTS)
def test_no_cell_begins_a_formula_and_all_come_back(text: str) -> None:
    (row,) = csv.reader(io.StringIO(lines([[text, 1]]).decode(), newline=""))
    assert row[0].replace("'", "") == text.replace("'", "")
    # Excel begins another cell at a semicolon, in countries whose decimal sign is the comma.
    for cell in row[0].split(";"):
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert defused(text) == row[0]


def test_a_semicolon_begins_no_formula_and_what_begins_none_is_left_alone() -> None:
    assert defused('x;=HYPERLINK("//a")') == """x;'=HYPERLINK("//a")"""
    assert defused("a; b; c-d") == "a; b; c-d"


def test_numbers_stay_numbers_and_what_is_not_known_is_empty() -> None:
    moment = datetime(2026, 6, 1, 12, tzinfo=UTC)
    row: list[Cell] = [-0.5, Decimal("-2.50"), 7, None, date(2026, 6, 1), moment]
    assert lines([row]) == b"-0.5,-2.50,7,,2026-06-01,2026-06-01T12:00:00+00:00\r\n"
