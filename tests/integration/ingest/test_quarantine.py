"""Rejected items over HTTP into a real log, and what callers hear when it is away."""

import json
from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.ingest.formats import segment
from services.ingest.publisher import AppendLog
from shared.log import Appended, Log, LogUnavailable, Record
from shared.log.postgres import PostgresLog
from shared.messages import REJECTED, USAGE_EVENTS, UsageEvent
from shared.quarantine import Rejected, read_rejected
from tests.integration.ingest.stored import stored
from tests.unit.ingest.api import NOW, Api, check_error, open_api
from tests.unit.ingest.native_bodies import item

_WAIT = timedelta(milliseconds=200)


class WithoutQuarantine:
    """A log whose topic `rejected` cannot be reached."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        if topic == REJECTED:
            raise LogUnavailable(topic)
        return await self._log.append(topic, records, deadline=deadline)

    async def ping(self) -> bool:
        return await self._log.ping()


async def in_quarantine(log: Log) -> list[Rejected]:
    found = []
    async with log.follow(REJECTED) as consumer:
        while batches := await consumer.fetch(max_records=10_000, wait=_WAIT):
            for batch in batches:
                for record in batch.records:
                    rejected = read_rejected(record, batch.partition.partition)
                    assert rejected is not None
                    found.append(rejected)
    return found


async def test_the_bad_items_of_a_batch_are_in_quarantine(api: Api, log: PostgresLog) -> None:
    bad = [item(id="no-type", type=None), item(id="no-account", account_id=None), "text"]
    body = [*(item(id=str(number)) for number in range(97)), *bad]
    response = await api.client.post(
        "/v1/events", json=body, headers={**api.key(source="web"), "x-request-id": "req-1"}
    )

    assert response.status_code == 200
    found = {rejected.code: rejected for rejected in await in_quarantine(log)}
    assert len(await stored(log, USAGE_EVENTS, UsageEvent)) == 97
    assert {code: json.loads(one.value or b"") for code, one in found.items()} == {
        "missing_type": bad[0],
        "missing_account": bad[1],
        "invalid_field": bad[2],
    }
    assert found["missing_type"].account == "acme"
    assert {one.source for one in found.values()} == {"web"}
    assert {one.said["request_id"] for one in found.values()} == {"req-1"}
    assert {one.said["received_at"] for one in found.values()} == {NOW.isoformat()}
    assert api.metric("quarantined_total", code="missing_type") == 1


async def test_a_bad_account_is_there_too(api: Api, log: PostgresLog) -> None:
    response = await api.client.put("/v1/accounts/a%2Fb", json={"seats": -1}, headers=api.key())
    assert response.status_code == 400
    [rejected] = await in_quarantine(log)
    assert (rejected.account, rejected.code) == ("a/b", "invalid_field")
    assert rejected.said["addressed"] == "a/b"
    assert rejected.why_not_replayable is None


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/v1/events", 200, id="a caller that hears of each item"),
        pytest.param(segment.BATCH, 503, id="a caller that hears of none sends again"),
    ],
)
async def test_where_quarantine_cannot_be_reached(log: PostgresLog, path: str, status: int) -> None:
    target: AppendLog = WithoutQuarantine(log)
    good = {"type": "track", "event": "used", "messageId": "1", "groupId": "acme"}
    batch = {"batch": [good, {**good, "messageId": "2", "groupId": None}]}
    body = batch if path == segment.BATCH else [item(), item(id="2", account_id=None)]
    async with open_api(target) as api:
        response = await api.client.post(path, json=body, headers=api.key())
        assert response.status_code == status, response.text
        assert api.metric("quarantine_dropped_total", reason="log") == 1
        assert api.metric("quarantined_total", code="missing_account") == 0
    # What is good is there either way; sent again it counts once.
    assert len(await stored(log, USAGE_EVENTS, UsageEvent)) == 1


async def test_beyond_the_bound_a_caller_is_neither_told_all_is_well_nor_to_send_for_ever(
    log: PostgresLog,
) -> None:
    bad = {"type": "track", "event": "used", "groupId": None}
    good = {"type": "track", "event": "used", "messageId": "1", "groupId": "acme"}
    body = {"batch": [good, *({**bad, "messageId": f"bad-{n}"} for n in range(5))]}
    async with open_api(
        log, ingest_quarantine_rate_per_second=0.001, ingest_quarantine_burst=2
    ) as api:
        response = await api.client.post(segment.BATCH, json=body, headers=api.key())
        error = check_error(response, 400, "partial_failure")
        results = error["results"]
        assert isinstance(results, list)
        assert [result["status"] for result in results] == ["accepted", *["rejected"] * 5]
        assert len(await stored(log, USAGE_EVENTS, UsageEvent)) == 1
        assert len(await in_quarantine(log)) == 2
        assert api.metric("quarantine_dropped_total", reason="rate") == 3
