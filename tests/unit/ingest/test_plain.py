"""The short way and the careful one come to the same end."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingest.decoding import decode, decode_carefully
from services.ingest.formats.native import NATIVE
from services.ingest.plain import decode_plain
from services.ingest.replies import Refused
from services.ingest.wire import Submission
from shared.messages import Source
from tests.unit.ingest.decoded import NOW, RULES, SUBMISSION
from tests.unit.ingest.native_bodies import item
from tests.unit.ingest.test_native_envelopes import JSON, LINES

_TYPES = ["login", "Page View", "session_end", "feedback", "", "x" * 101, "a\0", "group"]
_TIMES = [
    NOW.isoformat(),
    "2026-03-10T13:30:00+02:00",
    "2026-03-10T11:59:59.999999999Z",
    "2026-03-10T11:00:00",
    (NOW + timedelta(minutes=5)).isoformat(),
    (NOW + timedelta(minutes=5, seconds=1)).isoformat(),
    (NOW - timedelta(days=30)).isoformat(),
    (NOW - timedelta(days=30, seconds=1)).isoformat(),
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-01:00",
    1_773_140_000,
    "today",
    None,
]
_NAMES = st.sampled_from(["acme", " acme ", "null", "", "0", "é", "a" * 200, "a" * 201, "\ud83d"])
_ITEMS = st.builds(
    item,
    id=st.sampled_from(["1", "2", "3"]) | _NAMES | JSON,
    account_id=_NAMES | st.just("acme") | st.integers(),
    tenant_id=st.none() | _NAMES,
    user_id=st.none() | _NAMES,
    type=st.just("login") | st.sampled_from(_TYPES),
    occurred_at=st.sampled_from(_TIMES),
    properties=st.none()
    | st.dictionaries(st.text(max_size=5), JSON, max_size=4)
    | st.fixed_dictionaries({"duration_seconds": st.integers(-1, 90_000) | st.floats()}),
)
_WRAPPED: dict[str, Callable[[list[object]], object]] = {
    "array": lambda items: items,
    "one": lambda items: items[0],
    "object": lambda items: {"events": items},
    "more members": lambda items: {"events": items, "sent_at": None, "other": 1},
    "sent_at": lambda items: {"events": items, "sent_at": NOW.isoformat()},
    "one with sent_at": lambda items: {
        **(items[0] if isinstance(items[0], dict) else {}),
        "sent_at": "2026-03-10T10:00:00Z",
    },
    "null": lambda items: {**item(), "events": None, "first": items[0]},
}
_SUBMISSIONS = [
    SUBMISSION,
    LINES,
    replace(SUBMISSION, marks_backfill=True, idempotency_key="k"),
    replace(SUBMISSION, source=Source(name="app", type_map={"login": "page_view"})),
    replace(SUBMISSION, source=Source(name="app", default_account="us")),
]


def _both(body: bytes, submission: Submission) -> bool:
    """Whether the short way took the body; it ends as the careful one does."""
    try:
        careful = decode_carefully(NATIVE, body, submission, RULES)
    except Refused:
        assert decode_plain(body, submission, RULES) is None
        return False
    plain = decode_plain(body, submission, RULES)
    assert plain is None or plain == careful
    return plain is not None


@given(
    items=st.lists(_ITEMS | st.builds(item, id=st.text(min_size=1)), min_size=1, max_size=4),
    wrap=st.sampled_from([*_WRAPPED.values()]),
    submission=st.sampled_from(_SUBMISSIONS),
)
def test_they_agree_on_every_body(
    items: list[object], wrap: Callable[[list[object]], object], submission: Submission
) -> None:
    _both(json.dumps(wrap(items)).encode("utf-8", "surrogatepass"), submission)


@pytest.mark.parametrize("shape", ["array", "one", "object", "more members"])
def test_ordinary_bodies_take_the_short_way(shape: str) -> None:
    many = [
        item(
            id=str(number),
            user_id=f"user-{number}",
            type="session_end",
            occurred_at="2026-03-10T13:30:00+02:00",
            properties={"duration_seconds": number, "plan": None, "is_new": True, "x": 1.5},
        )
        for number in range(100)
    ]
    assert _both(json.dumps(_WRAPPED[shape](list(many))).encode(), SUBMISSION)


def test_what_needs_a_word_takes_the_careful_way() -> None:
    for unusual in (
        [item(id=None)],
        [item(), item()],
        [item(user_id="anonymous")],
        [item(type="session_end", properties={"duration_seconds": -1})],
        [item(type="feedback", properties={"score": 9, "comment": "fine"})],
        [item(properties={"list": []})],
        [item(account_id="null")],
        [item(account_id=None, user_id="ada")],
        [item(), item(id="2", account_id="", user_id="ada")],
        [item(), item(type=None)],
    ):
        assert not _both(json.dumps(unusual).encode(), SUBMISSION)


def test_a_body_larger_than_an_item_may_be_takes_the_careful_way() -> None:
    body = json.dumps([item(id=str(number)) for number in range(2_000)]).encode()
    assert len(body) > RULES.max_item_bytes
    assert decode_plain(body, SUBMISSION, RULES) is None
    assert len(decode(NATIVE, body, SUBMISSION, RULES).results) == 2_000
