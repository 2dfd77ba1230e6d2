"""The sentences of a message, the same in every channel, from text that nobody has checked."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal

from services.notifier.channels import Item, Message
from services.notifier.domain.flags import MEANINGS, WorkReason, is_opportunity, reason_of
from services.notifier.domain.interventions import Status
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
    NotifyReason.UNMUTED: "No longer silenced",
    NotifyReason.NEW_REASON: "Another reason has come",
    NotifyReason.SEVERITY_RAISED: "It got worse",
    NotifyReason.THRESHOLD_CROSSED: "More value is at risk, or little time is left",
    NotifyReason.OWNER_CHANGED: "Handed over to a new owner",
    NotifyReason.DUE_SOON: "Due soon",
    NotifyReason.OVERDUE: "Overdue",
    NotifyReason.ACK_REMINDER: "Acknowledged, and nothing has happened since",
    NotifyReason.SNOOZE_ENDED: "The snooze has ended",
    NotifyReason.RECOVERED: "The account has recovered",
    NotifyReason.REPEAT: "Still open",
    NotifyReason.UPDATED: "Updated",
    NotifyReason.ESCALATED: "Escalated: nobody has acknowledged it",
    NotifyReason.DIGEST: "Digest",
    NotifyReason.SUMMARY: "Several interventions at once",
    NotifyReason.UNDELIVERED: "Its owner could not be reached",
    NotifyReason.TEST: "Test",
}
"""The line that says why a message came."""
TEST = "This is a test: whoever reads it is reached. There is nothing to do."

OPPORTUNITY = "Opportunity"
NO_CURRENCY = "XXX"  # ISO 4217's own code for it

_JOINER = "\u2060"  # WORD JOINER: without width, and no part of an address
# What programs make links and mentions of by themselves: <, @, a scheme, a dot between letters.
_LINK_LIKE = re.compile(r"[<@](?=\S)|(?<=\w)(?::(?=/|[^\W\d])|\.(?=[^\W\d]))")

# Invisible marks make a name read backwards, look like another one, or hide what follows it; those
# that join letters and emoji are needed.
_JOINING = "\u200c\u200d"
_DROPPED = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))


def clean(text: str) -> str:
    """One line of what can be seen: without control, direction and unassigned characters."""
    spaced = " ".join(text.split())
    if spaced.isascii() and spaced.isprintable():
        return spaced  # As nearly all is: nothing to look up letter by letter.
    kept = (
        char for char in spaced if char in _JOINING or unicodedata.category(char) not in _DROPPED
    )
    return " ".join("".join(kept).split()).strip(f" {_JOINING}")


def cut(text: str, limit: int, *, escape: Callable[[str], str] = str) -> str:
    """`text` escaped, shortened so that the escaped form has at most `limit` UTF-16 units.

    The raw text is cut, never the escaped one: half an `&amp;` would show as such.
    """
    escaped = [escape(char) for char in text]
    whole = "".join(escaped)
    if _units(whole) <= limit:
        return whole
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
        return MEANINGS[reason_of(reason)].title
    except ValueError:
        return clean(reason.replace("_", " ")).capitalize()


def what(reason: WorkReason, risk: float | None, reasons: Sequence[Reason], summary: str) -> str:
    """Why somebody should act: the strongest reason, else the scorer's summary."""
    said = _strongest(reasons) or clean(summary)
    return f"{_named(reason, risk)}: {said}".rstrip(": ")


def name(item: Item) -> str:
    """The account as people call it; one without a name is called by its id."""
    return clean(item.account_name) or clean(item.account_id) or "(no name)"


def headline(item: Item) -> str:
    """How bad and how much; beside the account's name it begins the first line."""
    value = item.value_at_risk
    if item.outcome is not None:
        return f"Closed: {OUTCOME[item.outcome]}"
    if is_opportunity(item.reason):
        return OPPORTUNITY
    if item.recovered:
        return "Recovered" if value is None else f"Recovered: {money(value)} was at risk"
    band = BAND[item.severity]
    if value is None:
        return f"{band}, value not known"
    words = "" if item.severity is Band.AT_RISK else " at risk"
    return f"{band}: {money(value)}{words}"


def cause(item: Item) -> str:
    """Why, in two or three words."""
    if item.recovered and item.outcome is None:
        return f"{name_of(item.reason)} has cleared"
    return _named(item.reason, item.risk)


def why(item: Item) -> str:
    """Why, with the strongest evidence while it stands."""
    if item.recovered and item.outcome is None:
        return cause(item)
    return what(item.reason, item.risk, item.reasons, item.summary)


def evidence(item: Item) -> list[str]:
    """The sentences behind `cause`, that of `why` first; none once it is over."""
    if item.recovered or item.outcome is not None:
        return []
    first = _strongest(item.reasons) or clean(item.summary)
    others = (clean(one.text) for one in item.reasons)
    return [text for text in (first, *(one for one in others if one not in first)) if text]


