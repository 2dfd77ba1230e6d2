"""Spans: what was done for whom and how long it took, told where an operator wants to see it.

Without `open_tracing` (no endpoint, or the extra `traces` is not installed) nothing of
OpenTelemetry is imported, a span is two assignments, and traces are followed by their ids alone. A
span holds no account, person or text from outside; what fails is named by its type.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar
from enum import Enum, auto
from typing import Final, Protocol, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from shared import logging as logs
from shared import traceparent
from shared.settings import TracesSettings
from shared.traceparent import GoingOn, Traceparent

MOST_LINKS: Final = 64
"""Of one span: a batch of thousands of records comes from as many requests."""

Attribute: TypeAlias = str | int | float | bool

log = logs.get(__name__)


class Kind(Enum):
    """On which side of a call, or of the log, it is done."""

    INTERNAL = auto()
    SERVER = auto()
    CLIENT = auto()
    PRODUCER = auto()
    CONSUMER = auto()


class Span(Protocol):
    @property
    def trace(self) -> Traceparent:
        """What is done within it goes on from there."""
        ...

    def note(self, name: str, value: Attribute) -> None: ...

    def fail(self, why: str) -> None:
        """`why`: a type or a reason, never a text from outside."""
        ...

    def end(self) -> None: ...


class Tracer(Protocol):
    def start(
        self,
        name: str,
        *,
        kind: Kind,
        parent: Traceparent | None,
        links: Sequence[Traceparent],
        attributes: dict[str, Attribute],
    ) -> Span: ...

    def close(self) -> None:
        """Blocks, for a few seconds at most."""
        ...


_tracer: Tracer | None = None
_innermost: Final[ContextVar[Span | None]] = ContextVar("span", default=None)


def is_on() -> bool:
    return _tracer is not None


def one(
    name: str,
    trace: Traceparent | None,
    *,
    kind: Kind = Kind.INTERNAL,
    links: Sequence[Traceparent] = (),
    **attributes: Attribute,
) -> AbstractContextManager[object]:
    """What is done for one cause goes on with its trace; None: a trace begins here.

    `links`: of others that it happens to serve too.
    """
    tracer = _tracer
    if tracer is None:
        return GoingOn(trace or traceparent.new())
    return _Spanning(
        tracer.start(name, kind=kind, parent=trace, links=links, attributes=attributes),
        is_one=True,
    )


def many(
    name: str,
    causes: Callable[[], Sequence[Traceparent | None]],
    *,
    kind: Kind = Kind.INTERNAL,
    **attributes: Attribute,
) -> AbstractContextManager[object]:
    """What is done for many at once is linked to each; where all are of one trace, as `one`.

    `causes` is asked only where somebody wants to see the span.
    """
    tracer = _tracer
    if tracer is None:
        return GoingOn(None)
    traces = causes()
    parent = traceparent.only(traces)
    links = [] if parent else [trace for trace in traces if trace is not None][:MOST_LINKS]
    span = tracer.start(name, kind=kind, parent=parent, links=links, attributes=attributes)
    return _Spanning(span, is_one=parent is not None)


def note(name: str, value: Attribute) -> None:
    """Say more of the innermost span that this task is in; nothing where there is none."""
    if (span := _innermost.get()) is not None:
        span.note(name, value)


def fail(why: str) -> None:
    if (span := _innermost.get()) is not None:
        span.fail(why)


class _Spanning:
    """A span while it lasts."""

    def __init__(self, span: Span, *, is_one: bool) -> None:
        self._span = span
        self._going_on = GoingOn(span.trace if is_one else None)

    def __enter__(self) -> None:
        self._going_on.__enter__()
        self._outer = _innermost.set(self._span)

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        _innermost.reset(self._outer)
        self._going_on.__exit__()
        if kind is not None:
            self._span.fail(kind.__name__)
        self._span.end()


class Requests:
    """An ASGI application whose requests each have a trace, the caller's or one of their own.

    Not for ingest, which does the same where it reads the headers anyway.
    """

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = [value for name, value in scope["headers"] if name == b"traceparent"]
        stated = traceparent.parse(found[0]) if len(found) == 1 else None
        with (
            one(f"{self._name} {scope['method']}", stated, kind=Kind.SERVER),
            logs.bound(request_id=secrets.token_hex(8)),
        ):
            await self._app(scope, receive, send)


@asynccontextmanager
async def open_tracing(settings: TracesSettings, *, service: str) -> AsyncIterator[None]:
    """Spans are told while the context is open; leaving waits a few seconds for the last ones."""
    global _tracer  # noqa: PLW0603 - spans are made where no argument reaches, as log lines are
    if not settings.is_on:
        yield
        return
    try:
        from shared.otlp import open_tracer  # noqa: PLC0415 - an optional extra
    except ImportError:
        # The address is often set for all programs of a cluster: no reason to stop this one.
        log.warning("traces.not_installed", extra="traces")
        yield
        return
    tracer = await asyncio.to_thread(open_tracer, service)
    _tracer = tracer
    try:
        yield
    finally:
        _tracer = None
        await asyncio.to_thread(tracer.close)
