"""What becomes of rejected items: kept as they came, without people, within a bound, and back."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.ingest import account_rows, directory
from services.ingest.buckets import Buckets
from services.ingest.cleaning import MAX_BYTES, MAX_HASHES, MAX_VALUES
from services.ingest.directory import DirectoryRules, DirectorySubmission
from services.ingest.formats import segment
from services.ingest.inflight import InFlight
from services.ingest.items import Parsed
from services.ingest.metrics import IngestMetrics
from services.ingest.quarantine import Origin, Quarantine
from services.ingest.replay import Replayer
from services.ingest.results import Decoded
from services.ingest.routes import EVENT_PATHS
from services.ingest.settings import IngestSettings
from services.ingest.wire import FormatName, Submission
from shared.credentials import HashedUser, KeyRing, hash_user
from shared.errors import InvalidMessage
from shared.log import Record, StoredRecord
from shared.messages import DirectoryChange, Source, UnplacedEvent, UsageEvent, decode
from shared.quarantine import MAX_ITEM_BYTES, Rejected, read_rejected
from tests.unit.ingest import decoded
from tests.unit.ingest.decoded import NOW, SUBMISSION, USER_KEY
from tests.unit.ingest.native_bodies import item

ADA = "ada@example.com"
DIRECTORY_RULES = DirectoryRules(
    max_items=2_000, max_item_bytes=64 * 1024, max_record_bytes=96 * 1024
)


def hashed(user: str) -> HashedUser:
    return hash_user(USER_KEY, user)


class Ward:
    """A quarantine with a clock and metrics of its own."""

    def __init__(self, *, rate: float = 0, burst: float = 1_000) -> None:
        self.registry = CollectorRegistry()
        self.now = 0.0
        inflight = InFlight(max_bytes=1, max_events=1)
        self.quarantine = Quarantine(
            hash_user=hashed,
            buckets=Buckets(rate=rate, burst=burst),
            metrics=IngestMetrics(self.registry, inflight),
            monotonic=lambda: self.now,
        )

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"perennial_ingest_{name}_total", labels)


def origin_of(path: str, submission: Submission) -> Origin:
    wire = EVENT_PATHS[path]
    return Origin(
        format=wire.name,
        source=submission.source.name,
        request_id="r-1",
        received_at=submission.received_at,
        wire=wire,
        submission=submission,
    )


def set_aside(
    body: bytes | object, *, path: str = "/v1/events", **changes: Any
) -> tuple[Decoded, list[Record]]:
    """What quarantine keeps of a request."""
    submission = msgspec.structs.replace(SUBMISSION, path=path, **changes)
    found = decoded.take(EVENT_PATHS[path], body, submission)
    return found, Ward().quarantine.take(found, origin_of(path, submission)).records


def stored(record: Record, *, offset: int = 7) -> Rejected:
    found = read_rejected(
        StoredRecord(
            offset=offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            appended_at=NOW,
        ),
        2,
    )
    assert found is not None
    return found


def only(body: bytes | object, *, path: str = "/v1/events", **changes: Any) -> Rejected:
    _, [record] = set_aside(body, path=path, **changes)
    return stored(record)


def replayer(
    source: Source | None = None, *, may_change_accounts: bool = False, **settings: object
) -> Replayer:
    ring = KeyRing()
    if source is not None:
        ring.put_source(source)
    return Replayer(
        IngestSettings.model_validate(settings),
        ring,
        may_change_accounts={"app"} if may_change_accounts else (),
    )


def event(records: object) -> UsageEvent:
    assert isinstance(records, list)
    [found] = [record for topic, record in records if topic == "usage-events"]
    return decode(UsageEvent, found.value)


BAD: Mapping[str, object] = {
    "missing_account": item(account_id=None),
    "conflicting_account": item(tenant_id="other"),
    "invalid_account": item(account_id="undefined"),
    "missing_type": item(type=None),
    "invalid_type": item(type=7),
    "invalid_id": item(id=["no"]),
    "invalid_time": item(occurred_at="yesterday"),
    "too_old": item(occurred_at="2020-01-01T00:00:00Z"),
    "invalid_properties": item(properties="none"),
    "invalid_text": item(account_id="a\0"),
    "too_deep": item(properties={"a": json.loads("[" * 40 + "]" * 40)}),
    "invalid_field": ["not an object"],
}


@pytest.mark.parametrize("code", BAD)
def test_each_bad_item_is_kept_as_it_came_with_its_reason(code: str) -> None:
    data = json.dumps(BAD[code]).encode()
    found, [record] = set_aside(b"[" + data + b"]")
    rejected = stored(record)
    [result] = found.results
    assert result.code == rejected.code == code
    assert rejected.value == data
    assert rejected.reason == result.message
    assert (rejected.stage, rejected.source) == ("ingest.decode", "app")
    assert rejected.why_not_replayable is None
    assert rejected.said["request_id"] == "r-1"
    assert rejected.said["format"] == "native"
    assert rejected.said["received_at"] == NOW.isoformat()


@pytest.mark.parametrize(
    ("body", "account"),
    [
        pytest.param(item(type=None), "acme", id="stated"),
        pytest.param(item(account_id=None), None, id="none"),
        pytest.param(item(account_id="a\0"), None, id="none that could be stored"),
        pytest.param(item(type=None, account_id=42), "42", id="an integer"),
    ],
)
def test_the_key_is_the_account_else_the_source(body: object, account: str | None) -> None:
    rejected = only(body)
    assert rejected.account == account
    assert rejected.key == (account or "app").encode()


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (b'{"id":"1",', b'{"xx":"x",'),
        (b"{'user_id':'bob'}", b"{'xxxxxxx':'xxx'}"),
        (b'{"user_id" : bob, "n": 17.5}', b'{"xxxxxxx" : xxx, "x": xxxx}'),
        (b'{"x":"bob\\u0040x.com" b\xc3\xb6b}', b'{"x":"xxx\\xxxxxxxxxx" xxx}'),
        (b'{"userid": bob%40x.com} bob@localhost', b'{"xxxxxx": xxxxxxxxxxx} xxxxxxxxxxxxx'),
        (b'{"x": caf\xe9}', b'{"x": xxxx}'),
        (b'{"x":' + b"y" * 1_000, b'{"x":' + b"x" * 251),
    ],
)
def test_of_a_line_that_is_no_json_only_the_shape_is_kept(line: bytes, shape: bytes) -> None:
    headers = {b"content-type": b"application/x-ndjson"}
    rejected = only(line + b"\n" + json.dumps(item()).encode(), headers=headers)
    assert (rejected.code, rejected.value) == ("invalid_json", shape)
    assert rejected.said["cut"] == str(len(line))
    assert rejected.why_not_replayable is not None


def test_an_item_that_only_the_patient_parser_reads_comes_back_the_same() -> None:
    body = b'{"id":"e","type":"t","properties":{"x":NaN,"y":"\\ud83d","z":"caf\xe9"}}'
    rejected = only(b"[" + body + b"]")
    source = Source(name="app", default_account="acme")
    properties = event(replayer(source).records(rejected)).properties
    assert properties == {"x": None, "y": "\ufffd", "z": "caf\ufffd"}


@pytest.mark.parametrize("size", [65 * 1024, 1024 * 1024])
def test_what_is_too_large_is_cut_and_says_so(size: int) -> None:
    body = json.dumps(item(user_id=ADA, properties={"x": "y" * size})).encode()
    rejected = only(b"[" + body + b"]")
    assert rejected.code == "event_too_large"
    assert rejected.size <= MAX_ITEM_BYTES
    assert rejected.said["cut"] == str(len(body))
    assert "cut" in (rejected.why_not_replayable or "")
    assert b"ada" not in (rejected.value or b"")
    assert b"yyy" not in (rejected.value or b"")


def test_what_grows_over_the_limit_while_it_is_cleaned_is_cut() -> None:
    people = [f"a{number}@b.co" for number in range(3_000)]  # 10 characters each become 35
    rejected = only(item(type=None, properties={"x": people}))
    assert rejected.size == MAX_ITEM_BYTES
    assert rejected.why_not_replayable is not None


OLD = "2020-01-01T00:00:00Z"
PEOPLE = {
    "/v1/events": item(type=None, user_id=ADA, properties={"email": ADA, "note": f"to {ADA}."}),
    segment.BATCH: {
        "type": "track",
        "event": "used",
        "messageId": "m",
        "userId": ADA,
        "timestamp": OLD,
        "anonymousId": "anon-ada",
        "context": {"traits": {"email": ADA}},
        "properties": {"email": ADA},
    },
    "/v1/identify": {
        "messageId": "m",
        "userId": ADA,
        "timestamp": OLD,
        "traits": {"email": ADA, "name": "x"},
    },
    "/v1/alias": {"messageId": "m", "userId": ADA, "timestamp": OLD, "previousId": "anon-ada"},
    "/api/v1/events": {
        "specversion": "1.0",
        "id": "1",
        "source": "s",
        "type": "t",
        "time": OLD,
        "data": {"user_id": ADA, "address": ADA},
    },
    "/batch": {
        "event": "used",
        "uuid": "u",
        "distinct_id": ADA,
        "timestamp": OLD,
        "properties": {"$set": {"email": ADA}, "$anon_distinct_id": "anon-ada"},
    },
}


@pytest.mark.parametrize("path", PEOPLE)
def test_people_are_hashed_and_a_replay_knows_them(path: str) -> None:
    rejected = only(PEOPLE[path], path=path)
    kept = (rejected.value or b"").decode()
    assert ADA not in kept
    assert "anon-ada" not in kept
    assert hashed(ADA) in kept
    if path == "/v1/events":
        return
    assert rejected.code == "too_old"
    source = Source(name="app", default_account="acme")
    assert event(replayer(source).records(rejected)).user == hashed(ADA)
    [(topic, record)] = replayer().records(rejected)
    assert topic == "unplaced-events"
    assert record.key == hashed(ADA).encode()
    assert decode(UnplacedEvent, record.value).user == hashed(ADA)


@pytest.mark.parametrize("company", ["ada@example.com", 42, "acme"])
def test_a_replay_finds_the_account_that_the_traits_of_a_user_name(company: object) -> None:
    """An id that looks like an address stays one: it is the account's name, and no person's."""
    traits = {"email": ADA, "company": {"id": company, "owner": ADA}}
    body = {"messageId": "m", "userId": ADA, "timestamp": OLD, "traits": traits}
    rejected = only(body, path="/v1/identify")
    assert rejected.account == str(company)
    found = event(replayer().records(rejected))
    assert (found.account, found.user) == (str(company), hashed(ADA))


def packed(data: bytes, **stated: object) -> dict[str, object]:
    """An event whose data travels as bytes."""
    data_base64 = base64.b64encode(data).decode()
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    return {**event, "data_base64": data_base64, **stated}


def test_data_that_travelled_as_bytes_is_cleaned_too() -> None:
    body = packed(json.dumps({"user_id": ADA, "n": 1}).encode(), time=OLD)
    rejected = only(body, path="/api/v1/events")
    kept = json.loads(rejected.value or b"")
    assert kept["data"] == {"user_id": hashed(ADA), "n": 1}
    assert "data_base64" not in kept
    source = Source(name="app", default_account="acme")
    found = event(replayer(source).records(rejected))
    assert (found.user, found.properties) == (hashed(ADA), {"n": 1})


@pytest.mark.parametrize(
    "body",
    [
        packed(b"", data_base64=base64.b64encode(b'{"user_id":"bob-7"}').decode() + "!"),
        packed(b'{"user_id":"bob-7"'),
        packed(b'<user id="bob-7"/>', datacontenttype="text/xml"),
    ],
    ids=["no base64", "no JSON", "not meant as JSON"],
)
def test_bytes_that_hold_no_data_are_not_kept(body: dict[str, object]) -> None:
    rejected = only(body, path="/api/v1/events")
    kept = json.loads(rejected.value or b"")
    assert kept == {**body, "data_base64": ""}
    source = Source(name="app", default_account="acme")
    if "datacontenttype" in body:
        assert event(replayer(source).records(rejected)).properties == {}
    else:
        with pytest.raises(InvalidMessage, match="invalid_"):
            replayer(source).records(rejected)


def test_a_binary_event_of_the_largest_size_is_kept_whole() -> None:
    headers = {
        b"ce-specversion": b"1.0",
        b"ce-id": b"1",
        b"ce-source": b"s",
        b"ce-type": b"t",
    }
    data = {"x": "y" * 60_000}
    rejected = only(json.dumps(data).encode(), path="/api/v1/events", headers=headers)
    assert rejected.code == "missing_account"
    source = Source(name="app", default_account="acme")
    assert event(replayer(source).records(rejected)).properties == data


NAMED = {
    "user": {"id": "bob-7", "uuid": "bob-7"},
    "users": [{"id": "bob-7"}, "bob-7"],
    "context": {"traits": {"id": "bob-7"}, "person": {"key": "bob-7"}},
    "$set": {"id": "bob-7"},
    "uid": "bob-7",
    "user_ids": ["bob-7", 17],
    "customerId": "bob-7",
    "customer": {"id": "bob-7"},
    "Member IDs": ["bob-7"],
    "emails": ["bob-7"],
}


@pytest.mark.parametrize("name", NAMED)
def test_people_are_found_under_all_their_names(name: str) -> None:
    kept = only(item(type=None, properties={name: NAMED[name]})).value or b""
    assert b"bob-7" not in kept
    assert b"17" not in kept
    assert hashed("bob-7").encode() in kept


def test_how_many_people_there_are_is_no_name() -> None:
    body = item(type=None, properties={"users": 25, "emails": [3], "plan": {"id": 7}})
    assert only(body).value == msgspec.json.encode(body)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"to {ADA}, please", f"to {hashed(ADA)}, please"),
        (f"'{ADA}'.", f"'{hashed(ADA)}'."),
        ("bob%40x.com", hashed("bob%40x.com")),
        ("a%20bob%40x.com", hashed("a%20bob%40x.com")),
        ("bob@localhost", hashed("bob@localhost")),
        ("b\u00f6b@ex\u00e4mple.de", hashed("b\u00f6b@ex\u00e4mple.de")),
        ("bob@x.com'ann@y.com", hashed("bob@x.com'ann@y.com")),
        ("bob%40x.com%2Cann%40y.com", hashed("bob%40x.com%2Cann%40y.com")),
        ("@example and 100% @ home", "@example and 100% @ home"),
        ("%4", "%4"),
    ],
)
def test_addresses_are_found_in_text_as_people_write_them(text: str, kept: str) -> None:
    rejected = only(item(type=None, properties={"note": text}))
    assert json.loads(rejected.value or b"")["properties"] == {"note": kept}


def test_a_hash_from_outside_is_a_name_like_any_other() -> None:
    forged = hashed("somebody else")
    rejected = only(item(user_id=forged, occurred_at=OLD))
    assert event(replayer().records(rejected)).user == hashed(forged) != forged


def test_a_name_in_clear_never_gets_out_of_quarantine() -> None:
    """Were there a format whose user is not found on its way in."""
    rejected = only(item(user_id=ADA, occurred_at=OLD))
    clear = Record(key=b"app", value=json.dumps(item(user_id=ADA)).encode())
    value = clear.value
    headers = tuple((f"perennial.{name}", text.encode()) for name, text in rejected.said.items())
    found = stored(Record(key=b"app", value=value, headers=headers))
    with pytest.raises(InvalidMessage, match="invalid_field: user_id"):
        replayer().records(found)


@pytest.mark.parametrize(
    "user", [["a"], {"id": ADA}, 1.5, "x" * 201], ids=["list", "object", "float", "long"]
)
def test_what_is_no_user_is_none_after_hashing_either(user: object) -> None:
    rejected = only(item(user_id=user))
    assert rejected.code == "invalid_field"
    assert ADA.encode() not in (rejected.value or b"")
    with pytest.raises(InvalidMessage, match="invalid_field"):
        replayer().records(rejected)


def test_a_placeholder_stays_one() -> None:
    rejected = only(item(account_id=None, user_id="anonymous"))
    source = Source(name="app", default_account="acme")
    assert event(replayer(source).records(rejected)).user is None


def test_accounts_and_ids_that_look_like_addresses_stay_what_they_are() -> None:
    body = item(id="m@1.example", account_id="team@acme.example", type=None)
    assert only(body).value == msgspec.json.encode(body)
    described = {
        "type": "group",
        "messageId": "m@1.example",
        "groupId": "team@acme.example",
        "traits": {"owner": "csm@vendor.example", "contact": ADA},
    }
    rejected = only(described, path=segment.BATCH, may_change_accounts=False)
    assert rejected.code == "scope_missing"
    kept = json.loads(rejected.value or b"")
    assert kept["groupId"] == "team@acme.example"
    assert kept["messageId"] == "m@1.example"
    assert kept["traits"] == {"owner": "csm@vendor.example", "contact": hashed(ADA)}


def test_a_key_in_an_item_is_blotted_out() -> None:
    key = "prn_live_" + "a" * 12 + "_" + "b" * 32 + "_" + "c" * 6
    for body in ({"writeKey": key}, {"account_id": key}, {"x": [f"say {key}"]}):
        assert b"bbb" not in (only(item(type=None, **body)).value or b"")


def test_beyond_its_bound_a_source_is_counted_and_others_are_not_hit() -> None:
    ward = Ward(rate=2, burst=3)
    body = [item(id=str(number), type=None) for number in range(5)]

    def kept(source: str) -> tuple[Sequence[Record], Decoded]:
        submission = msgspec.structs.replace(SUBMISSION, source=Source(name=source))
        found = decoded.take(EVENT_PATHS["/v1/events"], body, submission)
        with ward.quarantine.take(found, origin_of("/v1/events", submission)) as aside:
            aside.settle(are_durable=True)
        return aside.records, found

    records, found = kept("app")
    assert [stored(each).value for each in records] == list(map(msgspec.json.encode, body[:3]))
    assert [reject.is_dropped for reject in found.rejects] == [False] * 3 + [True] * 2
    assert found.has_dropped()
    assert ward.metric("quarantine_dropped", reason="rate") == 2

    assert len(kept("other")[0]) == 3
    ward.now += 1  # two more tokens
    assert len(kept("app")[0]) == 2
    assert ward.metric("quarantine_dropped", reason="rate") == 2 + 2 + 3


def test_what_is_kept_is_counted_by_code_once_the_log_has_it() -> None:
    ward = Ward(rate=1, burst=5)
    assert ward.metric("quarantined", code="missing_type") == 0
    assert ward.metric("quarantine_dropped", reason="size") == 0
    found = decoded.take(EVENT_PATHS["/v1/events"], [item(type=None)] * 6, SUBMISSION)
    origin = origin_of("/v1/events", SUBMISSION)
    with ward.quarantine.take(found, origin):
        pass  # The caller will send all of it again.
    assert ward.metric("quarantine_dropped", reason="rate") == 0
    with ward.quarantine.take(found, origin) as aside:
        aside.settle(are_durable=False)
    assert ward.metric("quarantined", code="missing_type") == 0
    assert ward.metric("quarantine_dropped", reason="log") == 5
    assert ward.metric("quarantine_dropped", reason="rate") == 1
    with ward.quarantine.take(found, origin) as aside:
        aside.settle(are_durable=True)
    assert ward.metric("quarantined", code="missing_type") == 5


LARGE: Mapping[str, tuple[int, object]] = {
    "bytes": (MAX_BYTES // 60_000, {"x": "y" * 60_000}),
    "values": (MAX_VALUES // 5_000, {"x": [0] * 4_990}),
    "addresses": (MAX_HASHES // 500, {"x": " ".join(f"{n}@b.c" for n in range(499))}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_one_request_keeps_the_others_waiting_for_so_long_at_most(kind: str) -> None:
    most, properties = LARGE[kind]
    ward = Ward()
    body = [item(id=str(number), type=None, properties=properties) for number in range(most + 3)]
    found = decoded.take(EVENT_PATHS["/v1/events"], body, SUBMISSION)
    with ward.quarantine.take(found, origin_of("/v1/events", SUBMISSION)) as aside:
        aside.settle(are_durable=True)
    assert [reject.is_dropped for reject in found.rejects] == [False] * most + [True] * 3
    assert len(aside.records) == most
    assert ward.metric("quarantine_dropped", reason="size") == 3


def test_the_rows_of_a_file_have_the_same_bounds() -> None:
    header = b"id," + b",".join(b"c%d" % number for number in range(990)) + b"\n"
    body = header + (b",a@b.c" * 990 + b"\n") * 200
    ward = Ward()
    found = account_rows.decode(body, DIRECTORY_RULES, SAYS)
    origin = Origin(
        format=FormatName.DIRECTORY, source="crm", received_at=NOW, operation="patch", is_csv=True
    )
    with ward.quarantine.take(found, origin) as aside:
        aside.settle(are_durable=True)
    assert len(aside.records) == MAX_HASHES // 990
    assert all(b"@" not in (record.value or b"") for record in aside.records)
    assert ward.metric("quarantine_dropped", reason="size") == 200 - len(aside.records)


def test_the_header_of_a_file_is_held_once_however_many_rows_are_bad() -> None:
    body = b"id," + b"c" * 60_000 + b"\n" + b",\n" * 1_000
    found = account_rows.decode(body, DIRECTORY_RULES, SAYS)
    assert len({id(reject.header) for reject in found.rejects}) == 1
    assert sum(len(reject.item) for reject in found.rejects if isinstance(reject.item, bytes)) < (
        10_000
    )


def test_what_waits_for_the_log_holds_no_values_any_more() -> None:
    body = b'[{"event":"$set","uuid":"u-1","x":[NaN,{},{}]},[{}],{"uuid":"' + b"u" * 2_000 + b'"}]'
    found, _ = set_aside(body)
    assert [reject.item for reject in found.rejects] == [
        Parsed({"event": "$set", "uuid": "u-1"}, 0),
        Parsed({}, 0),
        Parsed({}, 0),
    ]


def test_a_replay_comes_out_the_same_each_time() -> None:
    body = item(id=None, account_id=None, user_id="guest", occurred_at="2026-03-10T11:50:00Z")
    rejected = only(body)
    source = Source(name="app", default_account="acme", type_map={"login": "used"})
    first = replayer(source).records(rejected)
    assert first == replayer(source).records(rejected)
    found = event(first)
    assert found.id == "quarantine-2-7"
    assert (found.source, found.account, found.type) == ("app", "acme", "used")
    assert found.received_at == NOW
    assert found.client_at == datetime(2026, 3, 10, 11, 50, tzinfo=UTC)


def test_without_an_id_it_takes_the_one_that_its_request_gave_it() -> None:
    body = [item(), item(id=None, account_id=None)]
    _, [record] = set_aside(body, idempotency_key="req-9")
    source = Source(name="app", default_account="acme")
    assert event(replayer(source).records(stored(record))).id == "req-9-1"


def test_a_number_that_is_none_is_no_id_in_a_replay_either() -> None:
    rejected = only(b'[{"id":NaN,"type":"t"}]')
    source = Source(name="app", default_account="acme")
    assert event(replayer(source).records(rejected)).id == "quarantine-2-7"


def test_the_senders_clock_is_corrected_as_on_arrival() -> None:
    sent = NOW - timedelta(hours=2)
    body = {
        "sent_at": sent.isoformat(),
        "events": [item(account_id=None, occurred_at=(sent - timedelta(hours=1)).isoformat())],
    }
    source = Source(name="app", default_account="acme")
    found = event(replayer(source).records(only(body)))
    assert found.occurred_at == NOW - timedelta(hours=1)
    assert found.client_at == sent - timedelta(hours=1)


def test_an_operator_may_replay_what_is_old() -> None:
    rejected = only(item(id=None, occurred_at="2020-01-01T00:00:00Z"))
    assert rejected.code == "too_old"
    found = event(replayer().records(rejected))
    assert found.backfill
    assert found.occurred_at == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_request_that_was_marked_as_history_stays_so() -> None:
    rejected = only(item(account_id=None), marks_backfill=True)
    source = Source(name="app", default_account="acme")
    assert event(replayer(source).records(rejected)).backfill


def test_todays_limits_hold() -> None:
    rejected = only(item(account_id=None, properties={"x": "y" * 500}))
    source = Source(name="app", default_account="acme")
    with pytest.raises(InvalidMessage, match="event_too_large"):
        replayer(source, ingest_max_item_bytes=100).records(rejected)


def test_what_is_still_wrong_says_so() -> None:
    with pytest.raises(InvalidMessage, match="missing_account"):
        replayer().records(only(item(account_id=None)))


def test_a_group_changes_the_directory_once_its_source_may() -> None:
    body = {"messageId": "m", "groupId": "acme", "traits": {"plan": "team"}}
    rejected = only(body, path="/v1/group", may_change_accounts=False)
    assert rejected.code == "scope_missing"
    with pytest.raises(InvalidMessage, match="scope_missing"):
        replayer().records(rejected)
    records = dict(replayer(may_change_accounts=True).records(rejected))
    change = decode(DirectoryChange, records["directory-changes"].value)
    assert (change.account, change.fields.plan, change.received_at) == ("acme", "team", NOW)


def accounts(found: Decoded, submission: DirectorySubmission, **said: Any) -> list[Rejected]:
    origin = Origin(
        format=FormatName.DIRECTORY,
        source=submission.source,
        request_id="r-1",
        received_at=submission.received_at,
        operation=submission.operation,
        **said,
    )
    return [stored(record) for record in Ward().quarantine.take(found, origin).records]


SAYS = DirectorySubmission(source="crm", received_at=NOW, operation="patch")


def changed(rejected: Rejected) -> DirectoryChange:
    [(topic, record)] = replayer().records(rejected)
    assert topic == "directory-changes"
    return decode(DirectoryChange, record.value)


def mended(rejected: Rejected, old: bytes, new: bytes) -> Rejected:
    """As if today's rule took it."""
    headers = tuple(
        (f"perennial.{name}", text.encode("utf-8", "surrogatepass"))
        for name, text in rejected.said.items()
    )
    value = (rejected.value or b"").replace(old, new)
    return stored(Record(key=rejected.key, value=value, headers=headers))


