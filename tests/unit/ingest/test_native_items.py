"""Each rule about single events: its code, its warning, or the value it becomes."""

import json
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared import messages
from shared.credentials import hash_user
from shared.messages import PlacedBy, Source, UsageEvent
from tests.unit.ingest.decoded import (
    NOW,
    RULES,
    SUBMISSION,
    USER_KEY,
    codes,
    events,
    records,
    unplaced,
    warnings,
)
from tests.unit.ingest.native_bodies import item, take


@pytest.mark.parametrize(
    ("bad", "code", "names"),
    [
        pytest.param(item(account_id=None), "missing_account", "account_id", id="no account"),
        pytest.param(item(account_id=""), "missing_account", "account_id", id="empty account"),
        pytest.param(item(account_id="  "), "missing_account", "account_id", id="blank account"),
        pytest.param(item(account_id="null"), "invalid_account", "placeholder", id="null as text"),
        pytest.param(
            item(account_id="[object Object]"), "invalid_account", "placeholder", id="JS object"
        ),
        pytest.param(
            item(account_id="undefined"), "invalid_account", "placeholder", id="undefined"
        ),
        pytest.param(item(account_id="a" * 201), "invalid_account", "200", id="long account"),
        pytest.param(item(account_id=1.5), "invalid_account", "text", id="fraction as account"),
        pytest.param(item(account_id=True), "invalid_account", "text", id="truth as account"),
        pytest.param(item(account_id={"a": 1}), "invalid_account", "text", id="object as account"),
        pytest.param(
            item(tenant_id="other"), "conflicting_account", "tenant_id", id="two accounts"
        ),
        pytest.param(item(account_id="a\0b"), "invalid_text", "account_id", id="NUL in account"),
        pytest.param(item(id="a\0b"), "invalid_text", "id", id="NUL in id"),
        pytest.param(item(user_id="a\0b"), "invalid_text", "user_id", id="NUL in user"),
        pytest.param(item(type="a\0b"), "invalid_text", "type", id="NUL in type"),
        pytest.param(item(type=None), "missing_type", "type", id="no type"),
        pytest.param(item(type=" "), "missing_type", "type", id="blank type"),
        pytest.param(item(type=7), "invalid_type", "type", id="number as type"),
        pytest.param(item(type="t" * 101), "invalid_type", "100", id="long type"),
        pytest.param(item(type=" " * 60_000), "invalid_type", "100", id="very long blank type"),
        pytest.param(item(id=""), "invalid_id", "200", id="empty id"),
        pytest.param(item(id="i" * 201), "invalid_id", "200", id="long id"),
        pytest.param(item(id=["x"]), "invalid_id", "text", id="list as id"),
        pytest.param(item(user_id=1.5), "invalid_field", "user_id", id="fraction as user"),
        pytest.param(item(user_id="u" * 201), "invalid_field", "user_id", id="long user"),
        pytest.param(item(properties=[1]), "invalid_properties", "object", id="list of properties"),
        pytest.param(
            item(properties={f"p{n}": n for n in range(101)}),
            "invalid_properties",
            "100",
            id="many properties",
        ),
        pytest.param(item(x="y" * 65_536), "event_too_large", "65536", id="large item"),
        pytest.param("text", "invalid_field", "object", id="text as item"),
        pytest.param(None, "invalid_field", "object", id="null as item"),
        pytest.param([item()], "invalid_field", "object", id="list as item"),
    ],
)
def test_a_bad_item_is_rejected_by_name_and_the_good_ones_are_kept(
    bad: object, code: str, names: str
) -> None:
    decoded = take([item(id="good-1"), bad, item(id="good-2")])

    assert codes(decoded) == [None, code, None]
    assert names in (decoded.results[1].message or "")
    assert [event.id for event in events(decoded)] == ["good-1", "good-2"]


def test_a_rejected_item_tells_its_id_back() -> None:
    assert take([item(type=None)]).results[0].id == "e-1"
    assert take([item(id="x\0", type=None)]).results[0].id is None


