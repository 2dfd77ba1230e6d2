"""What is done from time to time: the models looked after and trained again, insights made.

Each task is due at a moment that all replicas share; whoever takes it first does it. The work runs
in a process of its own, as the same command that an operator could type: minutes of fitting block
no loop here, and end with this process.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import drift
from services.scoring.metrics import ScoringMetrics
from services.scoring.tables import upkeep
from shared import database
from shared import logging as logs
from shared.clock import Clock
from shared.lifecycle import stopped_within
from shared.watchdog import Loop

PERENNIAL: Final = (sys.executable, "-m", "services")

_LOOK_SECONDS: Final = 60.0
_PROGRESS_SECONDS: Final = 10.0
_GIVE_UP_AFTER: Final = timedelta(hours=6)
_SAID_CHARACTERS: Final = 500

log = logs.get(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to run, how often, and how soon again after it failed."""

    arguments: tuple[str, ...]
    every: timedelta
    after_failure: timedelta


SHADOW: Final = Task(
    arguments=("models", "shadow"), every=timedelta(days=1), after_failure=timedelta(hours=1)
)
DRIFT: Final = Task(
    arguments=("models", "drift"), every=timedelta(days=7), after_failure=timedelta(hours=6)
)
# Too few losses, too: a week brings some.
TRAINING: Final = Task(
    arguments=("train",), every=timedelta(days=30), after_failure=timedelta(days=7)
)

# Made once a month: on the other days it is there already, which costs a look.
INSIGHTS: Final = Task(
    arguments=("insights", "make"), every=timedelta(days=1), after_failure=timedelta(hours=1)
)


def tasks(*, retrain: bool) -> Mapping[str, Task]:
    """The tasks of a service; it trains where what training needs is installed."""
    found = {"shadow": SHADOW, "drift": DRIFT, "insights": INSIGHTS}
    if retrain and find_spec("sklearn") and find_spec("scipy"):
        found["training"] = TRAINING
    return MappingProxyType(found)


class Upkeep:
    """Runs what is due, one task at a time; every replica has one."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        database_url: str,
        metrics: ScoringMetrics,
        clock: Clock,
        loop: Loop,
        tasks: Mapping[str, Task],
        program: Sequence[str] = PERENNIAL,
    ) -> None:
        self._engine = engine
        self._database_url = database_url
        self._metrics = metrics
        self._clock = clock
        self._loop = loop
        self._tasks = tasks
        self._program = program

    async def run(self, stop: asyncio.Event) -> None:
        while True:
            try:
                for name, task in self._tasks.items():
                    await self.do_if_due(name, task, stop)
                await self._show_health()
            except Exception as error:
                if not database.is_away(error) and not database.is_transient(error):
                    raise
                log.warning("upkeep.away", cause=type(error).__name__)
            self._loop.progressed()
            if await stopped_within(stop, _LOOK_SECONDS):
                return

    async def do_if_due(self, name: str, task: Task, stop: asyncio.Event) -> bool:
        """Whether it was due, and this replica's to do."""
        now = self._clock()
        if stop.is_set() or not await self._take(name, task, now):
            return False
        code, said = await self._perform(task.arguments, stop)
        if code is None:
            await self._note(name, due_at=now, result="stopped with the process")
            return True
        again = task.every if code == 0 else task.after_failure
        await self._note(name, due_at=now + again, result=said[:_SAID_CHARACTERS])
        log.info("upkeep.done", task=name, code=code, said=said)
        return True

    async def _take(self, name: str, task: Task, now: datetime) -> bool:
        """Claim the task; a process that dies with it leaves it to another in some hours.

        A new installation has nothing to look at yet: the first time comes later.
        """
        async with self._engine.begin() as connection:
            first = insert(upkeep).values(
                task=name, due_at=now + task.after_failure, done_at=None, result=""
            )
            await connection.execute(first.on_conflict_do_nothing())
            taken = await connection.execute(
                update(upkeep)
                .where(upkeep.c.task == name, upkeep.c.due_at <= now)
                .values(due_at=now + _GIVE_UP_AFTER)
            )
        return taken.rowcount == 1

    async def _note(self, name: str, *, due_at: datetime, result: str) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(
                update(upkeep)
                .where(upkeep.c.task == name)
                .values(due_at=due_at, done_at=self._clock(), result=result)
            )

    async def _perform(
        self, arguments: Sequence[str], stop: asyncio.Event
    ) -> tuple[int | None, str]:
        """The exit code and the last line that was said; no code: stopped before its end."""
        process = await asyncio.create_subprocess_exec(
            "nice",
            *self._program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_environment(self._database_url),
        )
        reading = asyncio.create_task(process.communicate())
        stopping = asyncio.create_task(stop.wait())
        try:
            while not reading.done() and not stopping.done():
                await asyncio.wait(
                    {reading, stopping},
                    timeout=_PROGRESS_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                self._loop.progressed()
            finished = reading.done()
        finally:
            stopping.cancel()
            if process.returncode is None:
                process.kill()  # It writes in one transaction, at its end.
            output, _ = await reading
        lines = output.decode(errors="replace").strip().splitlines()
        return (process.returncode if finished else None), (lines[-1] if lines else "")

    async def _show_health(self) -> None:
        async with self._engine.connect() as connection:
            found = await drift.read_newest(connection)
        for gauge, name in (
            (self._metrics.model_psi_max, "psi_max"),
            (self._metrics.model_calibration_ratio, "calibration_ratio"),
        ):
            value = None if found is None else found[name]
            gauge.set(value if isinstance(value, (int, float)) else float("nan"))


def _environment(database_url: str) -> dict[str, str]:
    """Ours, but for the database: ours may be the embedded one, or have been given as a file."""
    own = {name: value for name, value in os.environ.items() if name != "DATABASE_URL_FILE"}
    return own | {"DATABASE_URL": database_url, "PERENNIAL_LOG_LEVEL": "error"}
