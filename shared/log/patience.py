"""Waiting at the start for a log that is away: a service that cannot join yet does not give up."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from shared import logging as logs
from shared.lifecycle import stopped_within
from shared.log import Consumer, LogUnavailable

_FIRST_SECONDS = 0.2
_LAST_SECONDS = 5.0

log = logs.get(__name__)


async def enter_when_reachable(
    stack: AsyncExitStack,
    join: Callable[[], AbstractAsyncContextManager[Consumer]],
    stop: asyncio.Event,
    *,
    progressed: Callable[[], None] = lambda: None,
) -> Consumer | None:
    """Join as soon as the log can be reached; None where `stop` came first.

    Waiting is progress: `progressed` keeps a watchdog from ending the process for an outage.
    Raises what waiting does not mend, such as TopicMissing.
    """
    seconds = _FIRST_SECONDS
    while not stop.is_set():
        try:
            return await stack.enter_async_context(join())
        except LogUnavailable:
            log.warning("log.not_reachable_yet", retry_seconds=seconds)
        progressed()
        await stopped_within(stop, seconds)
        seconds = min(seconds * 2, _LAST_SECONDS)
    return None
