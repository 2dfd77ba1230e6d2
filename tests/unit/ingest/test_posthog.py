"""Events of PostHog's libraries, as they really look, in both of their protocols."""

import gzip
import json
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingest.formats.posthog import V0, V1
from services.ingest.replies import Refused, Reply
from services.ingest.results import Decoded
from services.ingest.wire import Submission, WireFormat
from shared.credentials import Scope, hash_user
from shared.log import LogUnavailable
from shared.messages import DIRECTORY_CHANGES, USAGE_EVENTS, Source
from tests.unit.ingest import decoded
from tests.unit.ingest.api import Api, check_error, open_api
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

V1_PATH = "/i/v1/analytics/events"
HOUR = timedelta(hours=1)
NO_PROFILE = {"process_person_profile": False}
BOTH = pytest.mark.parametrize("wire", [V0, V1], ids=["V0", "V1"])
ALL_DURABLE = {USAGE_EVENTS: D, DIRECTORY_CHANGES: D}


def capture(number: int = 0, /, **stated: object) -> dict[str, object]:
    """A good event; properties are those beside the group, unless they name `$groups` too."""
    properties = stated.pop("properties", {})
    if isinstance(properties, dict):
        library = {"$lib": "posthog-python", "$geoip_disable": True}
        properties = {"$groups": {"company": "acme"}, **library, **properties}
    return {
        "event": "Report Exported",
        "uuid": str(uuid.UUID(int=number)),
        "distinct_id": "ada",
        "timestamp": NOW.isoformat(),
        "properties": properties,
        **stated,
    }


def describe(
    group_type: object = "company", key: object = "acme", **said: object
) -> dict[str, object]:
    """What `group_identify` sends: it knows no `$groups`."""
    properties = {"$group_type": group_type, "$group_key": key, "$group_set": said}
    return {**capture(event="$groupidentify"), "properties": properties}


def grouped(groups: object, **stated: object) -> dict[str, object]:
    return capture(properties={"$groups": groups}, **stated)


def nobody_s(**stated: object) -> dict[str, object]:
    """Of a visitor whose name the library made up, and of no group."""
    return {**capture(properties={"$groups": {}}), "options": NO_PROFILE, **stated}


def of_person(event: str, number: int = 0) -> dict[str, object]:
    """A call that the libraries give no group to."""
    return {**capture(number, event=event), "properties": {"$set": {"email": "a@example.com"}}}


def body_of(*batch: object, **beside: object) -> bytes:
    return json.dumps({"batch": batch, **beside}).encode()


def take(
    wire: WireFormat, *batch: object, sent: object = None, source: Source | None = None
) -> Decoded:
    submission = SUBMISSION if source is None else replace(SUBMISSION, source=source)
    if wire is V0:
        return decoded.take(wire, body_of(*batch, sent_at=sent, api_key="key"), submission)
    headers = {} if sent is None else {b"posthog-request-timestamp": str(sent).encode()}
    submission = replace(submission, headers=headers)
    return decoded.take(wire, body_of(*batch, created_at="2026-03-01T00:00:00Z"), submission)


def stored(result: Decoded) -> Decoded:
    """All that waits for the log is in it."""
    for parcel in result.parcels.values():
        for pending in parcel.pending:
            pending.status = "accepted"
    for duplicate, first in result.duplicates:
        duplicate.status, duplicate.code = first.status, first.code
    return result


def told(result: Decoded) -> dict[str, str]:
    reply = V1.answer(stored(result), "r")
    assert reply.status == 200
    return {name: each["result"] for name, each in json.loads(reply.body)["results"].items()}


@BOTH
def test_a_capture_is_an_event_of_its_name(wire: WireFormat) -> None:
    stated = (NOW - HOUR).isoformat()
    [event] = events(take(wire, capture(7, timestamp=stated, properties={"n": 1, "$os": "Linux"})))

    assert (event.id, event.source, event.account) == (str(uuid.UUID(int=7)), "app", "acme")
    assert (event.type, event.format) == ("report_exported", "posthog")
    assert event.user == hash_user(USER_KEY, "ada")
    assert event.occurred_at == event.client_at == NOW - HOUR
    assert event.properties == {"n": 1}


