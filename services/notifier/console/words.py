"""The console's own wording: states, ages, what happened; templates call these."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import quote

import jinja2

from services.notifier.channels import wording
from services.notifier.composing import DeliveryKind
from services.notifier.domain import interventions
from services.notifier.domain.assignment import Because
from services.notifier.domain.attempts import Class
from services.notifier.domain.calendar import zone_of
from services.notifier.domain.feedback import Share
from services.notifier.domain.flags import MEANINGS, STAGES, is_opportunity
from services.notifier.domain.people import Mode, Roster
from services.notifier.domain.policy import SuppressReason
from services.notifier.domain.priority import Factors
from services.notifier.domain.sentiments import Mood
from services.notifier.domain.silences import State
from services.notifier.domain.snoozes import LABELS
from services.notifier.domain.steps import needs_note
from services.notifier.store import Entry
from shared.messages import AccountFields, FlagReason, OutcomeKind, Reason, ValueAtRisk

T = TypeVar("T", bound=StrEnum)

STATES = {
    "pending": "Waiting",
    "sending": "Being sent",
    "sent": "Sent",
    "held": "Held",
    "restored": "Restored from a backup",
    "dead": "Given up",
    "cancelled": "Suppressed",
}
STATE_TAGS = {
    "sent": "good",
    "dead": "bad",
    "held": "bad",
    "pending": "accent",
    "restored": "accent",
    "sending": "accent",
}
KINDS = {
    DeliveryKind.NOTICE: "Notice",
    DeliveryKind.UPDATE: "Update",
    DeliveryKind.STEP: "Escalation",
    DeliveryKind.DIGEST: "Digest",
    DeliveryKind.SUMMARY: "Summary",
    DeliveryKind.OUTAGE: "Outage",
    DeliveryKind.TEST: "Test",
}
SUPPRESSED = {
    SuppressReason.NO_LONGER_WANTED: "The flag was cleared or the intervention closed before it"
    " was sent",
    SuppressReason.DATA_STALE: "A source sends too little: the drop may be ours, not theirs",
    SuppressReason.RESTORED: "The database is a restored one, and nobody has released it yet",
    SuppressReason.MASS_FLAGS: "Far too many flags at once: an admin must release them",
    SuppressReason.INHIBITED: "The account has left",
    SuppressReason.HELD_OUT: "Held out, to measure what telling is good for",
    SuppressReason.SILENCED: "A silence holds for it",
    SuppressReason.SNOOZED: "It is snoozed",
    SuppressReason.PREFERENCE: "They want it in their digest",
    SuppressReason.STORM: "Too many new ones at once: they came as one summary",
    SuppressReason.QUIET_HOURS: "Outside their hours: it comes together with others when they"
    " begin",
    SuppressReason.REASSIGNED: "Somebody else owns it now",
    SuppressReason.ACKNOWLEDGED: "Somebody had acknowledged it already",
    SuppressReason.ALREADY_TOLD: "This destination knows it already",
    SuppressReason.NO_DESTINATION: "There is no way to reach them: neither Slack nor e-mail is set"
    " up",
}
CHANNELS = {
    "slack": "Slack",
    "email": "E-mail",
    "webhook": "Webhook",
    "apprise": "Apprise",
    "none": "Nobody",
}
FAILURES = {
    Class.PAUSE: "asked us to pause",
    Class.TRANSIENT: "failed for the moment",
    Class.BAD_MESSAGE: "refused the message",
    Class.DESTINATION_BROKEN: "refused the destination",
    Class.INTEGRATION_BROKEN: "refused our sign-in",
    Class.AMBIGUOUS: "answer lost",
    Class.THREAD_LOST: "the message to change or answer is gone",
}
MOODS = {Mood.GOOD: "Good", Mood.NEUTRAL: "Neutral", Mood.BAD: "Bad"}
MODES = {
    Mode.REAL_TIME: "At once",
    Mode.DAILY: "Daily digest",
    Mode.WEEKLY: "Weekly digest",
    Mode.NEVER: "Never",
}
BECAUSE = {
    Because.ACCOUNT: "the directory names them",
    Because.RESELLER: "the reseller is theirs",
    Because.RULE: "a rule names them",
    Because.TEAM: "a rule names their team",
    Because.FALLBACK: "it is nobody's",
}
SILENCE_STATES = {State.ACTIVE: "Active", State.PENDING: "To come", State.EXPIRED: "Over"}
ENTRIES = {
    Entry.OPENED: "Intervention opened{for}{playbook}",
    Entry.REOPENED: "Intervention reopened{for}{playbook}",
    Entry.WORSENED: "Got worse: {severity}",
    Entry.RECOVERED: "Flag cleared: the account recovered. Close it if nothing is left to do",
    Entry.ACCOUNT_LOST: "The account has left. Close it as churned if that is how it ended",
    Entry.ACCOUNT_BACK: "The account is back",
    Entry.EXPIRED: "What was said has expired. Close it if nothing is left to do",
    Entry.OWNER_CHANGED: "Owner changed from {from} to {to}",
    Entry.ACKNOWLEDGED: "Acknowledged",
    Entry.UNACKNOWLEDGED: "Nobody did anything for days: open again, as if nobody had it",
    Entry.SNOOZED: "Snoozed until {until}: {reason}",
    Entry.SNOOZE_BROKEN: "Critical while it was snoozed: told all the same",
    Entry.SNOOZE_ENDED: "The snooze has ended",
    Entry.WOKEN: "The snooze was ended by hand",
    Entry.TASK_DONE: "Task done: {task}",
    Entry.TASK_UNDONE: "Task not done after all: {task}",
    Entry.SENTIMENT: "Sentiment: {mood}, until {until}",
    Entry.CLOSED: "Closed: {outcome}",
    Entry.CORRECTED: "Outcome corrected: {outcome}",
    Entry.ERASED: "The account was erased, and with it what was known here",
    Entry.NOTIFIED: "Told by {where}: {why}",
    Entry.SUPPRESSED: "Not told{where}: {because}",
    Entry.NOT_DELIVERED: "Could not be delivered by {where}: {because}",
}
LIFE_STAGES = {
    "trial": "Trial",
    "land": "Land",
    "adopt": "Adopt",
    "expand": "Expand",
    "renew": "Renew",
    "lost": "Lost",
}
"""Where an account stands on its way; `flags.STAGES` are those of a flag."""
GOAL_STATES = {
    "reached": "Reached",
    "on_track": "On track",
    "behind": "Behind",
    "missed": "Missed",
    "no_values": "No values yet",
}
GOAL_TONES = {"reached": "good", "on_track": "good", "behind": "accent", "missed": "bad"}
SCORE_STATES = {
    "too_new": "Too new for a risk: it needs four weeks and three active days",
    "lapsed": "Lapsed: no use for 90 days, so no risk is stated",
}


def account_url(account_id: str) -> str:
    # Browsers resolve "." and ".." in a path even where they are percent-encoded, and the router
    # takes no line feed in one.
    if account_id in (".", "..") or "\n" in account_id:
        return f"/accounts/?id={quote(account_id, safe='')}"
    return f"/accounts/{quote(account_id, safe='')}"


def quoted(text: str) -> str:
    """As a value in the query of an address."""
    return quote(text, safe="")


def age(then: datetime, now: datetime) -> str:
    """How long ago, in the largest whole unit."""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "just now"


def ago(then: datetime, now: datetime) -> str:
    since = age(then, now)
    return since if since == "just now" else f"{since} ago"


def due(then: datetime, zone: str | None) -> str:
    return wording.until(then, zone_of(zone))


def short_owner(owner: str) -> str:
    """The part of an address that tells colleagues apart."""
    return owner.partition("@")[0] or owner


def moment(then: datetime) -> str:
    utc = then.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"


def in_days(day: date | None, today: date) -> str:
    """How far away a renewal is."""
    if day is None:
        return ""
    days = (day - today).days
    if days < 0:
        return f"{-days} d ago"
    return "today" if days == 0 else f"in {days} d"


def change(share: float | None) -> str:
    """As a share, or as a multiple where a share says nothing any more."""
    if share is None:
        return ""
    return f"{share * 100:+,.0f} %" if share < 10 else f"x {share + 1:,.0f}"


def amount(value: ValueAtRisk | None) -> str:
    return "" if value is None else wording.money(value)


def strongest(subject: interventions.Intervention) -> str:
    """The sentence of a line in the list."""
    return wording.what(subject.reason, None, subject.reasons, subject.summary)


def own_baseline(reason: Reason) -> str:
    """The account's own value that it is compared with."""
    return _baseline(reason, "own")


