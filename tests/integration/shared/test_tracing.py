"""Spans as a collector gets them, and what a collector that is slow or gone cannot do to us."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared import logging as logs
from shared import traceparent, tracing
from shared.settings import TracesSettings
from shared.traceparent import Traceparent
from tests.e2e.deployments import eventually
from tests.standins.spans import SpanReceiver, span_receiver

GIVEN = Traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
OTHER = Traceparent("00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
TRACE = traceparent.trace_id(GIVEN)

# The library's own: it asks of its exporter's name what importlib will rename.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:opentelemetry")


@asynccontextmanager
async def traced(
    receiver: SpanReceiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SpanReceiver]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "false")
    async with tracing.open_tracing(TracesSettings(), service="perennial-test"):
        yield receiver


async def test_what_is_done_within_is_a_child_and_what_fails_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with span_receiver() as receiver:
        async with traced(receiver, monkeypatch):
            logs.bind(service="ingest")
            with tracing.one("outer", GIVEN, kind=tracing.Kind.SERVER):
                outer = traceparent.current()
                with pytest.raises(KeyError), tracing.one("inner", outer, records=3):
                    raise KeyError("acme@example.com")
            assert traceparent.current() is None
        inner, told = sorted(receiver.of_trace(TRACE), key=lambda one: one.name)
        assert outer is not None
        assert (told.name, told.parent_id) == ("outer", traceparent.span_id(GIVEN))
        assert told.span_id == inner.parent_id == traceparent.span_id(outer)
        assert (inner.failed, told.failed) == (True, False)
        assert inner.attributes["records"] == "3"
        assert {one.service for one in (inner, told)} == {"ingest"}
        assert "acme" not in repr(receiver.spans)


async def test_a_batch_is_linked_to_its_causes_and_belongs_to_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with span_receiver() as receiver:
        async with traced(receiver, monkeypatch):
            with tracing.many("of two", lambda: [GIVEN, OTHER, None]):
                assert traceparent.current() is None
            with tracing.many("of one", lambda: [GIVEN, traceparent.child(GIVEN)]):
                current = traceparent.current()
                assert current is not None
                assert traceparent.trace_id(current) == TRACE
        [of_two] = (one for one in receiver.spans if one.name == "of two")
        assert of_two.links == (TRACE, traceparent.trace_id(OTHER))
        assert of_two.trace_id not in of_two.links
        [of_one] = receiver.of_trace(TRACE)
        assert (of_one.name, of_one.links) == ("of one", ())


async def test_what_the_caller_does_not_record_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with span_receiver() as receiver:
        async with traced(receiver, monkeypatch):
            with tracing.one("unsampled", Traceparent(GIVEN[:-1] + "0")):
                current = traceparent.current()
                assert current is not None
                assert traceparent.trace_id(current) == TRACE
        assert receiver.spans == []


async def test_a_collector_that_hangs_costs_spans_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with span_receiver(hangs=True) as receiver:
        async with traced(receiver, monkeypatch):
            slowest = 0.0
            # More than the queue holds: what is beyond it is dropped, not waited for.
            for _ in range(6_000):
                began = time.thread_time()
                with tracing.one("lost", GIVEN):
                    pass
                slowest = max(slowest, time.thread_time() - began)
            assert slowest < 0.1
            await eventually(lambda: receiver.asked, what="the first spans are on their way")
            began = time.monotonic()
        # 3 s at most, beside what a busy machine adds.
        assert time.monotonic() - began < 6


async def test_nobody_who_listens_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async with span_receiver() as receiver:
        pass
    async with traced(receiver, monkeypatch):
        with tracing.one("lost", GIVEN):
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="no endpoint"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
            id="switched off",
        ),
    ],
)
async def test_without_an_endpoint_a_span_only_goes_on(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with tracing.open_tracing(TracesSettings(), service="perennial"):
        assert not tracing.is_on()
        with tracing.one("nothing", GIVEN):
            assert traceparent.current() == GIVEN
        with tracing.many("nothing", lambda: pytest.fail("nobody wants to see it")):
            assert traceparent.current() is None


def test_nothing_of_opentelemetry_is_imported_where_nobody_asks() -> None:
    script = (
        "import asyncio, sys; from shared import tracing; from shared.settings import read,"
        " TracesSettings\n"
        "async def main():\n"
        "    async with tracing.open_tracing(read(TracesSettings), service='perennial'):\n"
        "        with tracing.one('nothing', None): pass\n"
        "asyncio.run(main())\n"
        "print([one for one in sys.modules if one.startswith(('opentelemetry', 'google'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
