"""The one line that a CSM reads first."""

from collections.abc import Mapping
from datetime import UTC, date
from typing import Final

from services.scoring.domain.flags.evidence import days
from services.scoring.domain.flags.machine import Sight
from services.scoring.domain.flags.money import UNKNOWN_CURRENCY
from services.scoring.domain.flags.states import Decision, Why
from shared.messages import FlagReason, ValueAtRisk

NAMES: Final[Mapping[FlagReason, str]] = {
    FlagReason.CHURN_RISK: "Churn risk",
    FlagReason.GONE_SILENT: "Silence",
    FlagReason.USAGE_DROP: "Drop in use",
    FlagReason.SEATS_IDLE: "Idle seats",
    FlagReason.CHAMPION_LOST: "Champion lost",
    FlagReason.ONBOARDING_STALLED: "Onboarding stalled",
    FlagReason.CANCELLATION_INTENT: "Cancellation",
    FlagReason.PAYMENT_FAILED: "Payment failed",
    FlagReason.SUPPORT_STRAIN: "Support strain",
    FlagReason.UNHAPPY_FEEDBACK: "Unhappy feedback",
    FlagReason.RENEWAL_DUE: "Renewal due",
    FlagReason.GOAL_MISSED: "Goal off track",
    FlagReason.EXPANSION_READY: "Ready to expand",
    FlagReason.GOAL_REACHED: "Goal reached",
}

_ENDS: Final[Mapping[Why, str]] = {
    Why.CHURNED: "the account has churned.",
    Why.RULE_DISABLED: "its rule is switched off.",
    Why.REPLACED_BY_SILENCE: "nobody comes any more, which has a flag of its own.",
    Why.TIME_OVER: "it was told long enough ago.",
    Why.NO_LONGER_MEASURED: "what it rested on is no longer known.",
    Why.USE_RECOVERED: "use has recovered.",
    Why.SEATS_USED: "enough seats are used again.",
    Why.FEW_SEATS: "the account has few seats now.",
    Why.CHAMPION_BACK: "its main user comes again.",
    Why.SUCCESSOR_FOUND: "another user has taken over.",
    Why.MILESTONE_REACHED: "a milestone is reached.",
    Why.GOT_GOING: "the account has got going.",
    Why.NO_LONGER_NEW: "the account is no longer new.",
    Why.CANCELLATION_WITHDRAWN: "the request is withdrawn.",
    Why.CONTRACT_END_MOVED: "the contract's end has moved.",
    Why.PAYMENT_SUCCEEDED: "a payment has succeeded.",
    Why.NO_FURTHER_FAILURE: "no payment has failed since.",
    Why.TICKETS_AS_USUAL: "tickets are as usual.",
    Why.NO_LOW_SCORE: "no user's newest score is low.",
    Why.NOT_RENEWED: "the contract has ended and was not renewed.",
    Why.GOALS_SETTLED: "no goal is behind or overdue any more.",
    Why.GOAL_NOT_KEPT: "its values have left the target again.",
    Why.SEATS_FREE: "seats are free again.",
    Why.SEATS_ADDED: "seats were added.",
    Why.RISK_FLAG_RAISED: "a flag of risk is up.",
}


def summary(
    decision: Decision,
    sight: Sight,
    *,
    value: ValueAtRisk | None = None,
    renewal: date | None = None,
) -> str:
    """The line of a change; `value` and `renewal` are told where they are given."""
    parts = [_headline(decision, sight)]
    if decision.change != "cleared":
        parts += [reason.text for reason in decision.evidence if reason.weight > 0][:1]
        if value is not None:
            parts.append(f"{_money(value)} at risk.")
    # What its own headline says already.
    if renewal is not None and decision.reason is not FlagReason.RENEWAL_DUE:
        parts.append(_renewal(renewal, sight.now.astimezone(UTC).date()))
    return " ".join(parts)


def _headline(decision: Decision, sight: Sight) -> str:
    risk = "" if sight.risk is None else f" {_percent(sight.risk)}"
    state = f"{risk} ({sight.band.replace('_', ' ')})."
    match decision.reason, decision.change, decision.why:
        case FlagReason.CHURN_RISK, "cleared", Why.LEFT_BAND:
            return f"Churn risk is over:{state}"
        case FlagReason.GONE_SILENT, "cleared", Why.ACTIVE_AGAIN:
            return "Active again."
        case FlagReason.CHURN_RISK | FlagReason.GONE_SILENT, "cleared", why:
            return f"{NAMES[decision.reason]} ends: {_ends(why)}"
        case _, "cleared", why:
            return f"{NAMES[decision.reason]}: over, as {_ends(why)}"
        case FlagReason.CHURN_RISK, _, _:
            return f"Churn risk{state}"
        case _:
            return " ".join(reason.text for reason in decision.evidence)


def _ends(why: Why) -> str:
    return _ENDS.get(why, why.replace("_", " ") + ".")


def _percent(risk: float) -> str:
    return f"{risk * 100:.0f} %" if risk >= 0.1 else f"{risk * 100:.1f} %"


def _money(value: ValueAtRisk) -> str:
    currency = "" if value.currency == UNKNOWN_CURRENCY else f"{value.currency} "
    return f"{currency}{value.amount:,.0f}"


def _renewal(renewal: date, today: date) -> str:
    left = (renewal - today).days
    if left < 0:
        return f"Renewal overdue since {renewal.isoformat()}."
    return f"Renews in {days(left)} ({renewal.isoformat()})."
