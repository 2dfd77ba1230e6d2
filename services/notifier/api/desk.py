"""What the routes of the API need, in one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier.api.callers import Callers
from services.notifier.console.scoring import ScoringApi
from services.notifier.domain.people import Roster
from services.notifier.domain.playbooks import Playbooks
from services.notifier.steps import Steps
from shared.clock import Clock
from shared.credentials import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDesk:
    engine: AsyncEngine
    scoring: ScoringApi
    steps: Steps
    clock: Clock
    keys: KeyRing
    team: Callable[[], Roster]
    """As its file says, without what people want for themselves."""
    problems: Callable[[], Mapping[str, str]]
    """Why files of `team` or `playbooks` are refused as they are now."""

    @property
    def callers(self) -> Callers:
        return Callers(keys=self.keys, clock=self.clock)

    def roster(self) -> Roster:
        return self.steps.stepping.staff.roster()

    def playbooks(self) -> Playbooks:
        return self.steps.stepping.staff.playbooks()
