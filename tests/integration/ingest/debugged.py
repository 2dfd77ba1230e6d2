"""`perennial` in asyncio's debug mode, for a test to read what it complains of.

Not on uvloop, which does not time its callbacks. They are timed here by what they use of the
processor: on a machine under load the clock would blame whoever happened to wait.
"""

import asyncio
import logging
import time
from asyncio import Handle
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from services.__main__ import main

T = TypeVar("T")

_MOST_SECONDS = 0.1
"""As asyncio's own limit, whose clock runs while others are at work."""

_run = Handle._run  # every callback, and every step of a task


def _run_timed(handle: Handle) -> None:
    started = time.thread_time()
    _run(handle)
    used = time.thread_time() - started
    if used > _MOST_SECONDS:
        what = getattr(handle, "_callback", handle)
        what = getattr(what, "__self__", what)  # The task, of its step.
        logging.getLogger("asyncio").warning("Executing %r took %.3f seconds", what, used)


def _run_debugged(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(debug=True) as runner:
        runner.get_loop().slow_callback_duration = float("inf")
        return runner.run(work)


if __name__ == "__main__":
    Handle._run = _run_timed  # type: ignore[method-assign, assignment]
    uvloop.run = _run_debugged  # type: ignore[assignment]
    main()