@pytest.mark.parametrize(
    ("name", "event_type"),
    [
        ("$pageview", "page_view"),
        ("$screen", "screen_view"),
        ("$identify", "$identify"),
        ("$feature_flag_called", "$feature_flag_called"),
        ("Seat-Added", "seat_added"),
    ],
)
def test_events_of_the_library_keep_their_names_but_for_views(name: str, event_type: str) -> None:
    [event] = events(take(V1, capture(event=name)))
    assert event.type == event_type


def test_the_type_map_of_the_source_comes_last() -> None:
    source = Source(name="app", type_map={"page_view": "feature_used"})
    [event] = events(take(V1, capture(event="$pageview"), source=source))
    assert event.type == "feature_used"


@BOTH
@pytest.mark.parametrize(
    ("groups", "group", "account"),
    [
        pytest.param({"company": "acme"}, None, "acme", id="the usual group"),
        pytest.param({"company": 42}, None, "42", id="a number"),
        pytest.param({"project": "p", "company": "acme"}, None, "acme", id="the usual of two"),
        pytest.param({"organization": "acme"}, None, "acme", id="the only one"),
        pytest.param({"org": "acme", "company": "x"}, "org", "acme", id="the source's own"),
        pytest.param({"project": "p"}, "org", None, id="the only one, but not the source's"),
        pytest.param({"company": None, "project": "p"}, None, None, id="the usual, but null"),
        pytest.param({}, None, None, id="none"),
        pytest.param(None, None, None, id="null"),
        pytest.param(["acme"], None, None, id="a list"),
        pytest.param("acme", "company", None, id="text"),
    ],
)
def test_the_account_is_a_group_of_the_event(
    wire: WireFormat, groups: object, group: str | None, account: str | None
) -> None:
    source = Source(name="app", account_group=group)
    result = take(wire, grouped(groups), source=source)
    if account is None:
        [event] = unplaced(result)
        assert (event.user, event.type) == (hash_user(USER_KEY, "ada"), "report_exported")
        nobody = take(wire, grouped(groups, options=NO_PROFILE), source=source)
        assert codes(nobody) == ["missing_account"]
    else:
        assert [event.account for event in events(result)] == [account]


@BOTH
def test_of_several_groups_somebody_has_to_say_which_is_the_account(wire: WireFormat) -> None:
    """With the event as it came in quarantine a replay finds the account, without asking users."""
    event = grouped({"org": "acme", "project": "p"})
    result = take(wire, event)
    assert codes(result) == ["missing_account"]
    [reject] = result.rejects
    assert isinstance(reject.item, bytes)
    assert b'"org"' in reject.item
    for source in (
        Source(name="app", account_group="org"),
        Source(name="app", default_account="acme"),
    ):
        assert [one.account for one in events(take(wire, event, source=source))] == ["acme"]


@BOTH
def test_an_event_of_a_user_alone_is_unplaced(wire: WireFormat) -> None:
    result = take(wire, grouped({}, timestamp=(NOW - HOUR).isoformat()), capture(1))
    [event] = unplaced(result)
    assert (event.id, event.source, event.format) == (str(uuid.UUID(int=0)), "app", "posthog")
    assert event.user == hash_user(USER_KEY, "ada")
    assert (event.occurred_at, event.properties) == (NOW - HOUR, {})
    assert [event.account for event in events(result)] == ["acme"]

    reply = wire.answer(stored(result), "r")
    assert reply.status == 200
    if wire is V1:
        assert set(told(result).values()) == {"ok"}
    else:
        assert reply.body == b'{"status":1}'


