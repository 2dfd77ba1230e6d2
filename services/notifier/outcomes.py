"""How interventions ended, for the topic `outcomes`: labels for training, without names."""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.notifier import endings
from services.notifier.domain.interventions import SYSTEM, Intervention
from services.notifier.tables import outbox
from shared import outbox as outboxes
from shared import traceparent
from shared.log import Record
from shared.messages import OUTCOMES, Outcome, OutcomeEvent, encode

_SOURCE = "/perennial/notifier"
_TYPE = "dev.perennial.intervention.closed"


async def publish(connection: AsyncConnection, subject: Intervention) -> None:
    """Let the outcome of a closed intervention leave with the transaction, and keep it.

    It goes on in the trace of who closed it; where that was time, in that of its flag.
    """
    if subject.outcome is None or subject.closed_at is None:
        raise ValueError("an open intervention has no outcome")
    await endings.save(connection, subject)
    outcome = Outcome(
        intervention_id=str(subject.id),
        account=subject.account_id,
        type=subject.type.value,
        reason=subject.reason.value,
        episode=subject.episode,
        revision=subject.revision,
        outcome=subject.outcome,
        by="system" if subject.closed_by == SYSTEM else "person",
        closed_at=subject.closed_at,
        risk_at_open=subject.risk_at_open,
        held_out=subject.held_out,
        playbook=subject.playbook.name if subject.playbook else None,
    )
    event = OutcomeEvent(
        id=f"{subject.id}:{subject.episode}:{subject.revision}",
        source=_SOURCE,
        type=_TYPE,
        subject=subject.account_id,
        time=subject.closed_at,
        data=outcome,
    )
    trace = traceparent.current() or traceparent.parse(subject.seen.traceparent)
    record = Record(
        key=subject.account_id.encode(),
        value=encode(event),
        headers=traceparent.headers_of(trace),
    )
    await outboxes.put(connection, outbox, OUTCOMES, [record])
