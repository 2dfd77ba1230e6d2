"""How the API tells of rows and values: plain objects of what JSON has."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from services.notifier.domain.interventions import Intervention, proposal
from services.notifier.domain.priority import factors
from services.notifier.domain.sentiments import Sentiment
from services.notifier.domain.silences import Silence
from services.notifier.domain.tasks import Task
from services.notifier.intervention_rows import AnyRow
from services.notifier.users import User
from shared.credentials import KeyRing
from shared.messages import WriteKey

View: TypeAlias = dict[str, Any]


def intervention(one: Intervention, *, now: datetime) -> View:
    return {
        "id": one.id,
        "account_id": one.account_id,
        "type": one.type,
        "reason": one.reason,
        "status": one.status,
        "version": one.version,
        "episode": one.episode,
        "severity": one.severity,
        "owner": one.owner,
        "opened_at": one.opened_at,
        "due_at": one.due_at,
        "is_overdue": one.is_open and one.due_at < now,
        "priority": one.priority,
        "risk": one.risk,
        "value_at_risk": one.value_at_risk,
        "renewal_date": one.renewal_date,
        "notice_by": one.notice_by,
        "summary": one.summary,
        "acknowledged_at": one.acknowledged_at,
        "acknowledged_by": one.acknowledged_by,
        "snooze": _snooze(one) if one.is_snoozed(now) else None,
        "recovered_at": one.recovered_at,
        "closed_at": one.closed_at,
        "closed_by": one.closed_by,
        "outcome": one.outcome,
        "note": one.note,
        "held_out": one.held_out,
        "playbook": one.playbook.name if one.playbook else None,
    }


def in_full(
    one: Intervention,
    tasks: Sequence[Task],
    entries: Sequence[AnyRow],
    *,
    account_lost: bool,
    now: datetime,
) -> View:
    """With what its account's page shows of it."""
    parts = factors(one, today=now.astimezone(UTC).date())
    return intervention(one, now=now) | {
        "risk_at_open": one.risk_at_open,
        "reasons": one.reasons,
        "proposed_outcome": proposal(one, account_lost=account_lost),
        "priority_factors": {
            "severity": parts.severity,
            "value": parts.value,
            "currency": parts.currency,
            "nearness": parts.nearness,
            "days": parts.days,
        },
        "tasks": [task(each) for each in tasks if each.episode == one.episode],
        "timeline": [entry(each) for each in entries],
    }


def _snooze(one: Intervention) -> View | None:
    asleep = one.snooze
    if asleep is None:
        return None
    return {"until": asleep.until, "reason": asleep.reason, "by": asleep.by, "at": asleep.at}


def task(one: Task) -> View:
    return {
        "number": one.number,
        "title": one.title,
        "owner": one.owner,
        "due_at": one.due_at,
        "done_at": one.done_at,
        "done_by": one.done_by,
    }


def entry(row: AnyRow) -> View:
    return {
        "intervention_id": row.intervention_id,
        "at": row.at,
        "kind": row.kind,
        "by": row.by,
        "detail": row.detail,
    }


def delivery(row: AnyRow) -> View:
    return {
        "id": row.id,
        "account_id": row.account_id,
        "intervention_id": row.intervention_id,
        "kind": row.kind,
        "channel": row.channel,
        "destination": row.destination,
        "recipient": row.recipient,
        "reason": row.reason,
        "state": row.state,
        "suppressed_because": row.suppress_reason,
        "created_at": row.created_at,
        "due_at": row.due_at,
        "ended_at": row.ended_at,
        "attempts": row.attempts,
        "urgent": row.urgent,
        "failure": row.last_class,
        "failure_detail": row.last_detail,
    }


def silence(one: Silence, *, now: datetime) -> View:
    return {
        "id": one.id,
        "state": one.state(now),
        "matchers": one.matchers,
        "starts_at": one.starts_at,
        "ends_at": one.ends_at,
        "author": one.author,
        "comment": one.comment,
        "created_at": one.created_at,
    }


def sentiment(one: Sentiment, *, now: datetime) -> View:
    return {
        "id": one.id,
        "mood": one.mood,
        "note": one.note,
        "by": one.by,
        "at": one.at,
        "expires_at": one.expires_at,
        "has_expired": one.expires_at <= now,
    }


def audit(row: AnyRow) -> View:
    return {
        "at": row.at,
        "actor": row.actor,
        "role": row.role,
        "way": row.way,
        "action": row.action,
        "subject": row.subject,
        "account_id": row.account_id,
        "detail": row.detail,
    }


def user(one: User) -> View:
    """Without the password, however it is stored."""
    return {
        "address": one.address,
        "role": one.role,
        "state": one.state,
        "created_at": one.created_at,
        "created_by": one.created_by,
        "last_seen_at": one.last_seen_at,
    }


def sources(ring: KeyRing, *, now: datetime) -> list[View]:
    """Each source, its settings and its keys; no secret, nor anything made from one."""
    keys = ring.records()
    names = {one.source for one in keys} | {one.name for one in ring.sources()}
    return [
        {
            "name": name,
            "settings": msgspec.to_builtins(ring.source(name)),
            "keys": [_key(one, now) for one in keys if one.source == name],
        }
        for name in sorted(names)
    ]


def _key(one: WriteKey, now: datetime) -> View:
    ended = one.revoked_at is not None or (one.expires_at is not None and one.expires_at <= now)
    return {
        "key_id": one.key_id,
        "scopes": one.scopes,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "revoked_at": one.revoked_at,
        "is_live": not ended,
    }