def test_an_event_of_no_group_takes_the_account_of_its_source() -> None:
    source = Source(name="app", account_group="org", default_account="us")
    result = take(V1, grouped({"project": "p"}), of_person("$identify", 1), source=source)
    assert [event.account for event in events(result)] == ["us", "us"]


@BOTH
def test_a_group_that_is_the_account_is_described(wire: WireFormat) -> None:
    result = take(wire, describe(name="Acme", monthlySpend=120.5, industry="steel"))
    [change] = changes(result)
    [event] = events(result)

    assert (change.account, change.op, change.source) == ("acme", "patch", "app")
    assert (change.fields.name, str(change.fields.mrr)) == ("Acme", "120.5")
    assert warnings(result) == ["unknown_trait"]
    assert (event.account, event.type, event.properties) == ("acme", "$groupidentify", {})
    assert event.user == hash_user(USER_KEY, "ada")


def test_a_description_without_traits_makes_the_account_known() -> None:
    identify = {**capture(event="$groupidentify"), "properties": {"$group_type": "company"}}
    properties = {"$group_type": "company", "$group_key": "acme", "$group_set": "Acme"}
    [change] = changes(take(V1, {**identify, "properties": properties}))
    assert change.account == "acme"


def test_a_group_that_is_not_the_account_describes_none() -> None:
    source = Source(name="app", account_group="company")
    project = describe("project", "p-1", name="Site")
    assert [event.type for event in unplaced(take(V1, project, source=source))] == [
        "$groupidentify"
    ]
    made_up = {**project, "distinct_id": "$project_p-1"}
    assert codes(take(V1, made_up, source=source)) == ["missing_account"]

    # The browser's library names all groups of the moment beside the one it describes.
    properties = {
        "$groups": {"company": "acme", "project": "p-1"},
        "$group_type": "project",
        "$group_key": "p-1",
        "$group_set": {"name": "Site"},
    }
    result = take(V1, capture(event="$groupidentify", properties=properties))
    assert [event.account for event in events(result)] == ["acme"]
    assert not changes(result)


def test_a_group_that_is_described_is_an_account_by_its_type_alone() -> None:
    project = describe("project", "p1", name="Moon")
    assert not changes(take(V1, project))
    assert not events(take(V1, project))
    [change] = changes(take(V1, describe("company", "acme", name="Acme")))
    assert change.account == "acme"


@pytest.mark.parametrize("group_type", [None, 5, ["company"], {}])
def test_a_group_of_no_type_describes_nothing(group_type: object) -> None:
    result = take(V1, describe(group_type))
    assert len(unplaced(result)) == 1
    assert not changes(result)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("undefined", "invalid_account"),
        ({"id": 1}, "invalid_account"),
        ("a" * 201, "invalid_account"),
        ("a\0", "invalid_text"),
        ("a\ud83d", "invalid_text"),
    ],
)
def test_a_bad_account_is_refused(key: object, code: str) -> None:
    result = take(V1, grouped({"company": key}), describe(key=key))
    assert codes(result) == [code, code]


@BOTH
@pytest.mark.parametrize("key", [None, "", " "])
def test_a_description_that_names_none_is_refused_whoever_sent_it(
    wire: WireFormat, key: object
) -> None:
    result = take(wire, describe(key=key), grouped({"company": key}))
    assert codes(result) == ["missing_account", None]
    assert len(unplaced(result)) == 1


def test_a_description_needs_the_right_to_change_accounts() -> None:
    submission = replace(SUBMISSION, may_change_accounts=False)
    result = decoded.take(V0, body_of(describe(), capture(1)), submission)
    assert codes(result) == ["scope_missing", None]
    assert not changes(result)


@BOTH
@pytest.mark.parametrize(
    "stated",
    [
        pytest.param({"distinct_id": None}, id="null"),
        pytest.param({"options": {"process_person_profile": False}}, id="V1"),
        pytest.param({"properties": {"$process_person_profile": False}}, id="V0"),
    ],
)
def test_who_has_no_profile_is_no_user(wire: WireFormat, stated: dict[str, object]) -> None:
    result = take(wire, capture(**stated))
    [event] = events(result)
    assert event.user is None
    assert warnings(result) == []


