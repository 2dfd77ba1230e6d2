"""The sentences of a message, the same in every channel, from text that nobody has checked."""

import unicodedata
from collections.abc import Callable, Sequence
from datetime import date, datetime, tzinfo

from services.notifier.channels import Message
from services.notifier.domain.flags import MEANINGS, is_opportunity
from services.notifier.domain.policy import NotifyReason
from shared.messages import Band, FlagReason, OutcomeKind, Reason, ValueAtRisk

BAND = {
    Band.HEALTHY: "Healthy",
    Band.WATCH: "Watch",
    Band.AT_RISK: "At risk",
    Band.CRITICAL: "Critical",
}
OUTCOME = {
    OutcomeKind.SAVED: "Saved",
    OutcomeKind.CHURNED: "Churned",
    OutcomeKind.DOWNSOLD: "Downsold",
    OutcomeKind.EXPANDED: "Expanded",
    OutcomeKind.FALSE_ALARM: "False alarm",
    OutcomeKind.NO_ACTION_NEEDED: "No action needed",
}
WHY = {
    NotifyReason.FIRST: "New intervention",
    NotifyReason.SEVERITY_RAISED: "It got worse",
    NotifyReason.OWNER_CHANGED: "Handed over to a new owner",
    NotifyReason.UNDELIVERED: "Its owner could not be reached",
}

OPPORTUNITY = "Opportunity"
NO_CURRENCY = "XXX"  # ISO 4217's own code for it

# Direction marks and overrides can make a name read backwards, or hide what follows it.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DROPPED = frozenset(("Cc", "Cs", "Co", "Cn"))


def clean(text: str) -> str:
    """One line without control, direction and unassigned characters."""
    spaced = " ".join(text.split())
    kept = (
        char
        for char in spaced
        if char not in _DIRECTION
        and char != "\ufeff"
        and unicodedata.category(char) not in _DROPPED
    )
    return "".join(kept).strip()


def cut(text: str, limit: int, *, escape: Callable[[str], str] = str) -> str:
    """`text` escaped, shortened so that the escaped form has at most `limit` UTF-16 units.

    The raw text is cut, never the escaped one: half an `&amp;` would show as such.
    """
    escaped = [escape(char) for char in text]
    if sum(map(_units, escaped)) <= limit:
        return "".join(escaped)
    room = limit - 1
    kept: list[str] = []
    for char in escaped:
        room -= _units(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def money(value: ValueAtRisk | None) -> str:
    """The amount without cents; where no currency is known, the bare number."""
    if value is None:
        return "value unknown"
    currency = clean(value.currency)[:8]
    amount = f"{value.amount:,.0f}"
    return amount if currency in ("", NO_CURRENCY) else f"{currency} {amount}"


def day(moment: date | None) -> str:
    return "not known" if moment is None else f"{moment.day} {moment:%b %Y}"


def until(due_at: datetime, zone: tzinfo) -> str:
    local = due_at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b}, {local:%H:%M}"


def percent(risk: float | None) -> str:
    return "not known" if risk is None else f"{risk * 100:.0f} %"


def name_of(reason: str) -> str:
    """A flag's reason as people say it; of one that is not known yet, its own name."""
    try:
        return MEANINGS[FlagReason(reason)].title
    except ValueError:
        return clean(reason.replace("_", " ")).capitalize()


def what(reason: FlagReason, risk: float | None, reasons: Sequence[Reason], summary: str) -> str:
    """Why somebody should act: the strongest reason, else the scorer's summary.

    The risk is said of churn risk only: "Seats idle 12 %" would say something else.
    """
    is_estimate = reason is FlagReason.CHURN_RISK and risk is not None
    named = f"{name_of(reason)} {percent(risk)}" if is_estimate else name_of(reason)
    strongest = next((clean(one.text) for one in reasons if one.weight >= 0), "")
    return f"{named}: {strongest or clean(summary)}".rstrip(": ")


def headline(message: Message) -> str:
    """How bad and how much; beside the account's name it begins the first line."""
    if is_opportunity(message.reason):
        return OPPORTUNITY
    band, value = BAND[message.severity], message.value_at_risk
    if value is None:
        return f"{band}, value not known"
    words = "" if message.severity is Band.AT_RISK else " at risk"
    return f"{band}: {money(value)}{words}"


def why(message: Message) -> str:
    return what(message.reason, message.risk, message.reasons, message.summary)


def deadline(message: Message) -> str:
    return f"act by {until(message.due_at, message.zone)}"


def whose(message: Message) -> str:
    """Who acts, and when the contract ends."""
    renewal = f" · renews {day(message.renewal_date)}" if message.renewal_date else ""
    return f"{clean(message.owner)}{renewal}"


def figure(value: float, unit: str) -> str:
    """A figure in its unit, as short as it can be checked."""
    if unit == "share":
        return percent(value)
    shown = f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:,.1f}"
    unit = clean(unit)
    return f"{shown} {unit}" if unit else shown


def _units(text: str) -> int:
    return sum(2 if ord(char) > 0xFFFF else 1 for char in text)