@pytest.mark.parametrize("as_lines", [False, True])
def test_an_account_of_a_batch_comes_back_with_its_owner(*, as_lines: bool) -> None:
    body = b'{"id":"acme","seats":-1,"owner":"csm@vendor.example","contact":"ada@example.com"}'
    submission = DirectorySubmission(source="crm", received_at=NOW, operation="put", lines=as_lines)
    found = directory.decode(body, DIRECTORY_RULES, submission)
    [rejected] = accounts(found, submission)
    assert (rejected.account, rejected.key, rejected.source) == ("acme", b"acme", "crm")
    assert b"ada@" not in (rejected.value or b"")
    with pytest.raises(InvalidMessage, match="invalid_field: seats"):
        replayer().records(rejected)
    change = changed(mended(rejected, b"-1", b"5"))
    assert (change.op, change.account, change.source) == ("put", "acme", "crm")
    assert (change.fields.seats, change.fields.owner) == (5, "csm@vendor.example")
    assert change.received_at == NOW


def test_an_account_that_the_address_names_comes_back_under_that_name() -> None:
    submission = DirectorySubmission(source="crm", received_at=NOW, operation="put")
    found = directory.decode_one(b'{"seats":-1}', "caf\u00e9/1", DIRECTORY_RULES, submission)
    [rejected] = accounts(found, submission, addressed="caf\u00e9/1")
    assert changed(mended(rejected, b"-1", b"5")).account == "caf\u00e9/1"


