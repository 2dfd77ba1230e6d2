"""The tasks of an intervention: planned from its playbook as it opens, done by people."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.notifier.domain.playbooks import Who


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    intervention_id: UUID
    episode: int
    number: int
    """Its place in the playbook, from 1."""
    title: str
    who: Who
    owner: str
    """Who that is; moves with the intervention while it is not done."""
    due_at: datetime
    done_at: datetime | None = None
    done_by: str | None = None

    @property
    def is_done(self) -> bool:
        return self.done_at is not None
