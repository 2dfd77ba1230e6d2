"""The frame of a process: tasks, watchdog, health, ports."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from services.ingest.inflight import InFlight
from services.ingest.metrics import IngestMetrics
from services.notifier.metrics import NotifierMetrics
from services.scoring.metrics import ScoringMetrics
from shared import lifecycle
from shared.lifecycle import (
    Frame,
    PortTaken,
    admin_app,
    measure_delay,
    ping,
    run_tasks,
    serve,
    stopped_within,
    watch,
)
from shared.telemetry import Dependency
from shared.watchdog import WatchdogExpired

# Days are what is counted: partitions, one for each.
_EXCUSED = ('perennial_event_id_days_ahead use base unit "seconds" instead of "days"',)


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()


async def _fail(error: Exception) -> None:
    raise error


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("hello")(scope, receive, send)


async def test_the_first_failure_cancels_the_others_and_is_raised() -> None:
    cancelled = asyncio.Event()

    async def works() -> None:
        try:
            await _for_ever()
        finally:
            cancelled.set()

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup) as raised:
            await run_tasks(asyncio.Event(), works=works(), fails=_fail(KeyError("x")))
    assert raised.group_contains(KeyError, match="x")
    assert cancelled.is_set()


async def test_a_task_that_ends_by_itself_is_a_failure_and_named() -> None:
    async def ends() -> None:
        pass

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup) as raised:
            await run_tasks(asyncio.Event(), works=_for_ever(), relay=ends())
    assert raised.group_contains(RuntimeError, match="task relay ended by itself")


async def test_tasks_that_end_after_stop_are_no_failure() -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(run_tasks(stop, one=_until(stop), other=_until(stop)))
    await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    async with asyncio.timeout(5):
        await running


async def test_a_task_that_does_not_end_after_stop_is_cut() -> None:
    stop, undone = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        try:
            await _for_ever()
        finally:
            undone.set()

    stop.set()
    async with asyncio.timeout(5):
        await run_tasks(stop, seconds={"hangs": 0.05}, hangs=hangs(), ends=_until(stop))
    assert undone.is_set()


async def test_a_task_that_does_not_even_end_when_cut_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "_CUT_SECONDS", 0.05)
    stop, go_on = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()

    stop.set()
    async with asyncio.timeout(5):
        await run_tasks(stop, seconds={"stubborn": 0.05}, stubborn=stubborn())
    go_on.set()


async def test_an_error_that_ends_a_task_is_counted_by_its_loop(frame: Frame) -> None:
    failed = partial(frame.unhandled, "scoring")
    with pytest.raises(ExceptionGroup):
        await run_tasks(asyncio.Event(), failed, sweep=_fail(KeyError("x")))
    labels = {"service": "scoring", "loop": "sweep"}
    assert frame.registry.get_sample_value("perennial_unhandled_errors_total", labels) == 1


async def test_what_ends_without_being_asked_ends_the_process(frame: Frame) -> None:
    ended: list[str] = []
    frame.health.add_watch("log client", lambda: ended[0] if ended else None)
    assert frame.health.why_dead() == []
    ended.append("the background task kafka.producer ended: KeyError('x')")
    async with asyncio.timeout(10):
        with pytest.raises(WatchdogExpired, match=r"log client: the background task kafka"):
            await watch(frame, asyncio.Event())


async def test_expiry_says_what_stood_still_and_on_what_it_waited(
    frame: Frame, logged: Callable[[], str]
) -> None:
    loop = frame.loop("scoring", "sweep", limit_seconds=60)
    frame.outages.note("notifier", Dependency.LOG, is_up=False)
    loop.last_progress -= 61
    waiting = asyncio.create_task(_for_ever(), name="sweep")
    await asyncio.sleep(0)
    with pytest.raises(WatchdogExpired):
        await watch(frame, asyncio.Event())
    waiting.cancel()
    said = logged()
    assert "watchdog.expired" in said
    assert "notifier: log" in said
    assert "sweep at test_lifecycle.py:" in said


async def test_what_does_not_answer_in_time_is_away_until_it_answers(
    frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_PING_SECONDS", 0.05)
    monkeypatch.setattr(lifecycle, "_PING_AWAY_SECONDS", 0.01)
    answers, asked, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def database() -> bool:
        asked.set()
        await answers.wait()
        return True

    async def log() -> bool:
        return True

    def up(name: str) -> float | None:
        labels = {"service": "scoring", "dependency": name}
        return frame.registry.get_sample_value("perennial_dependency_up", labels)

    async def until(value: float) -> None:
        async with asyncio.timeout(10):
            while up("database") != value:  # noqa: ASYNC110 - a gauge tells nobody
                await asyncio.sleep(0.01)

    loop = frame.loop("scoring", "pings")
    needs = {Dependency.LOG: log, Dependency.DATABASE: database}
    pinging = asyncio.create_task(ping(frame, "scoring", needs, loop, stop))
    await until(0)
    assert up("log") == 1
    answers.set()
    await until(1)
    stop.set()
    await pinging


async def test_a_busy_process_shows_in_its_delay(frame: Frame) -> None:
    stop = asyncio.Event()
    measuring = asyncio.create_task(measure_delay(frame, stop))
    await asyncio.sleep(0.05)
    time.sleep(0.4)  # noqa: ASYNC251 - a computation that holds the loop
    stop.set()
    await measuring
    # Due 0.25 s after the start, and reached after 0.45.
    total = frame.registry.get_sample_value("perennial_event_loop_delay_seconds_sum")
    assert total is not None
    assert total >= 0.15


async def test_a_scrape_waits_for_nobody(frame: Frame) -> None:
    """Neither for a dependency that hangs nor for a loop that measures what it holds."""
    hanging = asyncio.Event()

    async def never() -> bool:
        await hanging.wait()
        return True

    stop = asyncio.Event()
    pinging = asyncio.create_task(
        ping(frame, "scoring", {Dependency.DATABASE: never}, frame.loop("scoring", "pings"), stop)
    )
    for _ in range(3):
        async with asyncio.timeout(1):
            assert (await _get(frame, "/metrics")).status_code == 200
    stop.set()
    hanging.set()
    await pinging


async def test_the_watchdog_ends_the_process_when_a_loop_stands_still(frame: Frame) -> None:
    loop = frame.loop("scoring", "sweep", limit_seconds=60)
    frame.loop("scoring", "slow")  # without a limit nobody waits for it
    loop.last_progress -= 61
    async with asyncio.timeout(10):
        with pytest.raises(WatchdogExpired, match=r"scoring\.sweep made no progress for 6\d s"):
            await watch(frame, asyncio.Event())


async def test_the_watchdog_is_content_with_progress_and_ends_with_stop(frame: Frame) -> None:
    loop, stop = frame.loop("scoring", "sweep", limit_seconds=60), asyncio.Event()
    loop.last_progress -= 61
    loop.progressed()
    watching = asyncio.create_task(watch(frame, stop))
    assert await stopped_within(stop, 0.01) is False
    stop.set()
    async with asyncio.timeout(5):
        await watching


def test_progress_is_seen_from_outside(frame: Frame) -> None:
    name = "perennial_loop_progress_timestamp_seconds"
    labels = {"service": "scoring", "loop": "sweep"}
    loop = frame.loop("scoring", "sweep")
    assert frame.registry.get_sample_value(name, labels) is None
    loop.progressed()
    assert frame.registry.get_sample_value(name, labels) == pytest.approx(time.time(), abs=5)


async def test_readiness_names_what_is_missing(frame: Frame) -> None:
    reasons: list[str] = ["keys are not loaded"]
    frame.health.starting("notifier")
    frame.health.add_check("ingest", lambda: reasons[0] if reasons else None)
    response = await _get(frame, "/readyz")
    assert (response.status_code, response.text) == (
        503,
        "ingest: keys are not loaded\nnotifier is starting",
    )
    reasons.clear()
    frame.health.started("notifier")
    response = await _get(frame, "/readyz")
    assert (response.status_code, response.text) == (200, "ok")
    frame.health.draining = True
    response = await _get(frame, "/readyz")
    assert (response.status_code, response.text) == (503, "draining")


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/livez/"])
async def test_liveness_is_about_loops_alone(frame: Frame, path: str) -> None:
    frame.health.starting("notifier")
    loop = frame.loop("scoring", "sweep", limit_seconds=60)
    response = await _get(frame, path)
    assert (response.status_code, response.text) == (200, "ok")
    loop.last_progress -= 100
    response = await _get(frame, path)
    assert response.status_code == 503
    assert "scoring.sweep" in response.text


async def test_the_admin_port_answers_nothing_else(frame: Frame) -> None:
    for path in ("/", "/metricsx", "/v1/events"):
        assert (await _get(frame, path)).status_code == 404


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"console: cannot listen on 127\.0\.0\.1:{port}"):
            async with serve(_hello, host="127.0.0.1", port=port, name="console"):
                pass


async def test_a_server_serves_while_the_context_is_open_and_frees_its_port() -> None:
    async with serve(_hello, host="127.0.0.1", port=0, name="test") as port:
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{port}/")
        assert response.text == "hello"
    async with serve(_hello, host="127.0.0.1", port=port, name="test") as again:
        assert again == port


async def test_leaving_waits_for_a_request_in_flight() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await go_on.wait()
        await _hello(scope, receive, send)

    async with httpx.AsyncClient() as client, asyncio.timeout(20):
        async with serve(slow, host="127.0.0.1", port=0, name="test") as port:
            asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await began.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        assert (await asking).text == "hello"


async def test_leaving_cuts_a_request_that_takes_too_long() -> None:
    began = asyncio.Event()

    async def stuck(_scope: Scope, _receive: Receive, _send: Send) -> None:
        began.set()
        await _for_ever()

    async with httpx.AsyncClient() as client, asyncio.timeout(20):
        async with serve(stuck, host="127.0.0.1", port=0, name="test", grace_seconds=1) as port:
            asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
            await began.wait()
        answer = await asyncio.gather(asking, return_exceptions=True)
    assert isinstance(answer[0], httpx.HTTPError) or answer[0].status_code == 500  # type: ignore[union-attr]


async def test_the_metrics_of_all_services_are_well_formed(frame: Frame) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not on the PATH (Debian: prometheus)", pytrace=False)
        pytest.skip("SKIPPED PROMTOOL: it is not on the PATH (Debian: prometheus)")
    IngestMetrics(frame.registry, InFlight(max_bytes=1, max_events=1))
    ScoringMetrics(frame.registry, frame.metrics)
    NotifierMetrics(frame.registry, frame.metrics)
    frame.metrics.build_info.labels("1.0").set(1)
    for service in ("ingest", "scoring", "notifier"):
        frame.metrics.preset(service, ("flags",), ("intake",))
        frame.metrics.dependency_up.labels(service, "log").set(1)
        frame.metrics.quarantined.labels(service, "flags", "not_json").inc()
    response = await _get(frame, "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    checked = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        check=False,
        capture_output=True,
        input=response.content,
        timeout=30,
    )
    complaints = (checked.stderr + checked.stdout).decode().splitlines()
    assert [line for line in complaints if line not in _EXCUSED] == []


async def _get(frame: Frame, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(admin_app(frame))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        return await client.get(path)
