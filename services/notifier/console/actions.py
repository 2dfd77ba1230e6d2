"""What people do in the console: acknowledge and close, each one transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from services.notifier import outcomes, store
from services.notifier.domain import interventions
from services.notifier.domain.interventions import Intervention, Refusal
from services.notifier.metrics import NotifierMetrics
from services.notifier.store import Entry
from shared.clock import Clock
from shared.messages import OutcomeKind

_MAX_NOTE = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """The step was refused; the intervention as it is now, None where there is none."""

    refusal: Refusal
    intervention: Intervention | None


Changed: TypeAlias = Intervention | NotTaken


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    engine: AsyncEngine
    metrics: NotifierMetrics
    clock: Clock
    wake: Callable[[], None]

    async def acknowledge(self, intervention_id: UUID, *, version: int, by: str) -> Changed:
        now = self.clock()
        changed = await self._change(
            intervention_id,
            lambda current: interventions.acknowledge(current, version=version, by=by, now=now),
            Entry.ACKNOWLEDGED,
            by=by,
        )
        if isinstance(changed, Intervention):
            self.metrics.ack_seconds.observe((now - changed.opened_at).total_seconds())
        return changed

    async def close(
        self, intervention_id: UUID, *, version: int, outcome: OutcomeKind, note: str, by: str
    ) -> Changed:
        now = self.clock()
        said = _clean_note(note)
        changed = await self._change(
            intervention_id,
            lambda current: interventions.close(
                current, version=version, outcome=outcome, note=said, by=by, now=now
            ),
            Entry.CLOSED,
            by=by,
            outcome=outcome.value,
            note=said or None,
        )
        if isinstance(changed, Intervention):
            self.metrics.outcomes.labels(outcome.value, changed.reason.value).inc()
        return changed

    def outcome_of(self, text: str) -> OutcomeKind | None:
        try:
            return OutcomeKind(text)
        except ValueError:
            return None

    async def _change(
        self,
        intervention_id: UUID,
        step: Callable[[Intervention], Intervention | Refusal],
        entry: Entry,
        *,
        by: str,
        **detail: str | None,
    ) -> Changed:
        async with self.engine.begin() as connection:
            current = await store.read(connection, intervention_id, lock=True)
            if current is None:
                return NotTaken(refusal=Refusal.STALE, intervention=None)
            result = step(current)
            if isinstance(result, Refusal):
                return NotTaken(refusal=result, intervention=current)
            if not await store.change(connection, result):
                return NotTaken(refusal=Refusal.STALE, intervention=current)
            await store.tell(connection, result, entry, by=by, at=self.clock(), **detail)
            if entry is Entry.CLOSED:
                await outcomes.publish(connection, result)
        self.wake()
        return result


def _clean_note(note: str) -> str:
    """What a person wrote, with its lines, without characters that PostgreSQL refuses."""
    kept = "".join(char for char in note if char.isprintable() or char == "\n")
    return kept.strip()[:_MAX_NOTE]