@pytest.mark.parametrize(
    ("good", "field", "value"),
    [
        pytest.param(item(account_id=42), "account", "42", id="an integer becomes text"),
        pytest.param(
            item(account_id=None, tenant_id="acme"), "account", "acme", id="tenant is account"
        ),
        pytest.param(item(account_id=7, tenant_id="7"), "account", "7", id="both say the same"),
        pytest.param(item(id=12), "id", "12", id="an integer as id becomes text"),
        pytest.param(item(type="Feature Used"), "type", "feature_used", id="type: blank and case"),
        pytest.param(item(type="page-view"), "type", "page_view", id="type: hyphen"),
        pytest.param(item(user_id="u"), "user", hash_user(USER_KEY, "u"), id="user is hashed"),
        pytest.param(item(user_id=5), "user", hash_user(USER_KEY, "5"), id="user as integer"),
        pytest.param(
            item(properties={"a": [1, {"b": None}]}),
            "properties",
            {"a": [1, {"b": None}]},
            id="properties stay",
        ),
        pytest.param(item(unknown={"deep": [1]}), "properties", {}, id="unknown is ignored"),
        pytest.param(
            item(type="feedback", properties={"scale": "nps", "score": 9, "comment": "secret"}),
            "properties",
            {"scale": "nps", "score": 9},
            id="comments are not kept",
        ),
        pytest.param(
            item(type="session_end", properties={"duration_seconds": 90.5}),
            "properties",
            {"duration_seconds": 90.5},
            id="a duration stays",
        ),
        pytest.param(
            item(properties={"n": 10**30}), "properties", {"n": 10**30}, id="huge integer"
        ),
    ],
)
def test_a_good_item_becomes(good: object, field: str, value: object) -> None:
    (event,) = events(take([good]))
    assert getattr(event, field) == value


def test_an_event_says_where_it_came_from_and_when() -> None:
    (event,) = events(take([item()]))

    assert (event.source, event.format, event.backfill) == ("app", "native", False)
    assert (event.occurred_at, event.client_at, event.received_at) == (NOW, None, NOW)


@pytest.mark.parametrize(
    ("noticed", "warning"),
    [
        pytest.param(item(id=None), "id_missing", id="no id"),
        pytest.param(item(user_id="null"), "placeholder_user", id="null as user"),
        pytest.param(item(user_id=""), "placeholder_user", id="empty user"),
        pytest.param(
            item(type="session_end", properties={"duration_seconds": 86_401}),
            "invalid_duration",
            id="a duration over a day",
        ),
        pytest.param(
            item(type="session_end", properties={"duration_seconds": True}),
            "invalid_duration",
            id="truth as duration",
        ),
        pytest.param(item(type="session_end"), "invalid_duration", id="no duration"),
        pytest.param(item(properties={"a": ["x\0y"]}), "text_repaired", id="NUL in properties"),
        pytest.param(item(properties={"a\0": 1}), "text_repaired", id="NUL in a name"),
    ],
)
def test_a_warning_does_not_keep_an_item_out(noticed: object, warning: str) -> None:
    decoded = take([noticed])
    assert warnings(decoded) == [warning]
    assert len(records(decoded)) == 1


def test_a_placeholder_is_no_user_and_a_wrong_duration_no_time() -> None:
    decoded = take(
        [
            item(id="1", user_id="undefined"),
            item(id="2", type="session_end", properties={"duration_seconds": -1, "x": 1}),
        ]
    )
    first, second = events(decoded)
    assert first.user is None
    assert second.properties == {"x": 1}


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000])
def test_what_is_no_number_becomes_null(literal: str) -> None:
    body = b'[{"id":"1","account_id":"a","type":"t","properties":{"x":[%s]}},' % literal.encode()
    decoded = take(body + json.dumps(item(id="2")).encode() + b"]")

    assert warnings(decoded) == ["number_repaired"]
    assert [event.properties for event in events(decoded)] == [{"x": [None]}, {}]