@pytest.mark.parametrize("said", [True, None, 0, "false"])
def test_only_false_takes_the_user_away(said: object) -> None:
    [event] = events(take(V1, capture(options={"process_person_profile": said})))
    assert event.user == hash_user(USER_KEY, "ada")


def test_a_placeholder_is_no_user() -> None:
    result = take(V1, capture(distinct_id="undefined"))
    assert [event.user for event in events(result)] == [None]
    assert warnings(result) == ["placeholder_user"]


def test_a_name_made_up_for_a_group_is_no_user() -> None:
    made_up = {**describe(), "distinct_id": "$company_acme"}
    [event] = events(take(V0, made_up))
    assert event.user is None


def test_people_s_names_are_not_kept_in_clear() -> None:
    alias = capture(0, event="$create_alias", properties={"distinct_id": "ada", "alias": "bob"})
    named = capture(1, properties={"distinct_id": "ada", "n": 1, "alias": "kept"})
    first, second = events(take(V0, alias, named))
    assert first.properties == {}
    assert second.properties == {"n": 1, "alias": "kept"}


@BOTH
def test_a_clock_that_is_off_is_put_right_by_the_time_of_sending(wire: WireFormat) -> None:
    stated, sent = (NOW - 3 * HOUR).isoformat(), (NOW - HOUR).isoformat()
    result = take(wire, capture(timestamp=stated), sent=sent)
    [event] = events(result)

    assert (event.occurred_at, event.client_at) == (NOW - 2 * HOUR, NOW - 3 * HOUR)
    assert warnings(result) == ["skew_corrected"]
    assert result.skew_seconds == 3600


@pytest.mark.parametrize(
    "stated",
    [{"options": {"disable_skew_correction": True}}, {"properties": {"$ignore_sent_at": True}}],
)
def test_an_event_may_keep_its_time_whatever_the_clock(stated: dict[str, object]) -> None:
    at = NOW - 3 * HOUR
    result = take(V1, capture(timestamp=at.isoformat(), **stated), sent=(NOW - HOUR).isoformat())
    assert [event.occurred_at for event in events(result)] == [at]
    assert warnings(result) == []


@BOTH
@pytest.mark.parametrize("sent", [None, "", "yesterday", "2026-03-10 09:00", "\xff", "9" * 400])
def test_a_strange_time_of_sending_says_nothing(wire: WireFormat, sent: object) -> None:
    result = take(wire, capture(timestamp=(NOW - HOUR).isoformat()), sent=sent)
    assert [event.occurred_at for event in events(result)] == [NOW - HOUR]
    assert result.skew_seconds is None


def test_in_v1_the_body_s_own_times_say_nothing_of_the_clock() -> None:
    stated = (NOW - HOUR).isoformat()
    body = body_of(capture(timestamp=stated), sent_at=stated, created_at=stated)
    result = decoded.take(V1, body)
    assert [event.occurred_at for event in events(result)] == [NOW - HOUR]


@BOTH
def test_history_needs_a_key_that_may_load_it(wire: WireFormat) -> None:
    body = body_of(capture(), historical_migration=True)
    with pytest.raises(Refused, match="historical_migration") as refused:
        decoded.take(wire, body)
    assert refused.value.code == "scope_missing"
    with pytest.raises(Refused, match="historical_migration"):
        decoded.take(wire, body.replace(b'"ada"', b"NaN"))

    for stated in ("2020-01-01T00:00:00Z", NOW.isoformat()):
        old = body_of(capture(timestamp=stated), historical_migration=True)
        [event] = events(decoded.take(wire, old, replace(SUBMISSION, may_backfill=True)))
        assert event.backfill


@pytest.mark.parametrize(
    "body",
    [
        body_of(capture(), historical_migration=False),
        body_of(capture(properties={"historical_migration": True})),
    ],
)
def test_what_is_no_history_needs_no_such_key(body: bytes) -> None:
    assert len(events(decoded.take(V0, body))) == 1


