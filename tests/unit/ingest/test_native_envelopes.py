"""What a body may look like as a whole, and that no body whatever breaks anything."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingest.envelope import is_lines
from services.ingest.replies import Refused
from shared.messages import UNPLACED_EVENTS
from tests.unit.ingest.decoded import SUBMISSION, codes, events, records, unplaced
from tests.unit.ingest.native_bodies import item, take

LINES = replace(SUBMISSION, headers={b"content-type": b"application/x-ndjson"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.sampled_from(
    ["id", "account_id", "tenant_id", "user_id", "type", "occurred_at", "properties", "other"]
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'[{"id":"e-1","account_id":"acme","type":"login"}]', id="array"),
        pytest.param(b' \n[{"id":"e-1","account_id":"acme","type":"login"}]\n', id="blanks around"),
        pytest.param(b'{"events":[{"id":"e-1","account_id":"acme","type":"login"}]}', id="events"),
        pytest.param(
            b'{"sent_at":null,"x":[1],"events":[{"id":"e-1","account_id":"acme","type":"login"}]}',
            id="more beside events",
        ),
        pytest.param(b'{"id":"e-1","account_id":"acme","type":"login"}', id="one event"),
        pytest.param(
            b'{"events":null,"id":"e-1","account_id":"acme","type":"login"}', id="null as absent"
        ),
        pytest.param(
            b'\xef\xbb\xbf{"id":"e-1","account_id":"acme","type":"login"}', id="byte order mark"
        ),
        pytest.param(b'{"id":"e-1","account_id":"acme","type":"login","x":NaN}', id="NaN beside"),
    ],
)
def test_an_envelope_is_opened(body: bytes) -> None:
    assert [event.id for event in events(take(body))] == ["e-1"]


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        pytest.param(b"", "invalid_json", "column", id="empty body"),
        pytest.param(b'[{"id":"1"}', "invalid_json", "column", id="cut short"),
        pytest.param(b'[{"id":"1"},]', "invalid_json", "column", id="trailing comma"),
        pytest.param(b"account_id=acme", "invalid_json", "column", id="a form"),
        pytest.param('[{"id":"1"}]'.encode("utf-16"), "invalid_json", "JSON", id="UTF-16"),
        pytest.param(b"[" * 100_000, "invalid_json", "nested", id="100,000 levels"),
        pytest.param(b"[]", "invalid_envelope", "no events", id="empty batch"),
        pytest.param(b'{"events":[]}', "invalid_envelope", "no events", id="empty events"),
        pytest.param(b'{"events":5}', "invalid_envelope", "array", id="events is a number"),
        pytest.param(b'"text"', "invalid_envelope", "array", id="text"),
        pytest.param(b"null", "invalid_envelope", "array", id="null"),
        pytest.param(b'{"events":[{}],"sent_at":"now"}', "invalid_envelope", "sent_at", id="sent"),
        pytest.param(b"[" + b"{}," * 2000 + b"{}]", "too_many_items", "2000", id="2,001 items"),
        pytest.param(
            b"[" + b"0," * 2**20 + b"0]", "too_many_items", "split", id="a million values"
        ),
    ],
)
def test_a_bad_envelope_is_refused_as_a_whole(body: bytes, code: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        take(body)
    assert refused.value.code == code


def test_a_bad_line_is_rejected_alone() -> None:
    good = json.dumps(item()).encode()
    decoded = take(b'\n{"id":\n' + good + b"\r\n\n", LINES)

    assert codes(decoded) == ["invalid_json", None]
    assert [result.index for result in decoded.results] == [0, 1]


def test_lines_are_told_by_the_media_type() -> None:
    assert is_lines(b"application/x-ndjson; charset=utf-8")
    assert is_lines(b"Application/JSONL")
    assert not is_lines(b"application/json")
    assert not is_lines(None)


@given(
    items=st.lists(
        JSON
        | st.dictionaries(FIELDS, JSON)
        | st.builds(
            item,
            id=st.text(max_size=5),
            account_id=st.text(max_size=5),
            user_id=st.text(max_size=5),
            properties=st.dictionaries(st.text(), JSON, max_size=3),
            occurred_at=st.integers() | st.floats() | st.datetimes().map(str) | st.none(),
        ),
        min_size=1,
        max_size=8,
    ),
    ascii_only=st.booleans(),
)
def test_any_json_gives_one_result_per_item(items: list[object], *, ascii_only: bool) -> None:
    body = json.dumps(items, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    decoded = take(body)

    assert [result.index for result in decoded.results] == list(range(len(items)))
    for result in decoded.results:
        assert (result.status == "rejected") == (result.code is not None)
    stored = [*records(decoded), *records(decoded, UNPLACED_EVENTS)]
    waiting = len(stored) + len(decoded.duplicates)
    assert waiting == sum(result.status == "retry" for result in decoded.results)
    # What goes on the log can be read back, and what is answered can be written.
    assert len(events(decoded)) + len(unplaced(decoded)) == len(stored)
    msgspec.json.encode(decoded.results)


@given(body=st.binary(max_size=200), lines=st.booleans())
def test_any_bytes_are_refused_or_answered_item_by_item(body: bytes, *, lines: bool) -> None:
    try:
        decoded = take(body, LINES if lines else SUBMISSION)
    except Refused as refused:
        assert refused.message  # noqa: PT017 - both ends are designed
    else:
        assert decoded.results


@given(st.binary(min_size=1, max_size=3), st.integers(0, 200))
def test_a_damaged_body_breaks_nothing(damage: bytes, position: int) -> None:
    body = json.dumps({"events": [item(user_id="u", properties={"a": ["b", 1.5]}), item()]})
    data = bytearray(body.encode())
    data[position : position + len(damage)] = damage
    try:
        decoded = take(bytes(data))
    except Refused as refused:
        assert refused.message  # noqa: PT017 - both ends are designed
    else:
        assert decoded.results
        events(decoded)


def test_many_values_that_only_the_slow_reader_takes_are_refused_before_it_reads() -> None:
    many = b"[NaN" + b",1" * 200_001 + b"]"
    with pytest.raises(Refused) as refused:
        take(many)
    assert refused.value.code == "too_many_items"