def test_a_field_that_is_nan_is_as_absent() -> None:
    decoded = take(json.dumps([item(user_id=math.nan, occurred_at=math.nan)]).encode())
    assert warnings(decoded) == ["number_repaired"]
    assert events(decoded)[0].user is None


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\udc00", b"\xff", b"\xed\xa0\x80"])
def test_half_a_character_is_repaired_in_properties_and_refused_elsewhere(half: bytes) -> None:
    body = (
        b'[{"id":"1","account_id":"a","type":"t","properties":{"x":"A%s"}},'
        b'{"id":"2","account_id":"a%s","type":"t"},{"id":"3","account_id":"a","type":"t"}]'
    ) % (half, half)
    decoded = take(body)

    assert codes(decoded) == [None, "invalid_text", None]
    assert warnings(decoded) == ["text_repaired"]
    repaired = str(events(decoded)[0].properties["x"])
    assert repaired.rstrip("\ufffd") == "A"
    assert "\ufffd" in repaired


@pytest.mark.parametrize(
    ("levels", "expected"),
    # The item is the first level, properties the second.
    [
        pytest.param(30, None, id="32 levels"),
        pytest.param(31, "too_deep", id="33 levels"),
        pytest.param(400, "too_deep", id="402 levels"),
    ],
)
def test_nesting_has_a_limit(levels: int, expected: str | None) -> None:
    properties = '{"x":' + "[" * levels + "]" * levels + "}"
    body = f'[{{"id":"1","account_id":"a","type":"t","properties":{properties}}}]'
    assert codes(take(body.encode())) == [expected]


def test_the_same_id_twice_is_appended_once_and_shares_its_end() -> None:
    decoded = take([item(type="login"), item(type="other"), item(id="e-2")])

    assert [event.type for event in events(decoded)] == ["login", "login"]
    assert warnings(decoded) == ["duplicate_in_request"]
    assert decoded.duplicates == [(decoded.results[1], decoded.results[0])]


def test_a_rejected_item_does_not_hide_a_good_one_of_the_same_id() -> None:
    decoded = take([item(type=None), item()])
    assert codes(decoded) == ["missing_type", None]
    assert len(records(decoded)) == 1


def test_an_idempotency_key_makes_ids() -> None:
    decoded = take([item(id=None), item(id=None)], replace(SUBMISSION, idempotency_key="k"))
    assert [event.id for event in events(decoded)] == ["k-0", "k-1"]
    assert warnings(decoded) == []


def test_ids_that_are_made_up_differ() -> None:
    decoded = take([item(id=None), item(id=None)])
    assert len({event.id for event in events(decoded)}) == 2


def test_a_record_has_a_limit_of_its_own() -> None:
    # 1e5 is three bytes as sent and eight (100000.0) as written again.
    body = b'[{"id":"1","account_id":"a","type":"t","properties":{"x":[%s]}}]'
    decoded = take(body % b",".join([b"1e5"] * 15_000))

    assert codes(decoded) == ["event_too_large"]
    assert "record" in (decoded.results[0].message or "")


def test_a_conflict_is_told_with_the_item_s_id() -> None:
    [result] = take([item(id="7", tenant_id="other")]).results
    assert (result.id, result.code) == ("7", "conflicting_account")


@pytest.mark.parametrize("stated", [None, "", " \t"])
def test_an_empty_account_is_none(stated: str | None) -> None:
    named = {"id": "1", "type": "login", "account_id": stated}
    assert codes(take([named])) == ["missing_account"]
    if stated != " \t":
        [event] = events(take([{**named, "tenant_id": "acme"}]))
        assert event.account == "acme"
    ours = replace(SUBMISSION, source=Source(name="app", default_account="us"))
    [event] = events(take([named], ours))
    assert event.account == "us"


@pytest.mark.parametrize("stated", [None, "", " \t"])
def test_an_event_of_a_user_alone_is_unplaced(stated: str | None) -> None:
    named = {"id": "1", "type": "Feature Used", "account_id": stated, "user_id": "ada"}
    at = "2026-03-10T11:00:00+00:00"
    result = take([{**named, "occurred_at": at, "properties": {"n": 1}}, item(id="2")])
    [event] = unplaced(result)

    assert [each.status for each in result.results] == ["retry", "retry"]
    assert [each.id for each in events(result)] == ["2"]
    assert (event.id, event.source, event.format) == ("1", "app", "native")
    assert event.user == hash_user(USER_KEY, "ada")
    assert (event.type, event.properties) == ("feature_used", {"n": 1})
    assert event.occurred_at == event.client_at == NOW - timedelta(hours=1)
    assert (event.received_at, event.backfill) == (NOW, False)