def deadline(item: Item) -> str:
    """Until when; empty where nothing is left to do."""
    if item.outcome is not None:
        return ""
    if item.snoozed_until is not None:
        return f"snoozed until {until(item.snoozed_until, item.zone)}"
    return f"act by {until(item.due_at, item.zone)}"


def todo(item: Item) -> str:
    """The next thing to do; empty where there is nothing, or not yet."""
    if item.outcome is not None or item.snoozed_until is not None:
        return ""
    if item.recovered:
        return "Close it with how it ended"
    if task := clean(item.next_task or ""):
        return task
    if item.status is Status.ACKNOWLEDGED:
        return "Act, then close it with how it ended"
    return "Acknowledge it, then act"


def state(item: Item) -> str:
    """Who has taken it on; empty where nobody has, or nothing is left to do."""
    if item.outcome is not None or item.status is not Status.ACKNOWLEDGED:
        return ""
    by = clean(item.acknowledged_by or "")
    return f"acknowledged by {by}" if by else "acknowledged"


def whose(item: Item) -> str:
    """Who acts, and when the contract ends."""
    renewal = f" · renews {day(item.renewal_date)}" if item.renewal_date else ""
    return f"{clean(item.owner)}{renewal}"


def news(message: Message) -> tuple[Item, ...]:
    """What the message is about; all of it where nothing is new, as in a digest."""
    return tuple(one for one in message.items if one.is_news) or message.items


def beside(message: Message) -> tuple[Item, ...]:
    """What stands beside the news."""
    others = tuple(one for one in message.items if not one.is_news)
    return others if len(others) < len(message.items) else ()


def by_account(items: Iterable[Item]) -> list[tuple[Item, ...]]:
    """The items of each account together, in the order in which the accounts come."""
    found: dict[str, list[Item]] = {}
    for one in items:
        found.setdefault(one.account_id, []).append(one)
    return [tuple(group) for group in found.values()]


def is_overview(message: Message) -> bool:
    """Whether it is about several accounts, as digests and summaries are."""
    kinds = (NotifyReason.DIGEST, NotifyReason.SUMMARY)
    return message.why in kinds or len(by_account(message.items)) > 1


def at_risk(items: Iterable[Item]) -> str:
    """What is at risk in all; empty where nothing is.

    Each account counts once, with its highest value: two interventions state the same money twice.
    """
    highest: dict[tuple[str, str], Decimal] = {}
    for one in items:
        value = one.value_at_risk
        if value is None or one.recovered or one.outcome is not None or is_opportunity(one.reason):
            continue
        key = (one.account_id, value.currency)
        highest[key] = max(value.amount, highest.get(key, Decimal(0)))
    sums: dict[str, Decimal] = {}
    for (_, currency), amount in highest.items():
        sums[currency] = sums.get(currency, Decimal(0)) + amount
    shown = (ValueAtRisk(amount=sums[one], currency=one, basis="margin") for one in sums)
    return " + ".join(money(value) for value in shown)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def overview(message: Message) -> str:
    """The first line of a message about several accounts: how many, and how much of it is shown.

    Only what is shown can be added up; what was left out is said to be more.
    """
    total, accounts = len(message.items) + message.more, len(by_account(message.items))
    where = "" if message.more else f" on {counted(accounts, 'account')}"
    value = at_risk(message.items)
    sum_of = f": {'more than ' if message.more else ''}{value} at risk" if value else ""
    return f"{counted(total, 'intervention')}{where}{sum_of}"


def title(message: Message, *, name_limit: int = 80) -> str:
    """One line for a subject or a push: who and how much, and why it came unless it is new."""
    label = WHY[message.why]
    if not message.items:
        return f"Perennial: {label.lower()}"
    if is_overview(message):
        return f"{label}: {overview(message)}"
    first = news(message)[0]
    line = f"{cut(name(first), name_limit)}: {headline(first)}"
    rest = len(message.items) + message.more - 1
    if rest:
        line = f"{line}, {counted(rest, 'other')}"
    if message.why in (NotifyReason.FIRST, NotifyReason.RECOVERED, NotifyReason.UPDATED):
        return line
    return f"{line} ({label[0].lower()}{label[1:]})"


def unlinked(text: str) -> str:
    """Text in which no program finds an address to link, or a name to call; it looks the same."""
    return _LINK_LIKE.sub(lambda found: found[0] + _JOINER, text)


def figure(value: float, unit: str) -> str:
    """A figure in its unit, as short as it can be checked."""
    if unit == "share":
        return percent(value)
    shown = f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:,.1f}"
    unit = clean(unit)
    return f"{shown} {unit}" if unit else shown


def _strongest(reasons: Sequence[Reason]) -> str:
    """Scoring puts the strongest first; what speaks for the account is no reason to act."""
    return next((clean(one.text) for one in reasons if one.weight >= 0), "")


def _named(reason: WorkReason, risk: float | None) -> str:
    """With the risk for churn risk only: "Seats idle 12 %" would say something else."""
    is_estimate = reason is FlagReason.CHURN_RISK and risk is not None
    return f"{name_of(reason)} {percent(risk)}" if is_estimate else name_of(reason)


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
