"""What is done about one kind of work, by whom, until when, and who hears of it how often."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import product
from typing import Final

import msgspec

from services.notifier.domain.calendar import Calendar
from services.notifier.domain.flags import Kind, OwnReason, WorkReason, is_opportunity
from services.notifier.domain.people import plain
from shared.messages import AccountFields, Band, FlagReason

DUE: Final[Mapping[Band, int]] = {Band.CRITICAL: 1, Band.AT_RISK: 3, Band.WATCH: 5}
REPEAT: Final[Mapping[Band, int]] = {Band.CRITICAL: 1, Band.AT_RISK: 3}

KINDS: Final[Mapping[WorkReason, Kind]] = {
    FlagReason.CHURN_RISK: Kind.RENEW,
    FlagReason.GONE_SILENT: Kind.ADOPT,
    FlagReason.USAGE_DROP: Kind.ADOPT,
    FlagReason.SEATS_IDLE: Kind.ADOPT,
    FlagReason.CHAMPION_LOST: Kind.ADOPT,
    FlagReason.ONBOARDING_STALLED: Kind.LAND,
    FlagReason.CANCELLATION_INTENT: Kind.RENEW,
    FlagReason.PAYMENT_FAILED: Kind.RENEW,
    FlagReason.SUPPORT_STRAIN: Kind.ADOPT,
    FlagReason.UNHAPPY_FEEDBACK: Kind.ADOPT,
    FlagReason.RENEWAL_DUE: Kind.RENEW,
    FlagReason.GOAL_MISSED: Kind.ADOPT,
    FlagReason.EXPANSION_READY: Kind.EXPAND,
    FlagReason.GOAL_REACHED: Kind.EXPAND,
    OwnReason.SENTIMENT: Kind.ADOPT,
    OwnReason.ACCOUNT_LOST: Kind.WIN_BACK,
}
"""The type that comes with each reason, to find playbooks that nothing would ever get."""


class Who(StrEnum):
    """Whose a task or an escalation step is."""

    OWNER = "owner"
    DEPUTY = "deputy"
    MANAGER = "manager"
    LEAD = "lead"
    """Of the fallback queue."""
    RESELLER = "reseller"
    """The owner of the account's reseller; the account's own where there is none."""


class Sold(StrEnum):
    """How the account came to us."""

    DIRECT = "direct"
    RESELLER = "reseller"


class Match(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which interventions a playbook is for; what is left out matches all."""

    type: str | None = None
    reasons: tuple[str, ...] = ()
    severity: tuple[Band, ...] = ()
    segment: tuple[str, ...] = ()
    sold: str | None = None
    """`direct` or `reseller`."""
    value: int | None = None
    """Value at risk of at least so much, in whatever currency it is stated."""


class TaskRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    title: str
    due: int
    """Working days of its owner after the opening; 0: the same day."""
    owner: Who = Who.OWNER
    before_notice: int | None = None
    """So many days before the last day for notice, where that is known and not past."""


class EscalationStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    after: int
    """Working days of the owner since the round began, without acknowledgement."""
    to: Who


ESCALATION: Final = (
    EscalationStep(after=1, to=Who.OWNER),
    EscalationStep(after=2, to=Who.MANAGER),
    EscalationStep(after=3, to=Who.LEAD),
)