def test_the_account_of_the_source_comes_before_a_search() -> None:
    ours = replace(SUBMISSION, source=Source(name="app", default_account="us"))
    result = take([item(account_id=None, user_id="ada")], ours)
    assert [event.account for event in events(result)] == ["us"]
    assert unplaced(result) == []


@given(
    account=st.sampled_from([None, "", " ", "acme", 7, "null", True]),
    user=st.sampled_from([None, "", "ada", 5, 0, "Anonymous "]),
    default=st.sampled_from([None, "us"]),
)
def test_where_an_event_goes_its_account_says_else_its_source_s_else_its_user(
    account: object, user: object, default: str | None
) -> None:
    stated = {"id": "1", "type": "login", "account_id": account, "user_id": user}
    result = take([stated], replace(SUBMISSION, source=Source(name="app", default_account=default)))
    named = default if account in (None, "", " ") else str(account)
    if account in ("null", True):
        assert codes(result) == ["invalid_account"]
    elif named is not None:
        assert [event.account for event in events(result)] == [named]
        assert unplaced(result) == []
    elif user in ("ada", 5):
        assert [event.user for event in unplaced(result)] == [hash_user(USER_KEY, str(user))]
        assert events(result) == []
    else:
        assert codes(result) == ["missing_account"]


@pytest.mark.parametrize(
    ("who", "code"),
    [
        pytest.param("anonymous", "missing_account", id="placeholder"),
        pytest.param("", "missing_account", id="empty"),
        pytest.param(math.nan, "missing_account", id="NaN"),
        pytest.param(["ada"], "invalid_field", id="list"),
        pytest.param("u" * 201, "invalid_field", id="long"),
        pytest.param("a\0", "invalid_text", id="NUL"),
    ],
)
def test_only_a_user_leads_to_an_account(who: object, code: str) -> None:
    result = take([item(account_id=None, user_id=who)])
    assert codes(result) == [code]
    assert unplaced(result) == []


@pytest.mark.parametrize(
    ("stated", "code"),
    [("undefined", "invalid_account"), (1.5, "invalid_account"), ("a\0", "invalid_text")],
)
def test_an_account_that_is_badly_stated_is_not_searched_for(stated: object, code: str) -> None:
    assert codes(take([item(account_id=stated, user_id="ada")])) == [code]


def test_other_faults_are_told_of_an_event_of_a_user_alone() -> None:
    named = item(account_id=None, user_id="ada")
    result = take([{**named, "type": None}, {**named, "occurred_at": "2020-01-01T00:00:00Z"}])
    assert codes(result) == ["missing_type", "too_old"]


def test_history_of_a_user_alone_stays_history() -> None:
    named = item(account_id=None, user_id="ada", occurred_at="2020-01-01T00:00:00Z")
    [event] = unplaced(take([named], replace(SUBMISSION, may_backfill=True)))
    assert event.backfill


def test_an_event_leaves_room_for_the_account_that_is_found() -> None:
    """The largest that is taken fits as a record with the longest account there may be."""
    longest = "\U0001f9fe" * 200  # Four bytes a character, as key and in the value.
    wide = "\x01" * 200  # One byte a character as key, six in the value.

    def named(size: int) -> bytes:
        # 1e5 is three bytes as sent and eight (100000.0) as written again.
        listed = ",".join(["1e5"] * size)
        return json.dumps([item(account_id=None, user_id="ada")])[:-2].encode() + (
            b',"properties":{"x":[%s]}}]' % listed.encode()
        )

    sizes = range(10_500, 11_000, 20)
    fitting = [size for size in sizes if codes(take(named(size))) == [None]]
    assert 0 < len(fitting) < len(sizes)
    [event] = unplaced(take(named(fitting[-1])))
    for account in (longest, wide):
        found = messages.encode(
            UsageEvent(
                **{name: getattr(event, name) for name in event.__struct_fields__ if name != "v"},
                account=account,
                placed_by=PlacedBy.LAST_ACTIVITY,
            )
        )
        assert len(account.encode()) + len(found) <= RULES.max_record_bytes
