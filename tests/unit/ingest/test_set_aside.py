"""When what was rejected goes to quarantine, and what its callers hear and hold meanwhile."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import httpx
import pytest

from services.ingest.formats import segment
from shared.log import Appended, Record
from shared.messages import REJECTED
from tests.unit.ingest.api import Api, check_error, open_api
from tests.unit.ingest.native_bodies import item

D, U = Appended.DURABLE, Appended.UNKNOWN


class Scripted:
    """A log that notes every append, answers per topic, and waits before where the test says."""

    def __init__(self, **states: Appended) -> None:
        self.states = {name.replace("_", "-"): state for name, state in states.items()}
        self.appends: list[tuple[str, list[bytes | None]]] = []
        self.deadlines: dict[str, timedelta] = {}
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        self.deadlines[topic] = deadline
        self.appends.append((topic, [record.value for record in records]))
        await self.may_answer.wait()
        return [self.states.get(topic, D)] * len(records)

    async def ping(self) -> bool:
        return True

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _ in self.appends]


GOOD = {"type": "track", "event": "used", "messageId": "1", "groupId": "acme"}
BATCH = {"batch": [GOOD, {**GOOD, "messageId": "2", "groupId": None}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(segment.BATCH, BATCH, id="few words"),
        pytest.param("/v1/events", [item(), item(id="2", type=None)], id="each"),
    ],
)
async def test_what_is_sent_again_leaves_no_copy_each_time(path: str, body: object) -> None:
    log = Scripted(usage_events=U)
    async with open_api(
        log, ingest_quarantine_rate_per_second=0.001, ingest_quarantine_burst=1
    ) as api:
        key = api.key()
        for _ in range(3):
            response = await api.client.post(path, json=body, headers=key)
            check_error(response, 503, "not_durable")
        assert REJECTED not in log.topics
        assert api.metric("quarantine_dropped_total", reason="rate") == 0
        log.states.clear()
        assert (await api.client.post(path, json=body, headers=key)).status_code == 200
        # After the events, and the one token of the bucket is still there.
        assert log.topics[-2:] == ["usage-events", REJECTED]
        assert api.metric("quarantined_total", code="missing_account") == (path == segment.BATCH)


async def test_an_item_that_alone_is_sent_again_does_not_hold_up_the_rejected() -> None:
    """The answer names it: the others are not sent again."""
    log = Scripted(directory_changes=U)
    group = {"type": "group", "messageId": "1", "groupId": "acme", "traits": {}}
    async with open_api(log) as api:
        body = {"batch": [group, BATCH["batch"][1]]}
        response = await api.client.post(segment.BATCH, json=body, headers=api.key())
        check_error(response, 503, "not_durable")
        assert REJECTED not in log.topics
        capture = {
            "uuid": "u-1",
            "event": "$groupidentify",
            "distinct_id": "$company_acme",
            "properties": {"$group_type": "company", "$group_key": "acme", "$group_set": {}},
        }
        other = {"uuid": "u-2", "event": "used", "distinct_id": None}
        response = await api.client.post(
            "/i/v1/analytics/events", json={"batch": [capture, other]}, headers=api.key()
        )
        told = {uuid: each["result"] for uuid, each in response.json()["results"].items()}
        assert told == {"u-1": "retry", "u-2": "drop"}
        assert log.topics[-1] == REJECTED


async def test_nothing_is_said_before_quarantine_has_it() -> None:
    log = Scripted(rejected=U)
    async with open_api(log) as api:
        response = await api.client.post(segment.BATCH, json=BATCH, headers=api.key())
        check_error(response, 503, "log_unavailable")
        assert log.topics == ["usage-events", REJECTED]
        assert api.metric("quarantine_dropped_total", reason="log") == 1


async def test_callers_wait_for_one_deadline_and_not_for_two() -> None:
    log = Scripted()
    log.may_answer.clear()
    async with open_api(log, ingest_append_seconds=5) as api:
        waiting = asyncio.create_task(
            api.client.post("/v1/events", json=[item(), item(id="2", type=None)], headers=api.key())
        )
        await appended(log, 1)
        log.may_answer.set()
        await waiting
    assert log.deadlines["usage-events"] == timedelta(seconds=5)
    assert timedelta(seconds=1) <= log.deadlines[REJECTED] < timedelta(seconds=5)


async def test_what_waits_for_quarantine_is_held_against_the_limit() -> None:
    log = Scripted()
    log.may_answer.clear()
    body = [item(), item(id="2", type=None, properties={"x": "y" * 5_000})]
    async with open_api(log) as api:
        waiting = asyncio.create_task(api.client.post("/v1/events", json=body, headers=api.key()))
        await appended(log, 1)
        held = api.inflight.bytes
        assert api.inflight.events == 2
        log.may_answer.set()
        sent = int((await waiting).request.headers["content-length"])
        assert held >= sent + 5_000
        assert (api.inflight.bytes, api.inflight.events) == (0, 0)

        async with open_api(log, ingest_max_inflight_bytes=sent + 1_000) as small:
            response = await post(small, body)
            check_error(response, 503, "overloaded")
            assert small.inflight.bytes == 0


async def post(api: Api, body: object) -> httpx.Response:
    return await api.client.post("/v1/events", json=body, headers=api.key())


async def appended(log: Scripted, count: int) -> None:
    while len(log.appends) < count:  # noqa: ASYNC110 - the service announces nothing
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("burst", "status"), [(1, 400), (2, 200)], ids=["something is lost", "all is safe"]
)
async def test_few_words_say_whether_all_is_safe_somewhere(burst: int, status: int) -> None:
    body = {"batch": [*BATCH["batch"], {**GOOD, "messageId": "3", "groupId": None}]}
    async with open_api(
        Scripted(), ingest_quarantine_rate_per_second=0.001, ingest_quarantine_burst=burst
    ) as api:
        response = await api.client.post(segment.BATCH, json=body, headers=api.key())
        assert response.status_code == status
        if status == 400:
            check_error(response, 400, "partial_failure")
            assert "retry-after" not in response.headers
            assert api.metric("refused_total", reason="partial_failure") == 1