@BOTH
def test_what_json_cannot_hold_is_repaired(wire: WireFormat) -> None:
    odd = capture(properties={"x": float("nan"), "y": "caf\ud83d", "$z": float("inf")})
    result = take(wire, odd, capture(1))
    first, second = events(result)

    assert first.properties == {"x": None, "y": "caf\ufffd"}
    assert second.properties == {}
    assert warnings(result) == ["text_repaired", "number_repaired"]


BAD_ITEMS = [
    pytest.param(capture(event=None), "missing_type", id="no event"),
    pytest.param(capture(event=["x"]), "invalid_type", id="list as event"),
    pytest.param(capture(event="e" * 101), "invalid_type", id="long event"),
    pytest.param(capture(event="a\ud83d"), "invalid_text", id="half a character in event"),
    pytest.param(nobody_s(), "missing_account", id="no group, nobody"),
    pytest.param(grouped({"company": "[object Object]"}), "invalid_account", id="placeholder"),
    pytest.param(capture(uuid="u" * 201), "invalid_id", id="long uuid"),
    pytest.param(capture(uuid=""), "invalid_id", id="empty uuid"),
    pytest.param(capture(uuid="u\0"), "invalid_text", id="NUL in uuid"),
    pytest.param(capture(uuid="u\ud83d"), "invalid_text", id="half a character in uuid"),
    pytest.param(capture(distinct_id=1.5), "invalid_field", id="fraction as user"),
    pytest.param(capture(distinct_id="u" * 201), "invalid_field", id="long user"),
    pytest.param(capture(timestamp="0001-01-01T00:00:00Z"), "invalid_time", id="year 1"),
    pytest.param(capture(timestamp="2026-03-10T12:00:00"), "invalid_time", id="no offset"),
    pytest.param(capture(timestamp="2020-01-01T00:00:00Z"), "too_old", id="too old"),
    pytest.param(capture(properties=[1]), "invalid_properties", id="list of properties"),
    pytest.param(
        capture(properties={f"p{number}": 1 for number in range(101)}),
        "invalid_properties",
        id="many properties",
    ),
    pytest.param(capture(properties={"x": "y" * 65_536}), "event_too_large", id="large"),
    pytest.param(
        capture(uuid="u\ud83d", properties={"x": "y" * 65_536}),
        "event_too_large",
        id="large, and half a character in uuid",
    ),
]


@BOTH
@pytest.mark.parametrize(("bad", "code"), BAD_ITEMS)
def test_a_bad_event_among_99_good_ones_is_rejected_alone(
    wire: WireFormat, bad: dict[str, object], code: str
) -> None:
    good = [capture(number) for number in range(1, 100)]
    result = stored(take(wire, *good[:50], bad, *good[50:]))

    assert [found for found in codes(result) if found] == [code]
    assert len(events(result)) == 99
    reply = wire.answer(result, "r")
    assert reply.status == 200
    answer = json.loads(reply.body)
    if wire is V1:
        results = answer["results"]
        assert results.keys() == {each["uuid"] for each in [*good, bad]}
        explained = results.pop(bad["uuid"])
        assert explained["result"] == "drop"
        assert explained["details"].startswith(f"{code}: ")
        assert all(each == {"result": "ok"} for each in results.values())
    else:
        assert (answer["status"], answer["accepted"]) == (1, 99)
        [rejected] = answer["rejected"]
        assert rejected.keys() == {"index", "id", "code", "message"}
        assert (rejected["index"], rejected["code"]) == (50, code)
        assert rejected["message"]


