"""The console's own wording: states, ages, what happened; templates call these."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import jinja2

from services.notifier.channels import wording
from services.notifier.console import plot
from services.notifier.domain import interventions
from services.notifier.domain.calendar import zone_of
from services.notifier.domain.flags import MEANINGS, STAGES, is_opportunity
from services.notifier.store import Entry
from shared.messages import AccountFields, FlagReason, OutcomeKind, Reason, ValueAtRisk

STATES = {
    "pending": "Waiting",
    "sending": "Being sent",
    "sent": "Sent",
    "dead": "Given up",
    "cancelled": "Suppressed",
}
SUPPRESSED = {
    "no_longer_wanted": "The flag was cleared or the intervention closed before it was sent",
    "inhibited": "The account has left",
    "reassigned": "Somebody else owns it now",
    "acknowledged": "Somebody had acknowledged it already",
    "already_told": "This destination knows it already",
    "no_destination": "Neither Slack nor e-mail is set up",
}
CHANNELS = {"slack": "Slack", "email": "E-mail", "none": "Nobody"}
FAILURES = {
    "pause": "asked us to pause",
    "transient": "failed for the moment",
    "bad_message": "refused the message",
    "destination_broken": "refused the destination",
    "integration_broken": "refused our sign-in",
    "ambiguous": "answer lost",
}
ENTRIES = {
    Entry.OPENED: "Intervention opened",
    Entry.REOPENED: "Intervention reopened",
    Entry.WORSENED: "Got worse: {severity}",
    Entry.RECOVERED: "Flag cleared: the account recovered. Close it if nothing is left to do",
    Entry.ACCOUNT_LOST: "The account has left. Close it as churned if that is how it ended",
    Entry.OWNER_CHANGED: "Owner changed from {from} to {to}",
    Entry.ACKNOWLEDGED: "Acknowledged",
    Entry.CLOSED: "Closed: {outcome}",
    Entry.ERASED: "The account was erased, and with it what was known here",
    Entry.NOTIFIED: "Told by {where}",
    Entry.SUPPRESSED: "Not told by {where}: {because}",
    Entry.NOT_DELIVERED: "Could not be delivered by {where}: {because}",
}
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
    said = detail | {"where": _where(detail), "because": _because(detail)}
    said["outcome"] = _outcome(detail.get("outcome", ""))
    said["severity"] = detail.get("severity", "").replace("_", " ")
    return ENTRIES[Entry(kind)].format_map(defaultdict(str, said))


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
        "age": age,
        "amount": amount,
        "change": change,
        "ago": ago,
        "due": due,
        "evidence_of": evidence_of,
        "figure": wording.figure,
        "happened": happened,
        "in_days": in_days,
        "day": wording.day,
        "is_opportunity": is_opportunity,
        "mark_width": plot.MARK_WIDTH,
        "meanings": MEANINGS,
        "moment": moment,
        "needs_note": interventions.needs_note,
        "own_baseline": own_baseline,
        "peer_median": peer_median,
        "peers_name": peers_name,
        "percent": wording.percent,
        "reason_name": wording.name_of,
        "strongest": strongest,
        "bands": wording.BAND,
        "channels": CHANNELS,
        "failures": FAILURES,
        "outcomes": wording.OUTCOME,
        "score_states": SCORE_STATES,
        "short_owner": short_owner,
        "stages": STAGES,
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


def _baseline(reason: Reason, of: str) -> str:
    if reason.baseline is None or reason.baseline_of != of:
        return ""
    return wording.figure(reason.baseline, reason.unit)


def _where(detail: dict[str, str]) -> str:
    if detail.get("channel") == "email":
        return f"e-mail to {detail.get('to', '?')}"
    return CHANNELS.get(detail.get("channel", ""), "")


def _because(detail: dict[str, str]) -> str:
    reason = detail.get("reason", "")
    return SUPPRESSED.get(reason) or FAILURES.get(reason) or reason
