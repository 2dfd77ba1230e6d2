"""Logs: one JSON object a line on stdout, event names with fields, no payloads, no people.

Every line says `ts level service version event`, then what is bound where it was written: the
request or the position in the log (`bind`, `bound`) and the trace (`shared.traceparent`).
"""

import hashlib
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from types import MappingProxyType
from typing import Final, TypeAlias

import structlog

from shared import traceparent
from shared.repeats import Unrepeated
from shared.tracebacks import formatted

Logger: TypeAlias = structlog.stdlib.BoundLogger

_FIRST: Final = ("ts", "level", "service", "version", "event")
_PROGRAM: Final = "perennial"

_context: Final[ContextVar[Mapping[str, object]]] = ContextVar(
    "log_context", default=MappingProxyType({})
)


def configure(*, level: str, form: str) -> None:
    """Send structlog's and the standard library's records through one renderer."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        # A terminal is narrow, and who looks at it knows what runs.
        _Bound({"version": version(_PROGRAM)} if form == "json" else {}),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = Unrepeated(sys.stderr if form == "console" else sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _without_what_it_held,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(formatted),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Their INFO lines carry URLs (webhook secrets) or repeat every retry of a dead broker.
    for noisy in ("httpx", "httpcore", "aiokafka", "asyncio", "alembic", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _without_what_it_held(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The first line of asyncio's says what happened; the others show the task, error and all."""
    if event["_record"].name == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def get(name: str) -> Logger:
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def context() -> Mapping[str, object]:
    """What is bound in this task."""
    return _context.get()


def bind(**fields: object) -> None:
    """All lines of this task, and of those that it starts, say this from now on."""
    _context.set({**_context.get(), **fields})


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """As `bind`, until the end of the context."""
    before = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(before)


def account_ref(account: str) -> str:
    """An account in a log line: lines about one can be found, its id is not told.

    Who knows the ids can compute it: it hides them from who merely sees the logs.
    """
    return hashlib.blake2b(account.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


class _Bound:
    """Adds what is bound, and puts what every line has first."""

    def __init__(self, constant: Mapping[str, object]) -> None:
        self._constant = {"service": _PROGRAM, **constant}

    def __call__(
        self, _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        said = {**self._constant, **_context.get()}
        if (trace := traceparent.current()) is not None:
            said["trace_id"] = traceparent.trace_id(trace)
        said |= event
        return {name: said.pop(name) for name in _FIRST if name in said} | said
