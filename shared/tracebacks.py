"""Tracebacks for logs: where it happened and what kind of error, but no value of the data.

An error's message repeats what it stumbled over: a database's holds the row, a parser's the text, a
client's the URL with its secret. Only messages that are known to hold none are shown.
"""

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final, TypeAlias

from shared.errors import PerennialError

ExceptionInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]

# Ours are written for it; the others speak of types, names, files and addresses.
_SAFE: Final = (
    PerennialError, ArithmeticError, AssertionError, AttributeError, ImportError, MemoryError,
    NameError, OSError, RecursionError, TypeError,
)  # fmt: skip
# What PostgreSQL says beside its message: which rule, not which row.
_OF_DATABASES: Final = ("sqlstate", "constraint_name", "table_name", "column_name")
_DEEPEST: Final = 20


def formatted(exc_info: ExceptionInfo) -> str:
    """As Python writes it, causes first, but for the messages."""
    return "\n".join(_lines(exc_info[1], seen=set(), depth=0))


def _lines(error: BaseException, *, seen: set[int], depth: int) -> Iterator[str]:
    if id(error) in seen or depth > _DEEPEST:
        return
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _lines(before, seen=seen, depth=depth + 1)
        yield "which led to:"
    for entry in traceback.format_tb(error.__traceback__):
        yield entry.rstrip("\n")
    yield f"{type(error).__module__}.{type(error).__qualname__}{_said(error)}"
    if isinstance(error, BaseExceptionGroup):
        for number, one in enumerate(error.exceptions, start=1):
            yield f"{number} of {len(error.exceptions)} that it holds:"
            yield from (f"  {line}" for line in _lines(one, seen=seen, depth=depth + 1))


def _said(error: BaseException) -> str:
    if isinstance(error, _SAFE) and not isinstance(error, UnicodeError):
        return f": {error}"
    known = [
        f"{name}={value}"
        for name in _OF_DATABASES
        if isinstance(value := getattr(error, name, None), str)
    ]
    return f" ({', '.join(known)})" if known else ""