class Playbook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One playbook; an intervention keeps the one it was opened with."""

    name: str
    version: int
    title: str
    match: Match = Match()
    owner: Who = Who.OWNER
    due: dict[Band, int] = {}
    """Working days to act, by severity."""
    tasks: tuple[TaskRule, ...] = ()
    channels: tuple[str, ...] = ("slack", "email")
    repeat: dict[Band, int] = {}
    """Working days between two reminders, by severity; without an entry only the digest reminds."""
    escalation: tuple[EscalationStep, ...] = ()


DEFAULT: Final = Playbook(
    name="default",
    version=1,
    title="Look into it",
    due=dict(DUE),
    repeat=dict(REPEAT),
    escalation=ESCALATION,
    tasks=(
        TaskRule(title="Read the reasons and the account's timeline", due=0),
        TaskRule(title="Talk to the account, and write down what they say", due=2),
    ),
)
"""What is done where no playbook of the folder is for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a playbook is chosen by."""

    type: Kind
    reason: WorkReason
    severity: Band
    value: Decimal | None = None
    segment: str | None = None
    sold: Sold = Sold.DIRECT


@dataclass(frozen=True, slots=True)
class Playbooks:
    """All in force, in the order of their files: the most specific first."""

    ordered: tuple[Playbook, ...] = (DEFAULT,)

    def for_work(self, work: Work) -> Playbook:
        """The first that matches."""
        return next((one for one in self.ordered if matches(one.match, work)), DEFAULT)

    def named(self, name: str) -> Playbook | None:
        return next((one for one in self.ordered if one.name == name), None)


def work_of(
    fields: AccountFields,
    *,
    kind: Kind,
    reason: WorkReason,
    severity: Band,
    value: Decimal | None,
) -> Work:
    """`value`: the amount at risk, None where it is not known or nothing is lost."""
    return Work(
        type=kind,
        reason=reason,
        severity=severity,
        value=value,
        segment=fields.segment,
        sold=Sold.RESELLER if (fields.reseller or "").strip() else Sold.DIRECT,
    )


def matches(match: Match, work: Work) -> bool:
    return (
        (match.type is None or match.type == work.type)
        and (not match.reasons or work.reason in match.reasons)
        and (not match.severity or work.severity in match.severity)
        and (match.sold is None or match.sold == work.sold)
        and (match.value is None or (work.value is not None and work.value >= match.value))
        and (not match.segment or plain(work.segment or "") in {plain(s) for s in match.segment})
    )


def is_catch_all(playbook: Playbook) -> bool:
    return playbook.match == Match()


def unreachable(ordered: Sequence[Playbook]) -> Iterator[tuple[Playbook, Playbook | None]]:
    """Those that nothing would ever get, with the first playbook before them that takes their work.

    None: what they ask for does not occur. One for everything is needed even where the others leave
    it nothing today: a reason may come with another type.
    """
    segments = {plain(one) for playbook in ordered for one in playbook.match.segment}
    floors = {playbook.match.value for playbook in ordered if playbook.match.value is not None}
    for number, playbook in enumerate(ordered):
        before = ordered[:number]
        if is_catch_all(playbook):
            if earlier := next((one for one in before if is_catch_all(one)), None):
                yield playbook, earlier
            continue
        first: Playbook | None = None
        for work in _all_work(segments, floors):
            if not matches(playbook.match, work):
                continue
            taken_by = next((one for one in before if matches(one.match, work)), None)
            if taken_by is None:
                break
            first = first or taken_by
        else:
            yield playbook, first


def due_at(playbook: Playbook, severity: Band, *, calendar: Calendar, now: datetime) -> datetime:
    """The end of the owner's n-th working day after `now`; the worse, the sooner."""
    days = {**DUE, **playbook.due}
    return calendar.end_of_working_day(now, days.get(severity, days[Band.WATCH]))


def task_due_at(
    rule: TaskRule, *, calendar: Calendar, opened_at: datetime, notice_by: date | None
) -> datetime:
    """The end of a working day of the task's owner."""
    if rule.before_notice is not None and notice_by is not None:
        day = notice_by - timedelta(days=rule.before_notice)
        if day > calendar.day_of(opened_at):
            # Noon of the day before: from there the next working day is that day, or follows it.
            before = datetime.combine(day - timedelta(days=1), time(12), tzinfo=calendar.zone)
            return calendar.end_of_working_day(before, 1)
    return calendar.end_of_working_day(opened_at, rule.due)


def _all_work(segments: set[str], floors: set[int]) -> Iterator[Work]:
    """One of every sort that these playbooks could tell apart."""
    values: list[Decimal | None] = [None, Decimal(0), *(Decimal(one) for one in sorted(floors))]
    for reason, kind in KINDS.items():
        own = isinstance(reason, OwnReason)
        for severity, value, segment, sold in product(
            severities_of(reason),
            [None] if own or is_opportunity(reason) else values,
            [None, *sorted(segments)],
            Sold,
        ):
            yield Work(
                type=kind,
                reason=reason,
                severity=severity,
                value=value,
                segment=segment,
                sold=sold,
            )


def severities_of(reason: WorkReason) -> tuple[Band, ...]:
    """How severe work for that reason can be."""
    if reason is OwnReason.ACCOUNT_LOST or is_opportunity(reason):
        return (Band.WATCH,)
    if reason is OwnReason.SENTIMENT:
        return (Band.AT_RISK,)
    return (Band.WATCH, Band.AT_RISK, Band.CRITICAL)
