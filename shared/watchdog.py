"""Loops that report progress, what they need, and when their silence ends the process.

An outage that is known pauses the timers of who needs what is away: a restart would not mend it,
and all replicas would restart for as long as it lasts.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta

from shared import failpoints
from shared import logging as logs
from shared.errors import PerennialError
from shared.telemetry import CommonMetrics, Dependency

_INTERVALS = 5

log = logs.get(__name__)


class WatchdogExpired(PerennialError):
    """A loop made no progress for too long although nothing it needs is away."""


def consume_limit() -> float:
    """Seconds without a commit while records wait, and log and database answer."""
    return 15.0 if failpoints.is_hasty() else 120.0


def round_limit(interval: timedelta = timedelta()) -> float:
    """Seconds without a round of a loop that makes one each `interval`."""
    least = 10.0 if failpoints.is_hasty() else 60.0
    return max(least, _INTERVALS * interval.total_seconds())


class Outages:
    """What the services of this process need and know to be away."""

    def __init__(self, metrics: CommonMetrics) -> None:
        self._metrics = metrics
        self._away: set[tuple[str, Dependency]] = set()

    def note(self, service: str, dependency: Dependency, *, is_up: bool) -> None:
        self._metrics.dependency_up.labels(service, dependency).set(int(is_up))
        if is_up:
            self._away.discard((service, dependency))
        else:
            self._away.add((service, dependency))

    def is_away(self, service: str, dependency: Dependency) -> bool:
        """What nobody has asked for yet is taken to be there."""
        return (service, dependency) in self._away

    def known(self) -> list[str]:
        return [f"{service}: {dependency}" for service, dependency in sorted(self._away)]


@dataclass(slots=True)
class Loop:
    """A background loop: it reports progress, and a watchdog may expire on its silence."""

    service: str
    name: str
    metrics: CommonMetrics
    limit_seconds: float | None = None
    needs: tuple[Dependency, ...] = ()
    outages: Outages | None = None
    last_progress: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.metrics.loop_limit.labels(self.service, self.name).set(self.limit_seconds or 0)

    def progressed(self) -> None:
        self.last_progress = time.monotonic()
        self.metrics.loop_progress.labels(self.service, self.name).set_to_current_time()

    def excused(self) -> None:
        """There is nothing to do, or nobody could do it: silence counts from now on."""
        self.last_progress = time.monotonic()

    def silent_seconds(self) -> float:
        return time.monotonic() - self.last_progress

    def overdue(self) -> str | None:
        if self.limit_seconds is None:
            return None
        if self.outages and any(self.outages.is_away(self.service, one) for one in self.needs):
            self.excused()
        silent = self.silent_seconds()
        if silent <= self.limit_seconds:
            return None
        return f"{self.service}.{self.name} made no progress for {silent:.0f} s"


def log_state(reasons: list[str], loops: list[Loop], outages: Outages | None) -> None:
    """All that tells afterwards what stood still, and on what it waited."""
    log.error(
        "watchdog.expired",
        reasons=reasons,
        silent_seconds={f"{one.service}.{one.name}": round(one.silent_seconds()) for one in loops},
        away=outages.known() if outages else [],
        tasks=sorted(map(_place, asyncio.all_tasks())),
    )


def _place(task: "asyncio.Task[object]") -> str:
    """The task's name and the line on which it waits."""
    stack = task.get_stack(limit=1)
    if not stack:
        return task.get_name()
    frame = stack[-1]
    return f"{task.get_name()} at {frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"