@pytest.mark.parametrize("bad", ["text", None, 5, [capture()]])
def test_what_is_no_event_is_rejected_alone_in_v0(bad: object) -> None:
    assert codes(take(V0, capture(), bad)) == [None, "invalid_field"]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("text", id="text"),
        pytest.param(None, id="null"),
        pytest.param({}, id="empty"),
        pytest.param(capture(uuid=None), id="null as uuid"),
        pytest.param(capture(uuid=1.5), id="fraction as uuid"),
        pytest.param(capture(uuid=float("nan")), id="NaN as uuid"),
        pytest.param(capture(uuid=["x"]), id="list as uuid"),
        pytest.param(capture(uuid=True), id="truth as uuid"),
    ],
)
def test_what_v1_could_not_name_is_refused_with_the_whole_request(bad: object) -> None:
    with pytest.raises(Refused, match="uuid") as refused:
        take(V1, capture(), bad)
    assert refused.value.code == "invalid_envelope"


def test_in_v0_an_event_may_lack_its_uuid() -> None:
    assert warnings(take(V0, capture(uuid=None))) == ["id_missing"]


@BOTH
@pytest.mark.parametrize("body", [b"", b"[]", b"nothing", b'{"batch":[]}', b'{"batch":3}', b"7"])
def test_a_bad_envelope_is_refused_as_a_whole(wire: WireFormat, body: bytes) -> None:
    with pytest.raises(Refused):
        decoded.take(wire, body)


def test_a_warning_is_told_in_v1() -> None:
    odd = capture(1, distinct_id="null", properties={"x": "\0"})
    reply = V1.answer(stored(take(V1, capture(), odd)), "r")
    first, second = json.loads(reply.body)["results"].values()
    assert first == {"result": "ok"}
    assert second["result"] == "warning"
    assert "placeholder_user: " in second["details"]
    assert "text_repaired: " in second["details"]


@pytest.mark.parametrize(
    ("batch", "worst"),
    [
        pytest.param([capture(), capture()], "warning", id="both good"),
        pytest.param([capture(), capture(event=None)], "drop", id="the second bad"),
        pytest.param([capture(event=None), capture()], "drop", id="the first bad"),
        pytest.param([capture(uuid=5), capture(uuid="5")], "warning", id="a number and its text"),
    ],
)
def test_equal_uuids_have_one_answer_the_worst(batch: list[object], worst: str) -> None:
    assert list(told(take(V1, *batch)).values()) == [worst]


def test_a_large_event_that_v1_cannot_name_is_an_error_of_the_request() -> None:
    large = capture(uuid=None, properties={"x": "y" * 65_536})
    assert V1.answer(take(V1, large, capture(1)), "r").status == 503
    for batch, code in (
        ([large, capture(1)], "partial_failure"),
        ([large, capture(1, event=None)], "all_rejected"),
    ):
        reply = V1.answer(stored(take(V1, *batch)), "r")
        assert reply.status == 400
        assert json.loads(reply.body)["code"] == code


OF_NO_ACCOUNT = ["$set", "$identify", "$create_alias", "$feature_flag_called", "$groupidentify"]


@pytest.mark.parametrize("event", OF_NO_ACCOUNT)
def test_a_call_that_knows_no_account_is_no_fault_of_the_caller(event: str) -> None:
    """Both libraries would report `drop`, or 400, as an error of their user."""
    result = take(V1, nobody_s(event=event), capture(1))
    assert codes(result) == ["missing_account", None]
    assert list(told(result).values()) == ["warning", "ok"]
    result.are_rejects_kept = False
    assert list(told(result).values()) == ["retry", "ok"]

    result = stored(take(V0, nobody_s(event=event)))
    reply = V0.answer(result, "r")
    assert reply.status == 200
    assert json.loads(reply.body)["accepted"] == 0
    result.are_rejects_kept = False
    assert V0.answer(result, "r").status == 503


@pytest.mark.parametrize("event", OF_NO_ACCOUNT)
def test_a_call_about_a_person_is_taken_in(event: str) -> None:
    assert len(unplaced(take(V1, of_person(event)))) == 1


