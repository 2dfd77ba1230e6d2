"""A real receiver of OTLP over HTTP: what a collector would have been told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.standins.http import Answer, Asked, listening, respond


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanTold:
    name: str
    service: str
    """Of ours, also where all three are one process."""
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    """Trace ids."""
    attributes: dict[str, str]
    failed: bool


@dataclass(slots=True)
class SpanReceiver:
    port: int = 0
    hangs: bool = False
    asked: int = 0
    spans: list[SpanTold] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of_trace(self, trace_id: str) -> list[SpanTold]:
        return [one for one in self.spans if one.trace_id == trace_id]

    async def answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        assert asked.line.startswith("POST /v1/traces ")
        told = ExportTraceServiceRequest.FromString(asked.body)
        for resource in told.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {one.key: _text(one.value) for one in span.attributes}
                    self.spans.append(
                        SpanTold(
                            name=span.name,
                            service=attributes.get("perennial.service", ""),
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            links=tuple(link.trace_id.hex() for link in span.links),
                            attributes=attributes,
                            failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        )
                    )
        await respond(writer, Answer(status=200))
        return True


def _text(value: object) -> str:
    return str(value).partition(": ")[2].strip('\n"')


@asynccontextmanager
async def span_receiver(*, hangs: bool = False) -> AsyncIterator[SpanReceiver]:
    receiver = SpanReceiver(hangs=hangs)
    async with listening(receiver.answer) as port:
        receiver.port = port
        yield receiver
