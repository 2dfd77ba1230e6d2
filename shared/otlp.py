"""Spans to an OpenTelemetry collector; the one module that knows the library (extra `traces`).

A thread sends what waits, at most so many spans; where the collector is slow, away or hangs, the
newest spans beyond that are lost and nobody waits. Its instrumentation of aiokafka is not used:
it is reported to grow (opentelemetry-python-contrib, 3383).
"""

import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as RecordedSpan

from shared import logging as logs
from shared import traceparent
from shared.traceparent import Traceparent
from shared.tracing import Attribute, Kind

_MOST_WAITING: Final = 2_048
_SEND_EVERY_MS: Final = 2_000
_SEND_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 3.0
_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}

log = logs.get(__name__)


def open_tracer(service: str) -> "OtlpTracer":
    """Blocks a little: the library reads what is installed."""
    # It would repeat each failure, with the collector's address; we say when it begins and ends.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: version("perennial")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = _Watched(OTLPSpanExporter(timeout=_SEND_SECONDS))
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=_MOST_WAITING,
            schedule_delay_millis=_SEND_EVERY_MS,
            max_export_batch_size=_MOST_WAITING // 4,
        )
    )
    return OtlpTracer(provider)


class OtlpTracer:
    """Implements `shared.tracing.Tracer`."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("perennial", version("perennial"))

    def start(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Traceparent | None,
        links: Sequence[Traceparent],
        attributes: dict[str, Attribute],
    ) -> "OtlpSpan":
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(_context_of(parent)), context)
        service = logs.context().get("service")
        if isinstance(service, str):
            attributes = {"perennial.service": service, **attributes}
        return OtlpSpan(
            self._tracer.start_span(
                name,
                context=context,
                kind=_KINDS[kind],
                attributes=attributes,
                links=[Link(_context_of(link)) for link in links],
            )
        )

    def close(self) -> None:
        # Of its own limit the library knows nothing while a collector hangs.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="traces.close")
        closing.start()
        closing.join(_CLOSE_SECONDS)


class OtlpSpan:
    """Implements `shared.tracing.Span`."""

    def __init__(self, span: RecordedSpan) -> None:
        self._span = span
        own = span.get_span_context()
        self.trace = Traceparent(
            f"00-{own.trace_id:032x}-{own.span_id:016x}-0{own.trace_flags & TraceFlags.SAMPLED}"
        )

    def note(self, name: str, value: Attribute) -> None:
        self._span.set_attribute(name, value)

    def fail(self, why: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, why))

    def end(self) -> None:
        self._span.end()


class _Watched(SpanExporter):
    """Says once that spans are being lost, and once that they are not."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning("traces.away", lost=len(spans))
        elif self._fails and not fails:
            log.info("traces.back")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context_of(trace: Traceparent) -> SpanContext:
    return SpanContext(
        trace_id=int(traceparent.trace_id(trace), 16),
        span_id=int(traceparent.span_id(trace), 16),
        is_remote=True,
        trace_flags=TraceFlags(int(traceparent.is_sampled(trace))),
    )