@pytest.mark.parametrize("event", ["Report Exported", "$pageview", "$screen"])
def test_use_that_names_no_account_is_a_fault_that_is_told(event: str) -> None:
    named = nobody_s(event=event)
    assert list(told(take(V1, named)).values()) == ["drop"]
    assert V0.answer(take(V0, named, nobody_s(event="$set")), "r").status == 400


def test_a_call_of_no_account_that_has_another_fault_is_dropped() -> None:
    late = nobody_s(event="$set", uuid="u" * 201)
    assert list(told(take(V1, late)).values()) == ["drop"]


def test_v0_says_little_where_all_is_well_and_waits_where_it_is_not() -> None:
    reply = V0.answer(stored(take(V0, capture(), capture(1))), "r")
    assert (reply.status, reply.body) == (200, b'{"status":1}')

    result = stored(take(V0, capture(), capture(1, event=None)))
    result.are_rejects_kept = False
    assert V0.answer(result, "r").status == 503


def test_the_key_is_a_bearer_or_in_v0_in_the_body() -> None:
    assert V1.key({b"authorization": b"Bearer key"}) == "key"
    assert V1.body_key is None
    assert V0.key({b"authorization": b"Bearer key"}) == "key"
    assert V0.key({}) is None


@pytest.mark.parametrize(
    ("body", "key"),
    [
        pytest.param(body_of(capture(), api_key="key"), "key", id="last"),
        pytest.param(b'{"api_key":" key\\n","batch":[]}', "key", id="first, blanks around"),
        pytest.param(body_of(float("nan"), "\ud83d", api_key="key"), "key", id="NaN beside"),
        pytest.param(b'\xef\xbb\xbf{"api_key":"key"}', "key", id="byte order mark"),
        pytest.param(b'{"batch":[{"api_key":"key"}]}', None, id="deeper"),
        pytest.param(b'{"api_key":5}', None, id="number"),
        pytest.param(b'[{"api_key":"key"}]', None, id="list"),
        pytest.param(b"nothing", None, id="no JSON"),
        pytest.param(b'{"a":' + b"[" * 100_000, None, id="deep"),
    ],
)
def test_v0_finds_its_key_in_the_body(body: bytes, key: str | None) -> None:
    assert V0.body_key is not None
    assert V0.body_key(body) == key


