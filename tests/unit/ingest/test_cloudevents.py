"""CloudEvents in their three modes, as the SDKs and OpenMeter's clients send them."""

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.ingest.formats.cloudevents import CLOUDEVENTS
from services.ingest.replies import Refused
from services.ingest.results import Decoded
from shared.credentials import hash_user
from tests.unit.ingest import decoded
from tests.unit.ingest.api import check_error, open_api
from tests.unit.ingest.decoded import (
    NOW,
    SUBMISSION,
    USER_KEY,
    codes,
    events,
    unplaced,
    warnings,
)
from tests.unit.ingest.test_native_envelopes import JSON
from tests.unit.ingest.test_outages import D, StandIn, U

PATH = "/api/v1/events"


def event(**stated: object) -> dict[str, object]:
    """A good one; a change to None leaves the attribute out."""
    whole = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "app/backend",
        "type": "Report Exported",
        "subject": "acme",
        "userid": "ada",
        "time": NOW.isoformat(),
        "data": {"n": 1},
        **stated,
    }
    return {name: value for name, value in whole.items() if value is not None}


def take(body: bytes | object, **headers: str) -> Decoded:
    encoded = {
        name.replace("_", "-").encode(): value.encode("utf-8") for name, value in headers.items()
    }
    return decoded.take(CLOUDEVENTS, body, replace(SUBMISSION, headers=encoded))


def test_one_is_an_event_of_its_subject() -> None:
    [taken] = events(take(event()))
    assert (taken.id, taken.account) == ("app/backend e-1", "acme")
    assert (taken.type, taken.format) == ("report_exported", "cloudevents")
    assert taken.user == hash_user(USER_KEY, "ada")
    assert taken.occurred_at == NOW
    assert taken.properties == {"n": 1}


def test_an_array_is_a_batch_whatever_it_is_called() -> None:
    batch = [event(id="1"), event(id="2")]
    for media_type in ("application/cloudevents-batch+json; charset=utf-8", "application/json"):
        assert len(events(take(batch, content_type=media_type))) == 2


def test_who_it_was_may_stand_in_the_data_and_is_not_kept_there() -> None:
    data = {"account_id": "acme", "user_id": "ada", "n": 1, "$x": 2}
    [taken] = events(take(event(subject=None, userid=None, data=data)))
    assert taken.account == "acme"
    assert taken.user == hash_user(USER_KEY, "ada")
    assert taken.properties == {"n": 1}


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param({"userid": "ada"}, id="attribute"),
        pytest.param({"data": {"account_id": "", "user_id": "ada", "n": 1}}, id="data"),
    ],
)
def test_one_of_a_user_alone_is_unplaced(stated: dict[str, object]) -> None:
    result = take(event(**{"subject": None, "userid": None, **stated}))
    [taken] = unplaced(result)
    assert (taken.id, taken.format) == ("app/backend e-1", "cloudevents")
    assert taken.user == hash_user(USER_KEY, "ada")
    assert taken.properties == {"n": 1}
    assert not events(result)


def test_a_binary_one_of_a_user_alone_is_unplaced() -> None:
    attributes = {"ce_id": "1", "ce_source": "s", "ce_type": "t", "ce_userid": "ada"}
    [taken] = unplaced(take(b'{"n":1}', ce_specversion="1.0", **attributes))
    assert taken.user == hash_user(USER_KEY, "ada")


def test_the_subject_counts_before_the_data() -> None:
    [taken] = events(take(event(data={"account_id": "other", "user_id": "other"})))
    assert taken.account == "acme"
    assert taken.user == hash_user(USER_KEY, "ada")


def test_a_binary_one_has_its_attributes_in_the_headers() -> None:
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": "e-1",
        "ce_source": "app/backend",
        "ce_type": "report%20exported",
        "ce_subject": "caf%C3%A9 100%",
        "ce_time": NOW.isoformat(),
        "ce_userid": "ada",
    }
    for kind in ({}, {"content_type": "application/json; charset=utf-8"}):
        result = take(b'{"n":1,"ratio":NaN}', **attributes, **kind)
        [taken] = events(result)
        assert (taken.id, taken.account) == ("app/backend e-1", "café 100%")
        assert taken.type == "report_exported"
        assert taken.properties == {"n": 1, "ratio": None}
        assert warnings(result) == ["number_repaired"]

    assert events(take(b"", **attributes))[0].properties == {}
    assert events(take(b"<n/>", **attributes, content_type="text/xml"))[0].properties == {}
    assert codes(take(b"<n/>", **attributes)) == ["invalid_json"]