def test_an_address_that_is_no_text_does_not_become_one() -> None:
    submission = DirectorySubmission(source="crm", received_at=NOW, operation="put")
    found = directory.decode_one(b'{"seats":1}', "caf\udce9", DIRECTORY_RULES, submission)
    [rejected] = accounts(found, submission, addressed="caf\udce9")
    assert rejected.key == b"crm"
    with pytest.raises(InvalidMessage, match="invalid_text"):
        replayer().records(rejected)


def test_a_csv_row_comes_back_with_its_owner() -> None:
    body = b"id;seats;owner;contact\nacme;-1;csm@vendor.example;ada@example.com\n"
    found = account_rows.decode(body, DIRECTORY_RULES, SAYS)
    [rejected] = accounts(found, SAYS, is_csv=True)
    assert b"ada@" not in (rejected.value or b"")
    change = changed(mended(rejected, b"-1", b"5"))
    assert (change.fields.seats, change.fields.owner) == (5, "csm@vendor.example")


def csv_rejected(body: bytes) -> bytes:
    [rejected] = accounts(account_rows.decode(body, DIRECTORY_RULES, SAYS), SAYS, is_csv=True)
    return rejected.value or b""


def test_a_cell_is_cleaned_by_the_name_of_its_column() -> None:
    body = b'id,seats,User ID,email,bob@x.com\nacme,-1,bob-7,,"a\nb"\n'
    kept = csv_rejected(body).decode()
    assert kept.splitlines() == [
        f"id,seats,User ID,email,{hashed('bob@x.com')}",
        f'acme,-1,{hashed("bob-7")},,"a',
        'b"',
    ]