def peer_median(reason: Reason) -> str:
    if reason.peer_median is None:
        return _baseline(reason, "segment")
    return wording.figure(reason.peer_median, reason.unit)


def peers_name(reason: Reason) -> str:
    """Who the others are."""
    if reason.peer_segment is not None:
        return wording.clean(reason.peer_segment)
    return "segment" if reason.peer_median is None else "all accounts"


def evidence_of(subject: interventions.Intervention) -> Sequence[str]:
    """The sentences of a rule's evidence that the summary does not say; a risk has its reasons."""
    if subject.reason is FlagReason.CHURN_RISK:
        return ()
    return [one.text for one in subject.reasons if one.text and one.text not in subject.summary]


def happened(kind: str, detail: dict[str, str]) -> str:
    """One entry of the timeline in words."""
    entry = Entry(kind)
    where = _where(detail)
    if entry is Entry.SUPPRESSED and where:
        where = f" by {where}"
    said = detail | {
        "where": where,
        "because": _because(detail),
        "for": _for(detail),
        "mood": _named(MOODS, detail.get("mood", "")).lower(),
        "outcome": _outcome(detail.get("outcome", "")),
        "playbook": f", playbook {detail['playbook']}" if "playbook" in detail else "",
        "severity": detail.get("severity", "").replace("_", " "),
        "until": _until(detail.get("until")),
        "why": _named(wording.WHY, detail.get("reason", "")).lower(),
    }
    return ENTRIES[entry].format_map(defaultdict(str, said))


