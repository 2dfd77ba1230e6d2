"""Where something came from, as W3C Trace Context writes it: `00-<trace>-<span>-<flags>`.

It travels as text: the header `traceparent` of a request, of a record on the log and of a webhook,
and a column of what waits in the database. What comes from outside is read strictly, else made
anew: 55 characters of lower-case hex can carry nobody's data.
"""

import random
import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar, Token
from itertools import islice
from typing import Final, NewType, Protocol, TypeAlias

Traceparent = NewType("Traceparent", str)
RecordHeaders: TypeAlias = tuple[tuple[str, bytes], ...]

HEADER: Final = "traceparent"
HEADER_BYTES: Final = len(HEADER) + 55
"""What it adds to a record."""

_FORM: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII
)
_LENGTH: Final = 55
_FLAGS: Final = 54
_ODD: Final = b"13579bdf"
# Ids are no secrets: they need to differ, not to be hard to guess.
_random: Final = random.Random()  # noqa: S311


class WithHeaders(Protocol):
    """A record of the log."""

    @property
    def key(self) -> bytes: ...

    @property
    def headers(self) -> RecordHeaders: ...


_current: Final[ContextVar[Traceparent | None]] = ContextVar("traceparent", default=None)


def parse(value: bytes | str | None) -> Traceparent | None:
    """What a caller states, as version 00; None where it is nothing, or not as the standard says.

    Of a later version the part that all versions share is read.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = value.encode("ascii", "replace")
    if _FORM.match(value) is None:
        return None
    if len(value) > _LENGTH and (value[:2] == b"00" or value[_LENGTH : _LENGTH + 1] != b"-"):
        return None
    flags = "01" if value[_FLAGS] in _ODD else "00"
    return Traceparent(f"00-{value[3:52].decode()}-{flags}")


def new() -> Traceparent:
    """The beginning of a trace. Not sampled: nobody has recorded anything of it."""
    digits = f"{_random.getrandbits(192):048x}"
    return Traceparent(f"00-{digits[:32]}-{digits[32:]}-00")


def child(parent: Traceparent) -> Traceparent:
    """The next span of the same trace."""
    return Traceparent(f"{parent[:36]}{_random.getrandbits(64):016x}{parent[52:]}")


def trace_id(trace: Traceparent) -> str:
    return trace[3:35]


def span_id(trace: Traceparent) -> str:
    return trace[36:52]


def is_sampled(trace: Traceparent) -> bool:
    return trace.endswith("1")


def current() -> Traceparent | None:
    """Of what this task does; None: of nothing, or of many things at once."""
    return _current.get()


def begun() -> Traceparent:
    """As `current`; where that is nothing, a trace begins here."""
    return _current.get() or new()


def go_on(trace: Traceparent) -> None:
    """What this task does from now on belongs to it; the task is its own."""
    _current.set(trace)


class GoingOn:
    """As `go_on`, and as it was afterwards; None: what is done belongs to many, or to nobody."""

    __slots__ = ("_before", "_trace")

    def __init__(self, trace: Traceparent | None) -> None:
        self._trace = trace

    def __enter__(self) -> None:
        self._before: Token[Traceparent | None] = _current.set(self._trace)

    def __exit__(self, *_error: object) -> None:
        _current.reset(self._before)


def headers_of(trace: Traceparent | None) -> RecordHeaders:
    """The header of a record. Records of one request share one tuple of them."""
    return () if trace is None else ((HEADER, trace.encode()),)


def http_headers() -> dict[str, str]:
    """With which a call of ours tells the other side what it is for."""
    trace = _current.get()
    return {} if trace is None else {HEADER: trace}


def of_headers(headers: RecordHeaders) -> Traceparent | None:
    """What a record says of itself."""
    return parse(_said(headers))


def only(traces: Sequence[Traceparent | None]) -> Traceparent | None:
    """One of them, where all are of one trace; None where they are of several, or some of none."""
    ids = {None if one is None else trace_id(one) for one in traces}
    return traces[0] if len(ids) == 1 else None


def of_records(records: Iterable["WithHeaders"], *, most: int) -> list[Traceparent | None]:
    """What the records say of themselves, each once, the first ones; None: some say nothing."""
    said = dict.fromkeys(_said(one.headers) for one in records)
    return [parse(value) for value in islice(said, most)]


def by_key(records: Iterable["WithHeaders"]) -> dict[bytes, Traceparent]:
    """Of each key what its last record says of itself."""
    said = {one.key: value for one in records if (value := _said(one.headers)) is not None}
    return {key: trace for key, value in said.items() if (trace := parse(value)) is not None}


def _said(headers: RecordHeaders) -> bytes | None:
    """Of a repeated header the last one."""
    return next((value for name, value in reversed(headers) if name == HEADER), None)
