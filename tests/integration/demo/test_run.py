"""The demo's story over HTTP, with small stand-ins where the three services would answer."""

import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from starlette.types import Receive, Scope, Send

from services.demo.catchers import Catchers
from services.demo.run import DemoResult, run_demo
from services.demo.simulator import Simulation, simulate
from services.importing.errors import KeyRefused, Stopped
from shared.lifecycle import serve
from tests.integration.importing.stand_in import StandIn, error, running

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each twentieth event only: the whole history is the end-to-end test's."""

    def some(*, now: datetime, anchor: date) -> Simulation:
        told = simulate(now=now, anchor=anchor)
        return replace(told, _table=told._table[::20])

    monkeypatch.setattr("services.demo.run.simulate", some)


@dataclass(slots=True, kw_only=True)
class Readings:
    """Scoring's and the notifier's read APIs: done as soon as everything has come."""

    ingest: StandIn
    url: str = ""
    asked: list[str] = field(default_factory=list)
    flags: int = 3
    kept: int | None = None
    """Of the events that came; None: all."""
    behind: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = dict(scope["headers"])
        self.asked.append(scope["path"])
        answer: object = {"code": "unauthorized"}
        status = 200
        if scope["path"] == "/admin/metrics":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self._metrics()})
            return
        if scope["path"].startswith("/scoring") and headers.get(b"authorization") != b"Bearer read":
            status = 401
        elif scope["path"] == "/scoring/v1/status":
            answer = {
                "events_taken_in": len(self.ingest.accepted) - 240
                if self.kept is None
                else self.kept,
                "dirty": 0 if len(self.asked) > 6 else 5,
                "backfill_settling": False,
                "bands": {"healthy": 230, "at_risk": 7, "critical": 3},
                "accounts": 240,
                "flags_open": self.flags,
                "outbox": 0,
            }
        elif scope["path"] == "/scoring/v1/accounts":
            reasons = [{"text": "Active on 2 of the last 28 days"}]
            account = {"account_id": "a", "name": "Alder", "state": "scored", "reasons": reasons}
            answer = {"accounts": [account], "next_cursor": None}
        else:
            deliveries = {"sent": 20, "pending": 0, "dead": 0}
            answer = {"interventions_open": 10, "deliveries": deliveries}
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _metrics(self) -> bytes:
        taken_in = sum("occurred_at" in item for item in self.ingest.arrivals)
        labels = 'service="scoring",topic="usage-events"'
        return (
            f"perennial_batch_records_sum{{{labels}}} {taken_in}\n"
            'perennial_batch_records_sum{service="scoring",topic="directory-changes"} 240\n'
            f'perennial_log_lag_records{{{labels},partition="1"}} {self.behind}\n'
        ).encode()


@pytest.fixture
async def readings() -> AsyncIterator[Readings]:
    async with AsyncExitStack() as stack:
        ingest = await stack.enter_async_context(running())
        stand_in = Readings(ingest=ingest)
        port = await stack.enter_async_context(
            serve(stand_in, host="127.0.0.1", port=0, name="readings", grace_seconds=1)
        )
        stand_in.url = f"http://127.0.0.1:{port}"
        yield stand_in


async def tell(
    readings: Readings,
    data_dir: Path,
    *,
    now: datetime = NOW,
    key: str = "good-key",
    patience: timedelta = timedelta(seconds=60),
) -> tuple[DemoResult, str]:
    screen = io.StringIO()
    result = await run_demo(
        ingest_url=readings.ingest.url,
        scoring_url=readings.url + "/scoring",
        console_url=readings.url + "/console",
        admin_url=readings.url + "/admin",
        key=key,
        scoring_key="read",
        catchers=Catchers(),
        now=now,
        console=Console(file=screen, width=160),
        data_dir=data_dir,
        patience=patience,
    )
    return result, screen.getvalue()


async def test_the_story_is_told_and_a_later_run_continues_it(
    readings: Readings, tmp_path: Path
) -> None:
    ingest = readings.ingest
    refused = error(401, "unauthorized", "unknown, expired or revoked")
    ingest.faults = [lambda _: refused]  # the key is so new that ingest has not heard of it
    result, said = await tell(readings, tmp_path)
    sent = len(ingest.accepted)
    assert result.events == sent - 240 >= 7_500
    assert (result.accounts, result.at_risk) == (240, 10)
    assert (result.interventions, result.deliveries) == (10, 20)
    assert result.is_complete
    assert list(json.loads(result.to_json())) == [
        "events",
        "accounts",
        "at_risk",
        "interventions",
        "deliveries",
        "seconds",
    ]
    assert "Active on 2 of the last 28 days" in said
    assert "240 accounts of a simulated vendor" in said
    assert "messages to owners" in said
    *history, directory = ingest.requests
    assert all(one.headers["perennial-backfill"] == "true" for one in history)
    assert "perennial-backfill" not in directory.headers
    before = set(ingest.accepted)
    again, _ = await tell(readings, tmp_path, now=NOW + timedelta(hours=12))
    # From 15:30 to 03:30 UTC America works on, and Sydney and Singapore begin.
    assert before < set(ingest.accepted)
    assert again.events == len(ingest.accepted) - 240


async def test_a_key_that_stays_unknown_ends_the_demo(
    readings: Readings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.demo.run._KEY_SECONDS", 0.6)
    with pytest.raises(KeyRefused):
        await tell(readings, tmp_path, key="wrong")


async def test_a_rejected_item_ends_the_demo_for_its_data_is_ours(
    readings: Readings, tmp_path: Path
) -> None:
    readings.ingest.reject = lambda item: ("invalid_time", "no") if "occurred_at" in item else None
    with pytest.raises(Stopped, match=r"rejected item .* of the demo: invalid_time"):
        await tell(readings, tmp_path)


async def test_patience_ends_and_the_figures_tell(readings: Readings, tmp_path: Path) -> None:
    readings.flags = 0
    readings.ingest.reject = lambda _: None
    result, _ = await tell(readings, tmp_path, patience=timedelta(seconds=1))
    assert result.at_risk == 10
    assert result.interventions == 0
    assert not result.is_complete


async def test_a_run_that_brings_nothing_new_waits_for_nothing(
    readings: Readings, tmp_path: Path
) -> None:
    readings.kept = 10  # retention has taken the oldest day: the count never gets there
    began = time.monotonic()
    result, _ = await tell(readings, tmp_path)
    assert result.is_complete
    assert time.monotonic() - began < 15


async def test_while_a_service_is_behind_it_waits(readings: Readings, tmp_path: Path) -> None:
    readings.behind = 1
    result, _ = await tell(readings, tmp_path, patience=timedelta(seconds=4))
    assert not result.is_complete
    polls = [path for path in readings.asked if path == "/scoring/v1/status"]
    assert len(polls) > 6  # every half second, until patience ended
    assert "/console/v1/status" not in readings.asked