def colleagues(roster: Roster) -> Sequence[str]:
    """Whom work can be given to: all whom the team file names."""
    named = [one.address for one in roster.people] + [roster.fallback_owner, roster.fallback_lead]
    named += [one for team in roster.teams for one in (team.lead, *team.members)]
    return sorted({one.lower(): one for one in reversed(named)}.values())


def address(destination: str) -> str:
    """Where a message goes, without the channel."""
    return destination.partition(":")[2] or destination


def span(length: timedelta | None) -> str:
    """A duration in its two largest units."""
    if length is None:
        return ""
    minutes = round(length.total_seconds() / 60)
    days, hours, rest = minutes // 1_440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{rest} min"


def share(one: Share) -> str:
    return "" if one.value is None else wording.percent(one.value)


def points(value: float) -> str:
    """A difference of shares."""
    return f"{value * 100:+.1f}"


def product_of(one: Factors) -> str:
    """A priority as the product it is."""
    value = "1 (value not known)" if one.currency is None else f"{one.value:,.0f} {one.currency}"
    if one.days is None:
        near = "notice and renewal not known"
    else:
        near = f"{one.days} days left" if one.days >= 0 else "past"
    return f"{one.severity:g} (severity) × {value} × {one.nearness:.2f} ({near})"


def plain_number(value: float) -> str:
    """A number of somebody else's, of whatever size: at most four digits that count."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def metric_name(metric: str) -> str:
    """As somebody would write it who is no program."""
    found = wording.clean(metric).replace("_", " ")
    return found[:1].upper() + found[1:]


def field_moment(then: datetime) -> str:
    """As a form's field for a moment takes it."""
    return f"{then.astimezone(UTC):%Y-%m-%dT%H:%M}"


def clock(moment: time | None) -> str:
    return "" if moment is None else f"{moment:%H:%M}"


