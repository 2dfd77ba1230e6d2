"""Traces as text: what callers state is read strictly, and nobody's data travels in it."""

import asyncio
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import traceparent
from shared.log import Record, StoredRecord, size_of, sizes_of
from shared.traceparent import GoingOn, Traceparent

GIVEN = Traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
OTHER = Traceparent("00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")


def stored(value: bytes | None, key: bytes = b"acme") -> StoredRecord:
    headers = () if value is None else (("traceparent", value),)
    return StoredRecord(
        offset=0, key=key, value=b"", headers=headers, appended_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param(GIVEN, id="version 0"),
        pytest.param("cc" + GIVEN[2:], id="a later version, as long"),
        pytest.param("cc" + GIVEN[2:] + "-what-comes", id="a later version, longer"),
        pytest.param(GIVEN[:-2] + "ff", id="flags that are not known yet"),
    ],
)
def test_what_the_standard_allows_is_read_as_version_0(stated: str) -> None:
    assert traceparent.parse(stated.encode()) == GIVEN


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param("", id="empty"),
        pytest.param("ff" + GIVEN[2:], id="the version that is forbidden"),
        pytest.param(GIVEN.upper(), id="upper case"),
        pytest.param(GIVEN + "-more", id="version 0, longer"),
        pytest.param("cc" + GIVEN[2:] + "more", id="a later version, without a dash"),
        pytest.param(GIVEN[:-1], id="shorter"),
        pytest.param("00-" + "0" * 32 + GIVEN[35:], id="no trace"),
        pytest.param(GIVEN[:36] + "0" * 16 + GIVEN[52:], id="no span"),
        pytest.param(GIVEN.replace("-", "_"), id="other dashes"),
        pytest.param(GIVEN + "\n", id="a line's end"),
        pytest.param("٠" * 55, id="digits of another script"),
        pytest.param(f"{GIVEN},{GIVEN}", id="two in one"),
    ],
)
def test_all_else_is_none(stated: str) -> None:
    assert traceparent.parse(stated) is None
    assert traceparent.parse(stated.encode()) is None


@given(st.binary(max_size=120))
def test_hostile_bytes_never_come_out(stated: bytes) -> None:
    found = traceparent.parse(stated)
    assert found is None or FORM.fullmatch(found)


@given(st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,20})?"))
def test_what_nearly_fits_comes_out_whole_or_not_at_all(stated: bytes) -> None:
    found = traceparent.parse(stated)
    assert found is None or (FORM.fullmatch(found) and found[3:52] == stated[3:52].decode())


def test_what_begins_here_is_well_formed_and_never_the_same() -> None:
    begun = {traceparent.new() for _ in range(1_000)}
    assert len(begun) == 1_000
    assert all(FORM.fullmatch(one) and not traceparent.is_sampled(one) for one in begun)


def test_a_child_keeps_the_trace_and_the_sampling() -> None:
    child = traceparent.child(GIVEN)
    assert FORM.fullmatch(child)
    assert traceparent.trace_id(child) == traceparent.trace_id(GIVEN)
    assert traceparent.span_id(child) != traceparent.span_id(GIVEN)
    assert traceparent.is_sampled(child)


def test_of_a_repeated_header_the_last_one_counts_and_a_broken_one_is_none() -> None:
    twice = (("traceparent", OTHER.encode()), ("other", b"x"), ("traceparent", GIVEN.encode()))
    assert traceparent.of_headers(twice) == GIVEN
    assert traceparent.of_headers((*twice, ("traceparent", b"\xff\x00"))) is None
    assert traceparent.of_headers(()) is None


def test_many_records_are_of_one_trace_only_where_all_are() -> None:
    one, other, none = stored(GIVEN.encode()), stored(OTHER.encode()), stored(None)
    child = stored(traceparent.child(GIVEN).encode())

    def of(*records: StoredRecord) -> Traceparent | None:
        return traceparent.only(traceparent.of_records(records, most=10))

    assert of(one, child, one) == GIVEN
    assert of(one, other) is None
    assert of(one, none) is None
    assert of(none, none) is None


def test_each_key_has_the_trace_of_its_last_record() -> None:
    records = [stored(GIVEN.encode()), stored(OTHER.encode()), stored(GIVEN.encode(), key=b"b")]
    assert traceparent.by_key([*records, stored(None, key=b"c"), stored(b"no", key=b"d")]) == {
        b"acme": OTHER,
        b"b": GIVEN,
    }


async def test_what_a_task_does_is_of_its_trace_alone() -> None:
    seen: dict[str, Traceparent | None] = {}

    async def work(name: str, trace: Traceparent) -> None:
        traceparent.go_on(trace)
        await asyncio.sleep(0)
        seen[name] = traceparent.current()

    await asyncio.gather(work("a", GIVEN), work("b", OTHER))
    assert seen == {"a": GIVEN, "b": OTHER}
    assert traceparent.current() is None


def test_what_ends_goes_on_as_before() -> None:
    with GoingOn(GIVEN):
        with GoingOn(None):
            assert traceparent.current() is None
            assert traceparent.http_headers() == {}
        assert traceparent.begun() == GIVEN
        assert traceparent.http_headers() == {"traceparent": GIVEN}
    assert traceparent.begun() != GIVEN


_HEADERS = st.sampled_from([(), (("traceparent", b"x" * 55),), (("é", b""), ("b", b"yy"))])
_RECORDS = st.lists(
    st.builds(
        lambda key, value, headers: Record(key=key, value=value, headers=headers),
        st.binary(max_size=4),
        st.none() | st.binary(max_size=4),
        _HEADERS,
    ),
    max_size=6,
)


@given(_RECORDS)
def test_the_sizes_of_many_are_those_of_each(records: list[Record]) -> None:
    assert sizes_of(records) == [size_of(record) for record in records]


def test_the_header_is_as_large_as_is_said() -> None:
    record = Record(key=b"", value=None, headers=traceparent.headers_of(GIVEN))
    assert size_of(record) == traceparent.HEADER_BYTES
