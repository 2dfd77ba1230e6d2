"""Events of a user alone, on their way to the log: as all others, under a topic of their own."""

import json

import pytest

from services.ingest.buckets import Buckets
from services.ingest.decoding import decode
from services.ingest.formats.native import NATIVE
from services.ingest.overflow import Overflow
from shared.messages import UNPLACED_EVENTS, USAGE_EVENTS, USAGE_EVENTS_OVERFLOW
from tests.unit.ingest.api import open_api
from tests.unit.ingest.decoded import RULES, SUBMISSION, records, unplaced, warnings
from tests.unit.ingest.native_bodies import item, take
from tests.unit.ingest.test_outages import D, StandIn, U


def alone(**changes: object) -> dict[str, object]:
    return item(account_id=None, user_id="ada", **changes)


def test_it_is_no_account_s_share_and_overflows_nowhere() -> None:
    overflow = Overflow(Buckets(rate=0.001, burst=1), monotonic=lambda: 0.0)
    body = [item(id="1"), *(alone(id=str(number)) for number in range(2, 5)), item(id="5")]
    found = decode(NATIVE, json.dumps(body).encode(), SUBMISSION, RULES, overflow)
    assert {topic: len(parcel.records) for topic, parcel in found.parcels.items()} == {
        USAGE_EVENTS: 1,
        UNPLACED_EVENTS: 3,
        USAGE_EVENTS_OVERFLOW: 1,
    }


@pytest.mark.parametrize("first", [item(), alone()])
def test_the_same_id_twice_is_appended_once_wherever_the_first_went(first: object) -> None:
    found = take([first, alone(), item()])
    assert len(records(found)) + len(unplaced(found)) == 1
    assert warnings(found) == ["duplicate_in_request"] * 2
    assert [shared for _, shared in found.duplicates] == [found.results[0]] * 2


async def test_it_alone_is_sent_again_where_its_topic_alone_did_not_answer() -> None:
    log = StandIn({USAGE_EVENTS: D, UNPLACED_EVENTS: U})
    async with open_api(log) as api:
        body = [item(id="1"), alone(id="2")]
        response = await api.client.post("/v1/events", json=body, headers=api.key())
        results = response.json()["results"]
        assert [each["status"] for each in results] == ["accepted", "retry"]
        assert results[1]["code"] == "not_durable"


async def test_it_goes_on_in_the_trace_of_its_request() -> None:
    log = StandIn({})
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with open_api(log) as api:
        headers = {**api.key(), "traceparent": trace}
        response = await api.client.post("/v1/events", json=[alone()], headers=headers)
        assert response.json() == {"results": [{"index": 0, "id": "e-1", "status": "accepted"}]}
    [record] = log.appended
    [(name, value)] = record.headers
    assert (name, value[3:35]) == ("traceparent", b"0af7651916cd43dd8448eb211c80319c")
