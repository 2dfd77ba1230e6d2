"""The same log line again and again: told once a minute, with how many were left out.

A dependency that is away is looked for five times a second; its log would hide what else happens,
and fill the disk on which it is kept.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

_EVERY_SECONDS: Final = 60.0
_MOST_KEYS: Final = 1_000
# Of a line they say when, which and how much; what went wrong is in the others.
_CHANGING: Final = frozenset({"ts", "request_id", "trace_id", "span_id", "account_ref"})
_NAMING_NUMBERS: Final = frozenset({"status", "code", "errno", "exit_code", "signal"})


@dataclass(slots=True)
class _Told:
    until: float
    left_out: int = 0
    last: logging.LogRecord | None = None


class Unrepeated(logging.StreamHandler[TextIO]):
    """Writes a line at once if none like it was written in the last minute.

    Alike are lines of the same level, event and words: another error, reason, topic or channel is
    another line. What was left out is counted by the next one, by any line after the minute (the
    last of those left out comes first then), and at the end: `repeated`.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._told: OrderedDict[tuple[object, ...], _Told] = OrderedDict()
        self._deciding = threading.RLock()

    def emit(self, record: logging.LogRecord) -> None:
        with self._deciding:
            now = self._clock()
            self._tell_what_is_over(now)
            if record.levelno >= logging.INFO:
                key = _key(record)
                told = self._told.get(key)
                if told is not None:
                    told.left_out += 1
                    told.last = record
                    return
                if len(self._told) >= _MOST_KEYS:
                    self._tell(self._told.popitem(last=False)[1])
                self._told[key] = _Told(until=now + _EVERY_SECONDS)
            super().emit(record)

    def close(self) -> None:
        with self._deciding:
            while self._told:
                self._tell(self._told.popitem(last=False)[1])
        super().close()

    def _tell_what_is_over(self, now: float) -> None:
        # In the order in which they were told, all for the same time: the oldest are the first.
        while self._told:
            key, told = next(iter(self._told.items()))
            if told.until > now:
                return
            del self._told[key]
            if told.last is not None:
                self._told[key] = _Told(until=now + _EVERY_SECONDS)
            self._tell(told)

    def _tell(self, told: _Told) -> None:
        if told.last is None:
            return
        others = told.left_out - 1
        record = told.last
        if others and isinstance(record.msg, dict):
            record.msg = {**record.msg, "repeated": others}
        elif others:
            record.msg, record.args = f"{record.getMessage()} (repeated {others} times)", None
        super().emit(record)


def _key(record: logging.LogRecord) -> tuple[object, ...]:
    failure = record.exc_info[1] if record.exc_info else None
    kind = (record.name, record.levelno, type(failure), str(failure)[:200])
    if not isinstance(record.msg, Mapping):
        return (*kind, record.getMessage())
    raised = record.msg.get("exc_info")
    return (
        *kind,
        type(raised),
        *sorted((name, str(value)) for name, value in record.msg.items() if _says(name, value)),
    )


def _says(name: str, value: object) -> bool:
    if name in _CHANGING or name.startswith("_"):
        return False
    return name in _NAMING_NUMBERS or isinstance(value, str | bool | list | tuple)