def test_a_row_with_nothing_to_hide_is_kept_as_it_came() -> None:
    body = b"id;seats\r\nacme;'-1' \r\n"
    assert csv_rejected(body) == body


@pytest.mark.parametrize("row", [b"acme,-1,bob-7,bob@x.com,more\n", b'acme,"-1"x,bob@x.com\n'])
def test_of_a_row_that_is_none_only_the_shape_is_kept(row: bytes) -> None:
    kept = csv_rejected(b"id,seats,contact\n" + row)
    assert b"bob" not in kept
    assert kept.count(b",") == row.count(b",")


def test_a_line_that_held_two_accounts_is_not_two_accounts_now() -> None:
    submission = DirectorySubmission(source="crm", received_at=NOW, operation="patch", lines=True)
    found = directory.decode(b'{"id":"a"},{"id":"b"}', DIRECTORY_RULES, submission)
    [rejected] = accounts(found, submission)
    with pytest.raises(InvalidMessage, match="invalid_json"):
        replayer().records(rejected)


def test_what_does_not_say_how_to_read_it_is_not_guessed() -> None:
    rejected = only(item(account_id=None))
    said = {**rejected.said, "path": "/v9/events"}
    headers = tuple((f"perennial.{name}", text.encode()) for name, text in said.items())
    found = stored(Record(key=b"app", value=rejected.value, headers=headers))
    with pytest.raises(InvalidMessage, match="unknown_origin"):
        replayer().records(found)