def test_a_binary_one_may_be_as_large_as_any_other() -> None:
    attributes = {"ce_id": "1", "ce_source": "s", "ce_type": "t", "ce_subject": "acme"}
    for size, code in ((60_000, None), (66_000, "event_too_large")):
        body = json.dumps({"x": "y" * size}).encode()
        assert codes(take(body, ce_specversion="1.0", **attributes)) == [code]
        assert codes(take(event(data={"x": "y" * size}))) == [code]


@pytest.mark.parametrize("absent", [None, ""])
def test_null_and_nothing_are_as_absent(absent: object) -> None:
    data = {"account_id": absent, "tenant_id": "acme", "user_id": "ada"}
    whole = {**event(data=data), "subject": absent, "userid": absent}
    [taken] = events(take(whole))
    assert (taken.account, taken.user) == ("acme", hash_user(USER_KEY, "ada"))


@pytest.mark.parametrize("data", [None, "text", 3, [1]], ids=["none", "text", "a number", "a list"])
def test_data_of_another_kind_is_an_event_all_the_same(data: object) -> None:
    [taken] = events(take(event(data=data)))
    assert taken.properties == {}


def test_data_may_come_as_bytes() -> None:
    packed = base64.b64encode(b'{"n":1}').decode()
    [taken] = events(take(event(data=None, data_base64=packed)))
    assert taken.properties == {"n": 1}
    foreign = event(data=None, data_base64=packed, datacontenttype="image/png")
    assert events(take(foreign))[0].properties == {}


def test_an_id_too_long_for_us_is_still_the_same_each_time() -> None:
    long = event(source="https://example.com/" + "a" * 300)
    first, again = (events(take(long))[0].id for _ in range(2))
    assert first == again
    assert first.startswith("sha256:")
    assert first != events(take({**long, "id": "e-2"}))[0].id


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (event(specversion="0.3"), "invalid_field"),
        (event(specversion=None), "invalid_field"),
        (event(id=None), "invalid_id"),
        (event(source=""), "invalid_id"),
        (event(type=None), "missing_type"),
        (event(subject=None, userid=None), "missing_account"),
        (event(time="now"), "invalid_time"),
        (event(data=None, data_base64="?"), "invalid_properties"),
        (3, "invalid_field"),
    ],
)
def test_a_bad_one_among_99_good_ones_is_rejected_alone(bad: object, code: str) -> None:
    good = [event(id=str(number)) for number in range(99)]
    result = take([*good[:50], bad, *good[50:]])
    assert [found for found in codes(result) if found] == [code]
    assert len(events(result)) == 99


@pytest.mark.parametrize("body", [b"", b"[]", b"nothing", b"3"])
def test_a_bad_envelope_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Refused):
        take(body)


async def test_no_words_where_all_is_well() -> None:
    async with open_api(StandIn([D])) as api:
        response = await api.client.post(PATH, json=event(), headers=api.key())
        assert response.status_code == 204
        assert response.content == b""
        assert "content-length" not in response.headers


async def test_what_was_rejected_is_told_and_the_good_ones_are_in() -> None:
    log = StandIn([D])
    async with open_api(log) as api:
        body = [event(), event(id="e-2", type=None)]
        response = await api.client.post(PATH, json=body, headers=api.key())
        error = check_error(response, 400, "partial_failure")
        results = error["results"]
        assert isinstance(results, list)
        assert [result["status"] for result in results] == ["accepted", "rejected"]
        # Some clients send again whatever carries this header.
        assert "retry-after" not in response.headers
        assert log.appended

        nobody_s = event(subject=None, userid=None)
        response = await api.client.post(PATH, json=nobody_s, headers=api.key())
        check_error(response, 400, "all_rejected")
    async with open_api(StandIn([U])) as api:
        response = await api.client.post(PATH, json=event(), headers=api.key())
        check_error(response, 503, "not_durable")


@given(st.lists(JSON | st.builds(event, id=JSON, data=JSON, subject=JSON), min_size=1))
def test_any_json_gives_one_result_per_event(batch: list[object]) -> None:
    result = take(json.dumps(batch).encode("utf-8", "surrogatepass"))
    assert [each.index for each in result.results] == list(range(len(batch)))
    assert len(events(result)) + len(unplaced(result)) + len(result.duplicates) == sum(
        each.status == "retry" for each in result.results
    )
    msgspec.json.encode(result.results)


@given(st.binary(max_size=60), st.binary(max_size=30))
def test_any_header_and_body_of_a_binary_one_is_answered(value: bytes, body: bytes) -> None:
    headers = {b"ce-specversion": b"1.0", b"ce-id": value, b"ce-source": b"app", b"ce-type": value}
    result = decoded.take(CLOUDEVENTS, body, replace(SUBMISSION, headers=headers))
    assert len(result.results) == 1
