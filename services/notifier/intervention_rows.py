"""An intervention as a row of its table, and back."""

from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Row

from services.notifier.domain.flags import Kind, reason_of
from services.notifier.domain.interventions import Intervention, Snooze, Status
from services.notifier.domain.playbooks import Playbook
from services.notifier.domain.signals import Seen
from shared.messages import Band, OutcomeKind, Reason, ValueAtRisk

AnyRow: TypeAlias = Row[*tuple[Any, ...]]


def intervention_of(row: AnyRow) -> Intervention:
    value = None
    if row.value_amount is not None:
        value = ValueAtRisk(
            amount=row.value_amount, currency=row.value_currency, basis=row.value_basis
        )
    return Intervention(
        id=row.id,
        account_id=row.account_id,
        type=Kind(row.type),
        reason=reason_of(row.reason),
        status=Status(row.status),
        version=row.version,
        episode=row.episode,
        severity=Band(row.severity),
        owner=row.owner,
        due_at=row.due_at,
        opened_at=row.opened_at,
        last_seen_at=row.last_seen_at,
        seen=Seen(
            flag_id=row.flag_id,
            episode=row.flag_episode,
            raised_at=row.flag_raised_at,
            as_of=row.flag_as_of,
            change=row.flag_change,
            traceparent=row.traceparent,
        ),
        risk_at_open=row.risk_at_open,
        risk=row.risk,
        value_at_risk=value,
        renewal_date=row.renewal_date,
        summary=row.summary,
        reasons=msgspec.convert(row.reasons, tuple[Reason, ...]),
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        recovered_at=row.recovered_at,
        closed_at=row.closed_at,
        closed_by=row.closed_by,
        outcome=None if row.outcome is None else OutcomeKind(row.outcome),
        note=row.note,
        revision=row.revision,
        round=row.round,
        round_began_at=row.round_began_at,
        acted_at=row.acted_at,
        snooze=_snooze_of(row),
        ends_at=row.ends_at,
        held_out=row.held_out,
        priority=row.priority,
        notice_by=row.notice_by,
        playbook=None if row.playbook is None else msgspec.convert(row.playbook, Playbook),
    )


def values_of(subject: Intervention) -> dict[str, object]:
    value = subject.value_at_risk
    snooze = subject.snooze
    return {
        "id": subject.id,
        "account_id": subject.account_id,
        "type": subject.type.value,
        "reason": subject.reason.value,
        "status": subject.status.value,
        "version": subject.version,
        "episode": subject.episode,
        "severity": subject.severity.value,
        "owner": subject.owner,
        "due_at": subject.due_at,
        "opened_at": subject.opened_at,
        "last_seen_at": subject.last_seen_at,
        "flag_id": subject.seen.flag_id,
        "flag_episode": subject.seen.episode,
        "flag_raised_at": subject.seen.raised_at,
        "flag_as_of": subject.seen.as_of,
        "flag_change": subject.seen.change,
        "traceparent": subject.seen.traceparent,
        "risk_at_open": subject.risk_at_open,
        "risk": subject.risk,
        "value_amount": None if value is None else value.amount,
        "value_currency": None if value is None else value.currency,
        "value_basis": None if value is None else value.basis,
        "renewal_date": subject.renewal_date,
        "summary": subject.summary,
        "reasons": msgspec.to_builtins(subject.reasons),
        "acknowledged_at": subject.acknowledged_at,
        "acknowledged_by": subject.acknowledged_by,
        "recovered_at": subject.recovered_at,
        "closed_at": subject.closed_at,
        "closed_by": subject.closed_by,
        "outcome": None if subject.outcome is None else subject.outcome.value,
        "note": subject.note,
        "revision": subject.revision,
        "round": subject.round,
        "round_began_at": subject.round_began_at,
        "acted_at": subject.acted_at,
        "snoozed_until": snooze.until if snooze else None,
        "snooze_reason": snooze.reason if snooze else None,
        "snoozed_by": snooze.by if snooze else None,
        "snoozed_at": snooze.at if snooze else None,
        "snooze_broken_at": snooze.broken_at if snooze else None,
        "snooze_ended_at": snooze.ended_at if snooze else None,
        "ends_at": subject.ends_at,
        "held_out": subject.held_out,
        "priority": subject.priority,
        "notice_by": subject.notice_by,
        "playbook": None if subject.playbook is None else msgspec.to_builtins(subject.playbook),
    }


def _snooze_of(row: AnyRow) -> Snooze | None:
    if row.snoozed_until is None:
        return None
    return Snooze(
        until=row.snoozed_until,
        reason=row.snooze_reason,
        by=row.snoozed_by,
        at=row.snoozed_at,
        broken_at=row.snooze_broken_at,
        ended_at=row.snooze_ended_at,
    )
