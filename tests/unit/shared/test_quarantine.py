"""What goes to quarantine: as it came, with where and why, and always small enough to go."""

from datetime import UTC, datetime

import pytest

from shared.errors import InvalidMessage
from shared.log import MAX_RECORD_BYTES, Record, StoredRecord, TopicPartition, size_of
from shared.quarantine import (
    RejectedId,
    Settlement,
    is_id,
    read_rejected,
    read_settlement,
    rejected,
    rejected_item,
    settlement_record,
)

_AT = TopicPartition("usage-events", 3)
_ERROR = InvalidMessage("not_json", "value")


def _stored(
    *, key: bytes = b"acme", value: bytes | None = b"{", headers: tuple[tuple[str, bytes], ...] = ()
) -> StoredRecord:
    now = datetime(2026, 6, 15, tzinfo=UTC)
    return StoredRecord(offset=42, key=key, value=value, headers=headers, appended_at=now)


def test_the_record_stays_as_it_was_and_says_where_and_why() -> None:
    stored = _stored(headers=(("traceparent", b"00"),))
    record = rejected(stored, _AT, _ERROR, stage="intake")
    assert (record.key, record.value) == (stored.key, stored.value)
    assert record.headers[0] == ("traceparent", b"00")
    said = dict(record.headers)
    assert said["__connect.errors.topic"] == b"usage-events"
    assert said["__connect.errors.partition"] == b"3"
    assert said["__connect.errors.offset"] == b"42"
    assert said["__connect.errors.stage"] == b"intake"
    assert said["perennial.code"] == b"not_json"
    assert "perennial.cut" not in said


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(_stored(value=b"v" * (MAX_RECORD_BYTES - 4)), id="as large as may be"),
        pytest.param(_stored(value=b"v" * 2_000_000), id="a value of somebody else"),
        pytest.param(_stored(headers=(("h", b"v" * 2_000_000),)), id="headers"),
        pytest.param(_stored(key=b"k" * 2_000_000, value=None), id="a key"),
    ],
)
def test_what_is_too_large_for_the_log_is_cut_and_says_so(stored: StoredRecord) -> None:
    record = rejected(stored, _AT, _ERROR, stage="intake")
    assert size_of(record) <= MAX_RECORD_BYTES
    said = dict(record.headers)
    assert said["perennial.cut"] == f"{len(stored.key)}+{len(stored.value or b'')}".encode()
    assert said["perennial.code"] == b"not_json"
    assert stored.key.startswith(record.key)
    assert (stored.value or b"").startswith(record.value or b"")
    assert (record.value is None) == (stored.value is None)


def test_a_detail_that_is_no_text_goes_too() -> None:
    error = InvalidMessage("odd", "a lone \ud800 surrogate")
    assert size_of(rejected(_stored(), _AT, error, stage="intake")) > 0


def _again(record: Record) -> StoredRecord:
    return _stored(key=record.key, value=record.value, headers=record.headers)


def test_a_consumers_record_is_read_back_as_it_was() -> None:
    own = (("traceparent", b"00"), ("perennial.erased_at", b"x"))
    stored = _stored(value=b'{"source":"app","id":7}', headers=own)
    found = read_rejected(_again(rejected(stored, _AT, _ERROR, stage="scoring.intake")), 2)
    assert found is not None
    assert found.id == "2-42"
    assert (found.stage, found.code, found.reason) == ("scoring.intake", "not_json", "value")
    assert (found.topic, found.source, found.account) == ("usage-events", "app", "acme")
    assert (found.key, found.value, found.own_headers) == (stored.key, stored.value, own)
    assert found.why_not_replayable is None


@pytest.mark.parametrize(
    ("stored", "at", "why"),
    [
        pytest.param(_stored(value=b"v" * 2_000_000), _AT, "cut", id="cut"),
        pytest.param(
            _stored(), TopicPartition("accounts", 0), "replace a newer one", id="compacted"
        ),
    ],
)
def test_what_cannot_go_back_says_why(stored: StoredRecord, at: TopicPartition, why: str) -> None:
    found = read_rejected(_again(rejected(stored, at, _ERROR, stage="intake")), 0)
    assert found is not None
    assert why in (found.why_not_replayable or "")


@pytest.mark.parametrize(
    ("topic", "account"), [("usage-events", "acme"), ("unplaced-events", None)]
)
def test_the_key_of_a_record_is_its_account_but_for_events_of_a_user_alone(
    topic: str, account: str | None
) -> None:
    stored = _stored(key=b"acme")
    error = InvalidMessage("missing_account", "none")
    record = rejected(stored, TopicPartition(topic, 1), error, stage="scoring.placing")
    found = read_rejected(_again(record), 0)
    assert found is not None
    assert (found.account, found.key, found.topic) == (account, b"acme", topic)
    assert found.why_not_replayable is None


def test_an_item_says_what_reading_it_takes() -> None:
    half = "caf\udce9"
    said = {"received_at": "2026-06-15T00:00:00+00:00", "addressed": half, "source": "app"}
    record = rejected_item(b"acme", b"{}", _ERROR, {**said, "path": None})
    found = read_rejected(_again(record), 0)
    assert found is not None
    assert (found.stage, found.topic, found.source) == ("ingest.decode", None, "app")
    assert found.said.items() >= said.items()
    assert "path" not in found.said
    assert found.why_not_replayable is None


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(_stored(value=None), id="nothing"),
        pytest.param(_stored(value=b"\xff" * 10), id="no text"),
        pytest.param(_stored(headers=(("perennial.code", b"\xff\xfe"),)), id="broken headers"),
    ],
)
def test_whatever_lies_in_the_topic_can_be_looked_at(stored: StoredRecord) -> None:
    found = read_rejected(stored, 0)
    assert found is not None
    assert found.why_not_replayable is not None


def test_a_marker_is_no_rejected_record() -> None:
    settlement = Settlement(
        ids=(RejectedId("0-1"), RejectedId("2-42")),
        state="dropped",
        by="ada",
        at=datetime(2026, 6, 15, tzinfo=UTC),
    )
    stored = _again(settlement_record(settlement))
    assert read_rejected(stored, 0) is None
    assert read_settlement(stored) == settlement


def test_a_record_that_looks_like_a_marker_settles_nothing() -> None:
    settlement = Settlement(ids=(RejectedId("0-1"),), state="dropped", by="a", at=datetime.now(UTC))
    value = settlement_record(settlement).value
    assert read_settlement(_stored(value=value)) is None
    assert read_settlement(_stored(headers=(("perennial.settles", b"1"),))) is None


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "a-1", "1-\u0661", "1-1\n"])
def test_an_id_is_a_partition_and_an_offset(text: str) -> None:
    assert is_id("0-17")
    assert not is_id(text)