def facts(fields: AccountFields) -> Sequence[tuple[str, str]]:
    """What the directory knows beside what the head of the page shows, in words."""
    currency = fields.currency or ""

    def price(amount: Decimal | None) -> str:
        return "" if amount is None else f"{currency} {amount:,.2f}".strip()

    def counted(number: int | None, unit: str) -> str:
        return "" if number is None else f"{number:,} {unit}".strip()

    known = (
        ("Status", (fields.status or "").capitalize()),
        ("Churned", wording.day(fields.churned_at) if fields.churned_at else ""),
        ("Plan", fields.plan or ""),
        ("Segment", fields.segment or ""),
        ("Reseller", fields.reseller or ""),
        ("Seats", counted(fields.seats, "")),
        ("Price per month", price(fields.mrr)),
        ("Margin per month", price(fields.margin_per_month)),
        ("Billed by", (fields.billing_period or "").replace("_", " ")),
        ("Contract began", wording.day(fields.contract_start) if fields.contract_start else ""),
        ("Notice", counted(fields.notice_days, "days")),
        ("Region", fields.region or ""),
        ("Time zone", fields.timezone or ""),
    )
    return [(label, value) for label, value in known if value]


def install(templates: jinja2.Environment) -> None:
    """Give the templates their words."""
    names: dict[str, Any] = {
        "account_url": account_url,
        "address": address,
        "clock": clock,
        "age": age,
        "amount": amount,
        "change": change,
        "ago": ago,
        "due": due,
        "evidence_of": evidence_of,
        "field_moment": field_moment,
        "figure": wording.figure,
        "happened": happened,
        "in_days": in_days,
        "day": wording.day,
        "is_opportunity": is_opportunity,
        "meanings": MEANINGS,
        "moment": moment,
        "needs_note": needs_note,
        "own_baseline": own_baseline,
        "peer_median": peer_median,
        "peers_name": peers_name,
        "percent": wording.percent,
        "points": points,
        "product_of": product_of,
        "quoted": quoted,
        "share": share,
        "span": span,
        "reason_name": wording.name_of,
        "strongest": strongest,
        "bands": wording.BAND,
        "band_names": {band.value: name for band, name in wording.BAND.items()},
        "channels": CHANNELS,
        "delivery_kinds": KINDS,
        "failures": FAILURES,
        "goal_states": GOAL_STATES,
        "goal_tones": GOAL_TONES,
        "life_stages": LIFE_STAGES,
        "metric_name": metric_name,
        "plain_number": plain_number,
        "modes": MODES,
        "mood_names": MOODS,
        "outcomes": wording.OUTCOME,
        "score_states": SCORE_STATES,
        "short_owner": short_owner,
        "stages": STAGES,
        "silence_states": SILENCE_STATES,
        "snooze_labels": LABELS,
        "state_tags": STATE_TAGS,
        "states": STATES,
        "suppressed": SUPPRESSED,
        "why": wording.WHY,
    }
    templates.globals.update(names)


def _outcome(value: str) -> str:
    try:
        return wording.OUTCOME[OutcomeKind(value)].lower()
    except ValueError:
        return value


def _until(text: str | None) -> str:
    return moment(datetime.fromisoformat(text)) if text else ""


def _baseline(reason: Reason, of: str) -> str:
    if reason.baseline is None or reason.baseline_of != of:
        return ""
    return wording.figure(reason.baseline, reason.unit)


def _where(detail: dict[str, str]) -> str:
    channel, to = detail.get("channel", ""), detail.get("to", "")
    if channel == "email":
        return f"e-mail to {to or '?'}"
    if channel in ("webhook", "apprise"):
        return f"{channel} {to}"
    return "" if channel == "none" else CHANNELS.get(channel, channel)


def _because(detail: dict[str, str]) -> str:
    """Of a suppression, or of a failure."""
    reason = detail.get("reason", "")
    return _named(FAILURES, _named(SUPPRESSED, reason))


def _for(detail: dict[str, str]) -> str:
    if "owner" not in detail:
        return ""
    because = _named(BECAUSE, detail.get("because", ""))
    return f" for {detail['owner']}{f' ({because})' if because else ''}"


def _named(names: Mapping[T, str], value: str) -> str:
    """The name of that member; of one that is not known, its value."""
    return next((name for one, name in names.items() if one == value), value)
