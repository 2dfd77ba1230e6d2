"""Files that people change while we run: the last that were right are in force.

They are read again every two seconds, and compared by content: a folder that a cluster swaps below
us keeps its times. What two readings in a row agree on is taken; a folder is not copied at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from prometheus_client import Gauge

from services.notifier import playbook_files, team
from services.notifier.domain.people import Roster, alone
from services.notifier.domain.playbooks import Playbooks
from services.notifier.playbook_files import Files
from services.notifier.yaml_files import FileRejected
from shared import logging as logs
from shared.errors import Misconfigured
from shared.lifecycle import stopped_within
from shared.watchdog import Loop

EVERY_SECONDS: Final = 2.0

log = logs.get(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Reloaded(Generic[T]):
    """What files say; one loop keeps it current."""

    name: str
    """`team` or `playbooks`."""
    fetch: Callable[[], Files]
    read: Callable[[Files], T]
    current: T
    judged: Files | str
    """What was read last, twice the same; a text where it could not be read."""
    problem: str | None = None
    """Why the files as they are now are refused."""
    _last: Files | str | None = None

    def get(self) -> T:
        return self.current

    async def run(
        self,
        stop: asyncio.Event,
        *,
        loop: Loop,
        rejected: Gauge,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        """Until `stop`: take what has changed; `rejected` is 1 while it is refused."""
        while not await stopped_within(stop, every_seconds):
            before = self.problem
            changed = await asyncio.to_thread(self.look)
            loop.progressed()
            if self.problem is not None and self.problem != before:
                lines = self.problem.split("\n")
                log.error("files.rejected", files=self.name, first=lines[0], problems=len(lines))
            elif changed:
                log.info("files.reloaded", files=self.name)
            rejected.set(self.problem is not None)

    def look(self) -> bool:
        """Read them once; whether something new is in force now. Blocks."""
        try:
            found: Files | str = self.fetch()
        except OSError as error:
            found = f"cannot be read: {error.strerror}"
        settled, self._last = found == self._last, found
        if not settled or found == self.judged:
            return False
        self.judged = found
        if isinstance(found, str):
            self.problem = found
            return False
        try:
            self.current = self.read(found)
        except FileRejected as error:
            self.problem = str(error)
            return False
        self.problem = None
        return True


def problems(*opened: Reloaded[Roster] | Reloaded[Playbooks]) -> dict[str, str]:
    """Why files are refused as they are now, by name; those that are right are not in it."""
    return {one.name: one.problem for one in opened if one.problem is not None}


def open_team(path: Path | None, *, fallback_owner: str) -> Reloaded[Roster]:
    """Blocks. Raises Misconfigured: at start there is no last good one."""
    if path is None:
        return Reloaded("team", dict, lambda _: alone(fallback_owner), alone(fallback_owner), {})
    return _opened(
        "team", "PERENNIAL_TEAM_FILE", path, lambda: playbook_files.of_file(path), team.read
    )


def open_playbooks(folder: Path | None) -> Reloaded[Playbooks]:
    """As `open_team`; without a folder the pack that comes with Perennial."""
    if folder is None:
        files = playbook_files.built_in()
        read = playbook_files.read
        return Reloaded("playbooks", lambda: files, read, read(files), files)
    return _opened(
        "playbooks",
        "PERENNIAL_PLAYBOOKS",
        folder,
        lambda: playbook_files.of_folder(folder),
        playbook_files.read,
    )


def _opened(
    name: str,
    setting: str,
    path: Path,
    fetch: Callable[[], Files],
    read: Callable[[Files], T],
) -> Reloaded[T]:
    try:
        files = fetch()
        return Reloaded(name, fetch, read, read(files), files)
    except OSError as error:
        raise Misconfigured(f"{setting}: {path} cannot be read: {error.strerror}") from error
    except FileRejected as error:
        raise Misconfigured(f"{setting}: {error}") from error
