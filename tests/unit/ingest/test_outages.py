"""What callers are told when the log fails in ways that a real one does not on demand."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import pytest

from services.ingest import publisher
from services.ingest.inflight import InFlight
from services.ingest.metrics import IngestMetrics
from shared.errors import PerennialError
from shared.lifecycle import new_frame
from shared.log import Appended, LogBusy, LogUnavailable, Record, TopicMissing
from shared.log.topics import TOPICS
from tests.unit.ingest.api import Api, check_error, open_api
from tests.unit.ingest.native_bodies import item

D, U = Appended.DURABLE, Appended.UNKNOWN


class StandIn:
    """A log that answers what the test says, to each append or by topic; None hangs."""

    def __init__(
        self, answer: Sequence[Appended] | Mapping[str, Appended] | Exception | None
    ) -> None:
        self.answer = answer
        self.appended: list[Record] = []

    async def append(
        self, topic: str, records: Sequence[Record], *, deadline: timedelta
    ) -> Sequence[Appended]:
        assert topic in {named.name for named in TOPICS}
        assert deadline > timedelta()
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        self.appended.extend(records)
        if isinstance(self.answer, Mapping):
            return [self.answer.get(topic, D)] * len(records)
        return self.answer or ()

    async def ping(self) -> bool:
        return not isinstance(self.answer, LogUnavailable)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(LogUnavailable("away"), "log_unavailable", id="away"),
        pytest.param(LogBusy("too much"), "overloaded", id="busy"),
        pytest.param(TopicMissing("usage-events"), "log_unavailable", id="no topic"),
        pytest.param([U, U], "not_durable", id="unknown"),
        pytest.param(None, "not_durable", id="hangs"),
    ],
)
async def test_nothing_accepted_is_503_and_safe_to_send_again(
    answer: Sequence[Appended] | Exception | None, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_GRACE_SECONDS", 0.01)
    async with open_api(StandIn(answer), ingest_append_seconds=0.05) as api:
        body = [item(id="1"), item(id="2"), item(id="3", type=None)]
        response = await api.client.post("/v1/events", json=body, headers=api.key())

        error = check_error(response, 503, code)
        results = error["results"]
        assert isinstance(results, list)
        assert [result["status"] for result in results] == ["retry", "retry", "rejected"]
        assert [result["code"] for result in results] == [code, code, "missing_type"]
        assert _log_up(api) == (code == "overloaded")  # A log that is slow is there.
        assert api.metric("refused_total", reason=code) == 1
        assert api.metric("batches_total", format="native", mix="retry") == 1
        assert (api.inflight.events, api.inflight.bytes, api.inflight.requests) == (0, 0, 0)


async def test_what_is_durable_is_accepted_and_the_rest_is_to_be_sent_again() -> None:
    async with open_api(StandIn([D, U])) as api:
        body = [item(id="1"), item(id="2"), item(id="2"), item(id="1")]
        response = await api.client.post("/v1/events", json=body, headers=api.key())

        assert response.status_code == 200
        results = response.json()["results"]
        # The third and fourth share the end of the item whose id they repeat.
        statuses = [result["status"] for result in results]
        assert statuses == ["accepted", "retry", "retry", "accepted"]
        assert results[1]["code"] == results[2]["code"] == "not_durable"
        assert api.metric("unknown_total", format="native") == 1
        assert api.metric("items_total", format="native", status="accepted", code="") == 2


async def test_an_outage_of_the_log_hits_the_directory_alike() -> None:
    async with open_api(StandIn(LogUnavailable("away"))) as api:
        response = await api.client.put("/v1/accounts/acme", json={}, headers=api.key())
        check_error(response, 503, "log_unavailable")


async def test_the_log_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_CALM_SECONDS", 0.0)
    log = StandIn(LogUnavailable("away"))
    async with open_api(log) as api:
        key = api.key()
        await api.client.post("/v1/events", json=item(), headers=key)
        log.answer = [D]
        response = await api.client.post("/v1/events", json=item(), headers=key)
        assert response.status_code == 200
        assert _log_up(api) == 1


@pytest.mark.parametrize("failure", [LogUnavailable("away"), [U]], ids=["away", "unknown"])
async def test_a_log_that_fails_in_part_is_down_and_does_not_flap(
    failure: Sequence[Appended] | Exception, logged: Callable[[], str]
) -> None:
    log = StandIn([D])
    async with open_api(log) as api:
        key, ups = api.key(), []
        for answer in ([D], failure, [D], failure, [D]):
            log.answer = answer
            await api.client.post("/v1/events", json=item(), headers=key)
            ups.append(_log_up(api))
    assert ups == [1, 0, 0, 0, 0]
    text = logged()
    assert (text.count("log.away"), text.count("log.back")) == (1, 0)


async def test_only_what_is_durable_as_a_whole_tells_that_the_log_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher, "_CALM_SECONDS", 0.0)
    log = StandIn(LogUnavailable("away"))
    async with open_api(log) as api:
        key, ups = api.key(), []
        for answer in (LogUnavailable("away"), [D, U], [D, D], [D, U]):
            log.answer = answer
            body = [item(id="1"), item(id="2")]
            await api.client.post("/v1/events", json=body, headers=key)
            ups.append(_log_up(api))
    assert ups == [0, 0, 1, 1]


async def test_a_probe_tells_that_the_log_is_back_once_no_append_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, log = new_frame(), StandIn([D])
    up = frame.metrics.dependency_up.labels("ingest", "log")
    metrics = IngestMetrics(frame.registry, InFlight(max_bytes=1, max_events=1))
    asked = publisher.Publisher(
        target=log, deadline=timedelta(seconds=1), metrics=metrics, dependency_up=up
    )
    for answer, calm_seconds, expected in (
        ([D], 60.0, 1),
        (LogUnavailable("away"), 60.0, 0),
        ([D], 60.0, 0),  # It answers, but failed a moment ago.
        ([D], 0.0, 1),
    ):
        log.answer = answer
        monkeypatch.setattr(publisher, "_CALM_SECONDS", calm_seconds)
        await asked.probe()
        labels = {"service": "ingest", "dependency": "log"}
        assert frame.registry.get_sample_value("perennial_dependency_up", labels) == expected


async def test_a_bug_is_a_500_that_tells_nothing(logged: Callable[[], str]) -> None:
    async with open_api(StandIn(PerennialError("secret payload"))) as api:
        response = await api.client.post("/v1/events", json=item(), headers=api.key())
        check_error(response, 500, "internal_error")
        assert "secret" not in response.text
        assert api.inflight.requests == 0
    text = logged()
    assert "request.crashed" in text
    assert "secret" not in text


async def test_too_many_events_in_flight_are_refused_at_once() -> None:
    async with open_api(StandIn(None), ingest_max_inflight_events=2) as api:
        key = api.key()
        waiting = asyncio.create_task(
            api.client.post("/v1/events", json=[item(id="1"), item(id="2")], headers=key)
        )
        while api.inflight.events < 2:  # noqa: ASYNC110 - the service announces nothing
            await asyncio.sleep(0)
        response = await api.client.post("/v1/events", json=item(), headers=key)
        check_error(response, 503, "overloaded")
        assert api.metric("inflight_events") == 2
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert api.inflight.events == 0


async def test_a_process_that_shuts_down_says_so() -> None:
    async with open_api(StandIn([D])) as api:
        await api.inflight.drain(0)
        response = await api.client.post("/v1/events", json=item(), headers=api.key())
        check_error(response, 503, "shutting_down")


def _log_up(api: Api) -> float | None:
    return api.frame.registry.get_sample_value(
        "perennial_dependency_up", {"service": "ingest", "dependency": "log"}
    )
