"""Decisions as deliveries: their keys, by which the same decision is stored once for ever."""

import hashlib
from collections.abc import Iterator
from datetime import datetime

from services.notifier.composing import DeliveryKind, Place, Planned
from services.notifier.domain.assignment import whom
from services.notifier.domain.decisions import Decision, Held
from services.notifier.domain.escalation import Step
from services.notifier.domain.interventions import Intervention
from services.notifier.domain.notice import news_of
from services.notifier.domain.people import Roster, is_same
from services.notifier.domain.playbooks import Who
from services.notifier.domain.policy import NotifyReason, is_urgent
from services.notifier.routes import NOWHERE, reach
from services.notifier.situations import Desk, Group, opening_of
from shared.messages import AccountFields


def of_notice(group: Group, decision: Decision, reason: NotifyReason, due_at: datetime) -> Planned:
    # Its number makes it new after each end; the rest lets what changes meanwhile join it.
    says = _digest(reason, news_of(group.members), decision.is_urgent)
    return _of_group(
        group,
        kind=DeliveryKind.NOTICE,
        key=f"notice:{_name(group)}:{decision.notice.seq + 1}:{says}",
        reason=reason,
        due_at=due_at,
        is_urgent=decision.is_urgent,
    )


def of_update(group: Group, decision: Decision, due_at: datetime) -> Planned:
    looks = _digest(*(f"{one.id}:{one.looks}" for one in group.members))
    return _of_group(
        group,
        kind=DeliveryKind.UPDATE,
        # Somebody waits for what is due at once: it hurries what waits already.
        key=f"update:{_name(group)}:{decision.notice.seq + 1}:{looks}:{due_at}",
        reason=NotifyReason.UPDATED,
        due_at=due_at,
    )


def of_bundle(group: Group, decision: Decision, due_at: datetime) -> Planned:
    """The message about many accounts that this one's news wait for.

    `subject.why`: the suppression that is over then. Which accounts it is about stands in their
    notices (`notice_rows.bundled_at`): they come and go until it is composed.
    """
    bundled = decision.notice.bundled
    why = bundled.value if bundled else ""
    place = group.place
    return Planned(
        kind=DeliveryKind.SUMMARY,
        dedupe_key=f"summary:{_name(group)}:{decision.notice.seq + 1}:{why}:{due_at.isoformat()}",
        group_key=f"summary:{place.destination}",
        channel=place.channel,
        destination=place.destination,
        recipient=place.recipient,
        reason=NotifyReason.SUMMARY,
        due_at=due_at,
        priority=max((one.priority for one in group.members), default=0.0),
        subject={"why": why},
    )


def of_held(group: Group, held: Held, *, now: datetime) -> Planned:
    """What is not sent, to be stored with its reason."""
    place = group.place
    return Planned(
        kind=DeliveryKind.NOTICE,
        dedupe_key=f"suppressed:{_name(group)}:{held.cause}",
        group_key=f"notice:{_name(group)}",
        channel=place.channel,
        destination=place.destination,
        recipient=place.recipient,
        reason=held.reason,
        due_at=now,
        account_id=group.notice.account_id,
        intervention_id=held.about,
    )


def of_nowhere(subject: Intervention, *, now: datetime) -> Planned:
    seen = subject.seen
    cause = _digest(subject.id, subject.episode, seen.flag_id, seen.episode)
    return Planned(
        kind=DeliveryKind.NOTICE,
        dedupe_key=f"suppressed:{subject.account_id}:{NOWHERE.destination}:{cause}",
        group_key=f"notice:{subject.account_id}:{NOWHERE.destination}",
        channel=NOWHERE.channel,
        destination=NOWHERE.destination,
        recipient=NOWHERE.recipient,
        reason=NotifyReason.FIRST,
        due_at=now,
        account_id=subject.account_id,
        intervention_id=subject.id,
    )


def of_step(
    subject: Intervention,
    step: Step,
    fields: AccountFields,
    desk: Desk,
    roster: Roster,
    *,
    now: datetime,
) -> Iterator[Planned]:
    """One step of an escalation, when whoever it goes to is at work."""
    address = whom(step.to, owner=subject.owner, reseller=fields.reseller, roster=roster, now=now)
    if step.to is not Who.OWNER and is_same(address, subject.owner):
        return  # Two rules, one person: they have heard of it as its owner.
    urgent = is_urgent(subject, value_from=desk.value_from, now=now)
    due_at = now if urgent else opening_of(address, roster, now=now) or now
    for place in reach(address, roster, desk.ways):
        name = f"{subject.id}:{subject.episode}:{subject.round}:{step.number}:{place.destination}"
        yield Planned(
            kind=DeliveryKind.STEP,
            dedupe_key=f"step:{name}",
            group_key=f"step:{subject.id}",
            channel=place.channel,
            destination=place.destination,
            recipient=place.recipient,
            reason=NotifyReason.ESCALATED,
            due_at=due_at,
            urgent=urgent,
            priority=subject.priority,
            account_id=subject.account_id,
            intervention_id=subject.id,
            subject={"episode": subject.episode, "round": subject.round, "step": step.number},
        )


def _of_group(
    group: Group,
    *,
    kind: DeliveryKind,
    key: str,
    reason: NotifyReason,
    due_at: datetime,
    is_urgent: bool = False,
) -> Planned:
    place: Place = group.place
    lead = group.members[0] if group.members else None
    return Planned(
        kind=kind,
        dedupe_key=key,
        group_key=f"{kind.value}:{_name(group)}",
        channel=place.channel,
        destination=place.destination,
        recipient=place.recipient,
        reason=reason,
        due_at=due_at,
        urgent=is_urgent,
        priority=lead.priority if lead else 0.0,
        account_id=group.notice.account_id,
        intervention_id=lead.id if lead else None,
    )


def _name(group: Group) -> str:
    return f"{group.notice.account_id}:{group.place.destination}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()[:24]
