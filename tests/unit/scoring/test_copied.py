"""Binary COPY as vectors: rows are found in the bytes whatever the bytes of their values are."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring import copied

INT8 = st.integers(-(2**63), 2**63 - 1)
INT4 = st.integers(-(2**31), 2**31 - 1)
# Values whose bytes look like the beginning of a row: 8 fields, the first of 8 bytes.
LOOKS_LIKE_A_ROW = st.sampled_from(
    [
        int.from_bytes(bytes.fromhex(digits), "big", signed=True)
        for digits in (
            "0008000000080000",
            "0000000800000008",
            "0000000000080000",
            "0008000000080008",
            "0000000400000008",
            "0004000000080008",
            "0008000800080008",
        )
    ]
)
WIDE = INT8 | LOOKS_LIKE_A_ROW


@dataclass(frozen=True)
class Day:
    key: int
    day: int
    events: int
    milliseconds: int
    sources: int
    features: int
    members: list[int]

    def sent(self) -> bytes:
        """As PostgreSQL sends it: https://www.postgresql.org/docs/current/sql-copy.html."""
        listed = self.members or [0]
        array = struct.pack(">iiiii", 1, 0, 20, len(listed), 1)
        array += b"".join(struct.pack(">iq", 8, one) for one in listed)
        return (
            struct.pack(">hiqiiiiiqiqiq", 8, 8, self.key, 4, self.day, 4, self.events, 8,
                        self.milliseconds, 8, self.sources, 8, self.features)
            + struct.pack(">ihi", 2, bool(self.members), len(array))
            + array
        )  # fmt: skip


days = st.builds(
    Day,
    key=WIDE,
    day=INT4,
    events=INT4,
    milliseconds=WIDE,
    sources=WIDE,
    features=WIDE,
    members=st.lists(WIDE, max_size=5),
)


@given(st.lists(days, max_size=8))
def test_days_are_found_whatever_their_values_look_like(sent: list[Day]) -> None:
    rows, owner, values = copied.days_with_members(b"".join(one.sent() for one in sent))
    for name in ("key", "day", "events", "milliseconds", "sources", "features"):
        assert rows[name].tolist() == [getattr(one, name) for one in sent]
    expected = [(place, member) for place, one in enumerate(sent) for member in one.members]
    assert list(zip(owner.tolist(), values.tolist(), strict=True)) == expected


def test_a_day_may_have_as_many_members_as_look_like_the_beginning_of_a_row() -> None:
    # 20 + 12 x 43689 bytes are 0x00080000: the length of such a list begins like a row.
    day = Day(1, 2, 3, 4, 5, 6, list(range(43_689)))
    rows, owner, values = copied.days_with_members(day.sent() * 2)
    assert len(rows) == 2
    assert owner.tolist() == [0] * 43_689 + [1] * 43_689
    assert np.array_equal(values, np.tile(np.arange(43_689), 2))


def test_no_days_are_none() -> None:
    rows, owner, values = copied.days_with_members(b"")
    assert len(rows) == len(owner) == len(values) == 0


def test_days_of_another_layout_are_refused() -> None:
    content = bytearray(Day(1, 2, 3, 4, 5, 6, [6, 7]).sent())
    content[70 + 2 + 4 + 12 + 3] = 9  # It has 9 members, it says.
    with pytest.raises(ValueError, match="not laid out"):
        copied.days_with_members(bytes(content))


def test_rows_of_fixed_width_are_read_in_place_and_a_null_is_refused() -> None:
    layout = copied.layout(key="i8", value="f8")
    sent = struct.pack(">hiqid", 2, 8, 5, 8, 0.25) + struct.pack(">hiqid", 2, 8, -6, 8, 1.5)
    rows = copied.rows(sent, layout)
    assert rows["key"].tolist() == [5, -6]
    assert rows["value"].tolist() == [0.25, 1.5]
    with pytest.raises(ValueError, match=r"not laid out|multiple"):
        copied.rows(struct.pack(">hiqi", 2, 8, 5, -1) * 13, layout)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(rows=st.lists(st.tuples(INT8, INT4, TEXT, TEXT)))
def test_rows_that_end_in_texts_are_found_whatever_the_texts_are(
    rows: list[tuple[int, int, str, str]],
) -> None:
    sent = b""
    for number, day, *texts in rows:
        sent += struct.pack(">hiqii", 4, 8, number, 4, day)
        for one in map(str.encode, texts):
            sent += struct.pack(">i", len(one)) + one
    found, columns = copied.rows_with_texts(sent, copied.layout(number="i8", day="i4"), 2)
    assert list(zip(found["number"], found["day"], *columns, strict=True)) == rows


def test_a_row_with_another_number_of_fields_is_noticed() -> None:
    sent = struct.pack(">hiqi", 3, 8, 1, 0)
    with pytest.raises(ValueError, match="laid out"):
        copied.rows_with_texts(sent, copied.layout(number="i8"), 1)
