"""The tasks that keep a client of the log alive: one that ends leaves a client that looks well."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

_CANCEL_SECONDS = 5.0


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def why_broken(self) -> str | None:
        """Which of the tasks has ended, and of what; None: all run."""
        for task in self._tasks:
            if task.done():
                cause = "cancelled" if task.cancelled() else repr(task.exception())
                return f"the background task {task.get_name()} ended: {cause}"
        return None

    @asynccontextmanager
    async def running(
        self, name: str, work: Coroutine[object, object, None]
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run it while the context is open; an error that it died of is raised at the end."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        try:
            yield task
        finally:
            self._tasks.discard(task)
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            if task.done():
                with suppress(asyncio.CancelledError):
                    task.result()