def key_in_body(api: Api, *scopes: Scope) -> str:
    return api.key(*scopes)["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("path", ["/batch/", "/batch"])
@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_v0_over_http(path: str, encode: Callable[[bytes], bytes]) -> None:
    async with open_api(StandIn(ALL_DURABLE)) as api:
        headers = {"content-encoding": "gzip"} if encode is gzip.compress else {}
        for key, status in ((key_in_body(api), 200), ("wrong", 401), (None, 401)):
            content = encode(body_of(capture(), describe(), api_key=key))
            response = await api.client.post(path, content=content, headers=headers)
            assert response.status_code == status
        response = await api.client.post(path, content=body_of(capture()), headers=api.key())
        assert response.json() == {"status": 1}
        assert api.metric("items_total", format="posthog", status="accepted", code="") == 3


@pytest.mark.parametrize("path", [V1_PATH, V1_PATH + "/"])
async def test_v1_over_http(path: str) -> None:
    async with open_api(StandIn(ALL_DURABLE)) as api:
        key = api.key()
        response = await api.client.post(path, content=body_of(capture(1)), headers=key)
        assert response.status_code == 200
        assert response.json() == {"results": {str(uuid.UUID(int=1)): {"result": "ok"}}}
        assert "retry-after" not in response.headers

        content = body_of(capture(1, event=None), capture(2, event=None))
        response = await api.client.post(path, content=content, headers=key)
        assert response.status_code == 200
        assert {each["result"] for each in response.json()["results"].values()} == {"drop"}

        secret = key["authorization"].removeprefix("Bearer ")
        response = await api.client.post(path, content=body_of(capture(), api_key=secret))
        check_error(response, 401, "invalid_key")
        response = await api.client.post(path, content=body_of({}), headers=key)
        check_error(response, 400, "invalid_envelope")


async def test_in_v1_what_is_not_durable_is_to_be_sent_again_alone() -> None:
    async with open_api(StandIn([D, U])) as api:
        content = body_of(capture(1), capture(2), capture(3, event=None))
        response = await api.client.post(V1_PATH, content=content, headers=api.key())

        assert response.status_code == 200
        assert response.headers["retry-after"] == "1"
        results = [each["result"] for each in response.json()["results"].values()]
        assert results == ["ok", "retry", "drop"]


async def test_in_v0_what_is_not_durable_sends_all_again() -> None:
    async with open_api(StandIn([D, U])) as api:
        content = body_of(capture(1), capture(2), capture(3, event=None))
        response = await api.client.post("/batch/", content=content, headers=api.key())
        check_error(response, 503, "not_durable")


async def test_an_outage_of_the_log_is_told_by_both() -> None:
    async with open_api(StandIn(LogUnavailable("away"))) as api:
        headers, content = api.key(), body_of(capture(1))
        response = await api.client.post(V1_PATH, content=content, headers=headers)
        assert response.json()["results"][str(uuid.UUID(int=1))]["result"] == "retry"
        response = await api.client.post("/batch/", content=content, headers=headers)
        check_error(response, 503, "log_unavailable")


ANYTHING = (
    JSON
    | st.builds(capture, uuid=JSON, properties=JSON, event=JSON, distinct_id=JSON, options=JSON)
    | st.builds(grouped, JSON, uuid=st.text(max_size=3))
    | st.builds(describe, JSON, JSON)
    | st.builds(of_person, st.sampled_from(OF_NO_ACCOUNT), st.integers(0, 3))
    | st.builds(
        capture, uuid=st.text(max_size=300), event=st.text(), timestamp=JSON, distinct_id=st.text()
    )
)


@given(batch=st.lists(ANYTHING, min_size=1, max_size=4), ascii_only=st.booleans())
@example(batch=[capture(uuid="\ud83d"), capture()], ascii_only=True)
def test_any_json_gives_an_answer_that_names_every_uuid(
    batch: list[object], *, ascii_only: bool
) -> None:
    body = json.dumps({"batch": batch}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    sent = Counter(str(each.get("uuid")) for each in batch if isinstance(each, dict))
    try:
        result = decoded.take(V1, body)
    except Refused as refused:
        assert "uuid" in refused.message  # noqa: PT017 - both ends are designed
    else:
        if ascii_only:
            assert told(result).keys() == sent.keys()
        assert len(told(result)) == len(sent)

    result = stored(decoded.take(V0, body))
    assert [each.index for each in result.results] == list(range(len(batch)))
    reply: Reply = V0.answer(result, "r")
    assert reply.status in (200, 400)
    json.loads(reply.body)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_answered(body: bytes) -> None:
    submission: Submission = replace(SUBMISSION, headers={b"posthog-request-timestamp": body})
    assert V0.body_key is not None
    V0.body_key(body)
    for wire in (V0, V1):
        try:
            wire.answer(stored(decoded.take(wire, body, submission)), "r")
        except Refused as refused:
            assert refused.message  # noqa: PT017 - both ends are designed


def test_nothing_is_called_safe_that_quarantine_had_no_room_for() -> None:
    bad = {**describe("project", "p1"), "distinct_id": "$project_p1"}
    for wire, status, says in ((V1, 200, b'"drop"'), (V0, 400, b"partial_failure")):
        result = take(wire, capture(), bad)
        for each in result.results:
            each.status = "accepted" if each.status == "retry" else each.status
        assert b"partial_failure" not in wire.answer(result, "r").body
        result.rejects[0].is_dropped = True
        reply = wire.answer(result, "r")
        assert reply.status == status
        assert says in reply.body
    alone = take(V0, bad)
    alone.rejects[0].is_dropped = True
    assert V0.answer(alone, "r").code == "all_rejected"
