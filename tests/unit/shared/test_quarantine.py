"""What goes to quarantine: as it came, with where and why, and always small enough to go."""

from datetime import UTC, datetime

import pytest

from shared.errors import InvalidMessage
from shared.log import MAX_RECORD_BYTES, StoredRecord, TopicPartition, size_of
from shared.quarantine import rejected

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
