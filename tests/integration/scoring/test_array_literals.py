"""PostgreSQL reads each array as it was."""

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.scoring.array_literals import MOMENT, integers, moments, texts

MOMENTS = st.datetimes(
    min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - made aware below
    max_value=datetime(2254, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
# PostgreSQL has no NUL, and no half of a pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
AWKWARD = st.sampled_from(
    ["", "NULL", '"', "\\", '\\"', "{}", "a,b", " ", "\n", "{", '","', "\x1f"]
)


@given(
    st.lists(TEXTS | AWKWARD),
    st.lists(st.integers(-(2**63), 2**63 - 1)),
    st.lists(MOMENTS),
)
@settings(
    max_examples=25,
    deadline=None,
    # The database keeps nothing of an example.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_an_array_is_read_as_it_was(
    database_url: str,
    names: Sequence[str],
    numbers: list[int],
    times: Sequence[datetime],
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        row = await connection.fetchrow(
            "SELECT $1::text::text[], $2::text::bigint[], array(SELECT"
            f" {MOMENT.format('n')} FROM unnest($3::text::bigint[]) WITH ORDINALITY AS m (n, place)"
            " ORDER BY place)",
            texts(names),
            integers(numbers),
            moments(times),
        )
    finally:
        await connection.close()
    assert row is not None
    assert (row[0], row[1], row[2]) == (names, numbers, times)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["nul", "half a pair"])
async def test_what_postgres_cannot_hold_is_an_error_of_the_data(
    database_url: str, name: str
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("SELECT $1::text::text[]", texts([name]))
    finally:
        await connection.close()
