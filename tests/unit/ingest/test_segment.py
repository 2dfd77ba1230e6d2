"""Messages of Segment's and RudderStack's libraries, as they really look."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingest.formats.segment import SEGMENT
from services.ingest.replies import Refused
from services.ingest.results import Decoded
from shared.credentials import Scope, hash_user
from shared.log import Appended
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS, Source
from tests.unit.ingest import decoded
from tests.unit.ingest.api import check_error, open_api
from tests.unit.ingest.decoded import (
    NOW,
    SUBMISSION,
    USER_KEY,
    changes,
    codes,
    events,
    unplaced,
    warnings,
)
from tests.unit.ingest.test_native_envelopes import JSON
from tests.unit.ingest.test_outages import D, StandIn, U

BATCH = replace(SUBMISSION, path="/v1/batch")


def message(**stated: object) -> dict[str, object]:
    """A good track; a change to None writes null, as the libraries do."""
    return {
        "type": "track",
        "messageId": "m-1",
        "userId": "ada",
        "event": "Report Exported",
        "context": {"groupId": "acme", "library": {"name": "analytics-python"}},
        "integrations": {},
        "anonymousId": None,
        **stated,
    }


def take(*messages: object, sent_at: object = None, **changed: object) -> Decoded:
    body = json.dumps({"batch": messages, "sentAt": sent_at, "writeKey": "none"}).encode()
    return decoded.take(SEGMENT, body, replace(BATCH, **changed))


def test_a_track_is_an_event_of_its_name() -> None:
    [event] = events(take(message(properties={"n": 1, "$system": 2})))

    assert (event.id, event.source, event.account) == ("m-1", "app", "acme")
    assert (event.type, event.format) == ("report_exported", "segment")
    assert event.user == hash_user(USER_KEY, "ada")
    assert event.properties == {"n": 1}


@pytest.mark.parametrize(
    ("kind", "event_type"),
    [
        ("page", "page_view"),
        ("screen", "screen_view"),
        ("identify", "identify"),
        ("group", "group"),
        ("alias", "alias"),
    ],
)
def test_every_kind_of_message_has_its_type(kind: str, event_type: str) -> None:
    [event] = events(take(message(type=kind, name="Start", traits={"email": "a@example.com"})))
    assert event.type == event_type
    assert event.properties == {}  # What a person is called is not kept.


@pytest.mark.parametrize(
    "stated",
    [
        {"groupId": "acme"},
        {"properties": {"account_id": "acme"}},
        {"properties": {"tenant_id": "acme"}},
        {"properties": {"groupId": "acme"}},
        {"context": {"groupId": ""}, "properties": {"groupId": "acme"}},
    ],
)
def test_the_account_is_found_where_libraries_put_it(stated: dict[str, object]) -> None:
    [event] = events(take(message(**{"context": {}, **stated})))
    assert event.account == "acme"


def test_a_message_without_an_account_takes_the_source_s_own() -> None:
    nowhere = message(context={})
    assert codes(take(message(context={}, userId=None))) == ["missing_account"]
    source = Source(name="app", default_account="us", type_map={"report_exported": "feature_used"})
    [event] = events(take(nowhere, source=source))
    assert (event.account, event.type) == ("us", "feature_used")


def test_an_anonymous_id_is_no_user() -> None:
    [event] = events(take(message(userId=None, anonymousId="a-1")))
    assert event.user is None
    nobody = message(userId=None, anonymousId="a-1", context={})
    assert codes(take(nobody)) == ["missing_account"]


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "alias"])
def test_a_message_of_a_user_alone_is_unplaced(kind: str) -> None:
    result = take(message(type=kind, context={}, traits={"email": "a@example.com"}))
    [event] = unplaced(result)
    assert (event.id, event.source, event.format) == ("m-1", "app", "segment")
    assert event.user == hash_user(USER_KEY, "ada")
    assert not events(result)
    assert not changes(result)


@pytest.mark.parametrize("stated", [None, "", " "])
def test_a_group_that_names_none_is_rejected_whoever_sent_it(stated: object) -> None:
    result = take(message(type="group", groupId=stated, context={}, traits={"name": "Acme"}))
    assert codes(result) == ["missing_account"]
    assert "it describes an account" in str(result.results[0].message)


TRAITS = [
    {"account_id": "acme"},
    {"tenant_id": "acme"},
    {"groupId": "acme"},
    {"group_id": "acme", "company": {"id": "other"}},
    {"company": {"id": "acme", "name": "Acme Ltd", "plan": "team"}},
    {"account_id": "", "company": {"id": "acme"}},
    {"group_id": ["a", "b"], "company": {"id": "acme"}},
]


@pytest.mark.parametrize("traits", TRAITS)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda traits: {"traits": traits, "context": {}}, id="segment"),
        pytest.param(lambda traits: {"context": {"traits": traits}}, id="rudderstack"),
    ],
)
def test_identify_names_its_account_in_the_traits_of_its_user(
    place: Callable[[object], dict[str, object]], traits: object
) -> None:
    [event] = events(take(message(type="identify", **place(traits))))
    assert (event.account, event.user) == ("acme", hash_user(USER_KEY, "ada"))


def test_the_id_of_a_company_may_be_a_number() -> None:
    [event] = events(take(message(type="identify", context={}, traits={"company": {"id": 42}})))
    assert event.account == "42"


def test_a_group_of_the_context_comes_before_a_trait() -> None:
    [event] = events(take(message(type="identify", traits={"account_id": "other"})))
    assert event.account == "acme"


@pytest.mark.parametrize(
    "traits",
    [
        {"company": {"name": "Acme Ltd"}},
        {"company": "Acme Ltd"},
        {"company": {"id": {"$oid": "1"}}},
        {"company": {"id": True}},
        {"group_id": ["a", "b"]},
        {"account_id": 1.5},
        ["acme"],
    ],
)
def test_traits_that_name_no_id_name_no_account(traits: object) -> None:
    result = take(message(type="identify", context={}, traits=traits))
    assert len(unplaced(result)) == 1


def test_an_account_that_a_trait_states_badly_is_refused() -> None:
    result = take(message(type="identify", context={}, traits={"company": {"id": "undefined"}}))
    assert codes(result) == ["invalid_account"]


def test_the_account_of_a_source_comes_before_a_trait() -> None:
    """It serves one account: what its CRM calls the company of a user is no other customer."""
    identify = message(type="identify", context={}, traits={"company": {"id": "hubspot-9"}})
    [event] = events(take(identify, source=Source(name="app", default_account="us")))
    assert event.account == "us"


def test_a_group_call_keeps_its_name_whatever_the_source_calls_others() -> None:
    """By that name scoring knows that it says where its user works."""
    source = Source(name="app", type_map={"group": "login", "report_exported": "feature_used"})
    result = take(message(type="group"), message(messageId="m-2"), source=source)
    assert [event.type for event in events(result)] == ["group", "feature_used"]
    [event] = events(take(message(type="track", event="Group"), source=source))
    assert event.type == "login"


@pytest.mark.parametrize("kind", ["track", "page", "alias"])
def test_traits_of_other_messages_name_no_account(kind: str) -> None:
    """Browsers send those of the last `identify` along with everything, however old they are."""
    traits = {"company": {"id": "acme"}}
    result = take(message(type=kind, context={"traits": traits}, traits=traits))
    assert len(unplaced(result)) == 1


def test_a_group_describes_its_account() -> None:
    traits = {"name": "Acme", "monthly_spend": 120.5, "industry": "steel", "contractEnd": None}
    result = take(message(type="group", groupId="acme-2", traits=traits))
    [change] = changes(result)

    assert [event.type for event in events(result)] == ["group"]
    assert (change.account, change.op, change.source) == ("acme-2", "patch", "app")
    assert change.fields.name == "Acme"
    assert str(change.fields.mrr) == "120.5"
    assert warnings(result) == ["unknown_trait"]


def test_a_group_without_traits_makes_its_account_known() -> None:
    [change] = changes(take(message(type="group", groupId="acme")))
    assert change.account == "acme"


def test_a_group_needs_the_right_to_change_accounts() -> None:
    result = take(message(type="group"), message(messageId="m-2"), may_change_accounts=False)
    assert codes(result) == ["scope_missing", None]
    assert not changes(result)


def test_a_clock_that_is_off_is_put_right_by_the_time_of_sending() -> None:
    hour = timedelta(hours=1)
    stated = (NOW - 3 * hour).isoformat()
    sent = (NOW - hour).isoformat()
    for result in (
        take(message(timestamp=stated), sent_at=sent),
        take(message(timestamp=stated, sentAt=sent)),
        take(message(originalTimestamp=stated, sentAt="2020-01-01T00:00:00Z"), sent_at=sent),
    ):
        [event] = events(result)
        assert event.occurred_at == NOW - 2 * hour
        assert event.client_at == NOW - 3 * hour
        assert warnings(result) == ["skew_corrected"]


def test_the_first_of_two_times_was_put_right_already() -> None:
    stated = (NOW - timedelta(hours=3)).isoformat()
    sent = (NOW - timedelta(hours=1)).isoformat()
    result = take(message(timestamp=stated, originalTimestamp=sent, sentAt=sent), sent_at=sent)
    [event] = events(result)
    assert event.occurred_at == NOW - timedelta(hours=3)
    assert warnings(result) == []


def test_a_strange_time_of_sending_says_nothing() -> None:
    [event] = events(take(message(timestamp=NOW.isoformat()), sent_at="yesterday"))
    assert event.occurred_at == NOW


def test_what_json_cannot_hold_is_repaired() -> None:
    body = (
        b'{"batch":[%s]}'
        % json.dumps(message(properties={"x": float("nan"), "y": "caf\ud83d"})).encode()
    )
    result = decoded.take(SEGMENT, body, BATCH)
    [event] = events(result)
    assert event.properties == {"x": None, "y": "caf\ufffd"}
    assert warnings(result) == ["text_repaired", "number_repaired"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (message(type="buy"), "invalid_type"),
        (message(type=None), "invalid_type"),
        (message(event=None), "missing_type"),
        (message(messageId=""), "invalid_id"),
        (message(properties=[1]), "invalid_properties"),
        (message(context={"groupId": "undefined"}), "invalid_account"),
        (message(timestamp="0001-01-01T00:00:00Z"), "invalid_time"),
        ("text", "invalid_field"),
    ],
)
def test_a_bad_message_among_99_good_ones_is_rejected_alone(bad: object, code: str) -> None:
    good = [message(messageId=f"m-{number}") for number in range(99)]
    result = take(*good[:50], bad, *good[50:])
    assert [found for found in codes(result) if found] == [code]
    assert len(events(result)) == 99
    assert result.results[50].status == "rejected"


def test_a_single_call_is_of_the_kind_of_its_path() -> None:
    submission = replace(SUBMISSION, path="/v1/page")
    body = message(type=None, sentAt="2026-03-10T11:00:00Z", timestamp="2026-03-10T10:00:00Z")
    [event] = events(decoded.take(SEGMENT, body, submission))
    assert event.type == "page_view"
    assert event.occurred_at == NOW - timedelta(hours=1)


@pytest.mark.parametrize("body", [b"[]", b"nothing", b'{"batch":[]}', b'{"batch":3}'])
def test_a_bad_envelope_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Refused):
        decoded.take(SEGMENT, body, BATCH)


def test_the_key_is_the_user_of_basic_or_a_bearer_or_in_the_body() -> None:
    basic = b"Basic " + base64.b64encode(b"key:")
    assert SEGMENT.key({b"authorization": basic}) == "key"
    assert SEGMENT.key({b"authorization": b"Bearer key"}) == "key"
    assert SEGMENT.key({b"authorization": b"Basic ?"}) is None
    assert SEGMENT.key({}) is None
    assert SEGMENT.body_key is not None
    assert SEGMENT.body_key(b'{"batch":[NaN],"writeKey":"key"}') == "key"
    assert SEGMENT.body_key(b'{"writeKey":3}') is None
    assert SEGMENT.body_key(b"nothing") is None


@pytest.mark.parametrize(
    ("events_end", "changes_end", "status"), [(D, D, 200), (U, D, 503), (D, U, 503)]
)
async def test_all_is_well_only_where_all_is_safe(
    events_end: Appended, changes_end: Appended, status: int
) -> None:
    body = {"batch": [message(), message(messageId="m-2", type="group")]}
    log = StandIn({USAGE_EVENTS: events_end, DIRECTORY_CHANGES: changes_end})
    async with open_api(log) as api:
        response = await api.client.post("/v1/batch", json=body, headers=api.key())
        if status == 200:
            assert response.json() == {"success": True}
        else:
            check_error(response, 503, "not_durable")


async def test_who_reads_the_body_learns_what_was_rejected() -> None:
    body = {"batch": [message(), message(messageId="m-2", event=None)]}
    async with open_api(StandIn([D])) as api:
        response = await api.client.post("/v1/batch/", json=body, headers=api.key())
        assert response.status_code == 200
        answer = response.json()
        assert (answer["success"], answer["accepted"]) == (True, 1)
        [rejected] = answer["rejected"]
        assert (rejected["index"], rejected["id"]) == (1, "m-2")
        assert rejected["code"] == "missing_type"

        nothing_good = {"batch": [message(event=None)]}
        response = await api.client.post("/v1/batch", json=nothing_good, headers=api.key())
        check_error(response, 400, "all_rejected")


async def test_a_key_in_the_body_opens_the_door_as_one_in_the_header_does() -> None:
    async with open_api(StandIn([D])) as api:
        secret = api.key(Scope.EVENTS_WRITE)["authorization"].removeprefix("Bearer ")
        for body_key, status in ((secret, 200), ("wrong", 401), (None, 401)):
            body = {"batch": [message()], "writeKey": body_key}
            response = await api.client.post("/v1/batch", json=body)
            assert response.status_code == status
        response = await api.client.post("/v1/track", json=message(), auth=(secret, ""))
        assert response.status_code == 200


@given(
    st.lists(
        JSON
        | st.builds(message, type=JSON, groupId=JSON, traits=JSON)
        | st.builds(
            message,
            type=st.just("identify"),
            userId=JSON | st.text(),
            context=st.fixed_dictionaries({"traits": JSON}) | st.just({}),
            traits=st.fixed_dictionaries({"company": st.fixed_dictionaries({"id": JSON})}),
        ),
        min_size=1,
    )
)
def test_any_json_gives_one_result_per_message(messages: list[object]) -> None:
    body = json.dumps({"batch": messages}).encode("utf-8", "surrogatepass")
    result = decoded.take(SEGMENT, body, BATCH)
    assert [each.index for each in result.results] == list(range(len(messages)))
    assert len(events(result)) + len(unplaced(result)) + len(result.duplicates) == sum(
        each.status == "retry" for each in result.results
    )
    msgspec.json.encode(result.results)
