"""What a flag rests on: values and baselines that a CSM can check, and one sentence of them.

`weight` is 0: a rule is no part of the model's log-odds. `churn_risk` has the model's reasons.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Final, Literal

import numpy as np

from services.scoring.domain.flags import promises
from services.scoring.domain.flags.catalogue import condition
from services.scoring.domain.flags.clauses import Seen
from services.scoring.domain.rules import RuleSet
from shared.messages import FlagReason, Reason


def evidence(reason: FlagReason, seen: Seen, index: int, numbers: RuleSet) -> tuple[Reason, ...]:
    """The evidence of a flag, the most telling first; empty for `churn_risk`."""
    one = seen.take(np.array([index]))
    telling = _EVIDENCE.get(reason)
    return () if telling is None else telling(one, numbers)


def days(number: float) -> str:
    """Days in words: "1 day", "2.5 days", "28 days"."""
    rounded = f"{number:.1f}".removesuffix(".0") if number < 10 else str(round(number))
    return f"{rounded} day" if rounded == "1" else f"{rounded} days"


def _reason(
    one: Seen,
    *,
    family: str,
    indicator: str,
    text: str,
    value: float,
    unit: str,
    baseline: float | None = None,
    baseline_of: Literal["own", "segment"] = "own",
    window_days: int | None = None,
) -> Reason:
    known = None if baseline is None or np.isnan(baseline) else float(baseline)
    return Reason(
        family=family,
        indicator=indicator,
        text=text,
        value=float(value),
        unit=unit,
        baseline=known,
        baseline_of=None if known is None else baseline_of,
        change=(value - known) / known if known else None,
        window_days=window_days,
        weight=0.0,
        as_of=one.table.as_of,
    )


def _gone_silent(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    recency, usual = one.number("recency_days", 0), one.number("mean_gap_days", 0)
    rhythm = "" if np.isnan(usual) else f"; usually every {days(usual)}"
    return (
        _reason(
            one,
            family="recency",
            indicator="recency_days",
            text=f"No use for {days(recency)}{rhythm}.",
            value=recency,
            unit="days",
            baseline=usual,
        ),
    )


def _usage_drop(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    weekly, trend = one.number("events_28", 0) / 4, one.number("trend", 0)
    base = one.number("base_events_per_week", 0)
    # The trend is against what was to be expected: the base, less what all accounts share.
    text = (
        f"{_number(weekly)} events a week in the last 4; {_number(base)} in the half year before"
        f" ({trend * 100:.0f} % of what was to be expected)."
    )
    return (
        _reason(
            one,
            family="trend",
            indicator="trend",
            text=text,
            value=weekly,
            unit="events a week",
            baseline=base,
            window_days=28,
        ),
    )


def _seats(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    users, seats = one.number("active_users_28", 0), float(one.facts.seats[0])
    share = float(one.share_of_seats[0])
    return (
        _reason(
            one,
            family="users",
            indicator="share_of_active_users",
            text=f"{users:.0f} of {seats:.0f} seats used in 28 days ({_percent(share)}).",
            value=share,
            unit="share",
            window_days=28,
        ),
    )


def _champion_lost(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    most = one.number("most_user_days_28", 0)
    others = f"; the most active other came on {days(most)}" if most > 0 else ""
    return (
        _reason(
            one,
            family="champion",
            indicator="champion_gone",
            text=f"The user who carried the account has not come for 28 days{others}.",
            value=0.0 if np.isnan(most) else most,
            unit="days",
            window_days=28,
        ),
    )


def _onboarding_stalled(one: Seen, numbers: RuleSet) -> tuple[Reason, ...]:
    tenure = one.number("tenure_days", 0)
    slow, no_milestone = condition(FlagReason.ONBOARDING_STALLED, one, numbers).raises
    found = []
    if slow.met()[0]:
        active = one.number("active_days_first_14", 0)
        found.append(
            _reason(
                one,
                family="regularity",
                indicator="active_days_first_14",
                text=f"Active on {days(active)} of the first 14; here for {days(tenure)}.",
                value=active,
                unit="days",
                window_days=14,
            )
        )
    if no_milestone.met()[0]:
        found.append(
            _reason(
                one,
                family="onboarding",
                indicator="milestones",
                text=f"No milestone reached after {days(tenure)}.",
                value=0.0,
                unit="milestones",
            )
        )
    return tuple(found)


def _cancellation_intent(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    age = one.number("cancellation_age_days", 0)
    effective = one.number("cancellation_effective_days", 0)
    until = ""
    if not np.isnan(effective):
        until = f", effective {(one.table.as_of + timedelta(days=effective)).isoformat()}"
    return (
        _reason(
            one,
            family="contract",
            indicator="cancellation_age_days",
            text=f"Cancellation requested {_ago(age)}{until}.",
            value=age,
            unit="days",
        ),
    )


def _payment_failed(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    failures, age = one.number("payments_failed_14", 0), one.number("payment_failed_age_days", 0)
    return (
        _reason(
            one,
            family="payment",
            indicator="payments_failed_14",
            text=f"{failures:.0f} payments failed in 14 days, the last one {_ago(age)}.",
            value=failures,
            unit="payments",
            window_days=14,
        ),
    )


def _support_strain(one: Seen, numbers: RuleSet) -> tuple[Reason, ...]:
    many, severe = condition(FlagReason.SUPPORT_STRAIN, one, numbers).raises
    found = []
    if many.met()[0]:
        tickets, usual = one.number("tickets_28", 0), one.number("tickets_180", 0) * 28 / 180
        found.append(
            _reason(
                one,
                family="support",
                indicator="tickets_28",
                text=f"{tickets:.0f} tickets in 28 days; usual are {_number(usual)}.",
                value=tickets,
                unit="tickets",
                baseline=usual,
                window_days=28,
            )
        )
    if severe.met()[0]:
        age = one.number("ticket_severe_age_days", 0)
        found.append(
            _reason(
                one,
                family="support",
                indicator="ticket_severe_age_days",
                text=f"A severe ticket has been open for {days(age)}.",
                value=age,
                unit="days",
            )
        )
    return tuple(found)


def _unhappy_feedback(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    users = one.number("unhappy_users", 0)
    who = "The newest score of 1 user is low" if users == 1 else ""
    return (
        _reason(
            one,
            family="satisfaction",
            indicator="unhappy_users",
            text=f"{who or f'The newest scores of {users:.0f} users are low'}{_scores(one)}.",
            value=users,
            unit="users",
            window_days=90,
        ),
    )


def _scores(one: Seen) -> str:
    means = []
    for scale in ("nps", "csat", "ces"):
        mean, answers = one.number(f"{scale}_mean", 0), one.number(f"{scale}_answers", 0)
        if answers > 0 and not np.isnan(mean):
            means.append(f"{scale.upper()} {_number(mean)} of {answers:.0f} answers")
    return f" (mean {', '.join(means)})" if means else ""


def _renewal_due(one: Seen, _: RuleSet) -> tuple[Reason, ...]:
    left = float(one.days_to_end[0])
    end = date.fromordinal(int(one.facts.contract_end[0])).isoformat()
    text = f"The contract ends in {days(left)} ({end})."
    if left < 0:
        text = f"The contract ended {days(-left)} ago ({end}) and is not renewed."
    return (
        _reason(
            one,
            family="contract",
            indicator="days_to_renewal",
            text=text,
            value=left,
            unit="days",
        ),
    )


def _goal_missed(one: Seen, numbers: RuleSet) -> tuple[Reason, ...]:
    rule = numbers.goal_missed
    chosen = promises.overdue(one.goals, rule) | promises.lagging(one.goals, rule)
    # The one that is furthest from its target first, and what is past its day before all others.
    order = np.lexsort((one.goals.attained, ~one.goals.is_due))
    return tuple(_goal(one, index) for index in order.tolist() if chosen[index])


def _goal_reached(one: Seen, numbers: RuleSet) -> tuple[Reason, ...]:
    chosen = promises.held(one.goals, numbers.goal_reached)
    return tuple(_goal(one, index) for index in np.flatnonzero(chosen).tolist())


def _goal(one: Seen, index: int) -> Reason:
    return _reason(
        one,
        family="goals",
        indicator=one.goals.goals.metric[index],
        text=promises.sentence(one.goals, index),
        value=float(one.goals.value[index]),
        unit="",
        baseline=float(one.goals.goals.baseline[index]),
    )


_EVIDENCE: Final[Mapping[FlagReason, Callable[[Seen, RuleSet], tuple[Reason, ...]]]] = {
    FlagReason.GONE_SILENT: _gone_silent,
    FlagReason.USAGE_DROP: _usage_drop,
    FlagReason.SEATS_IDLE: _seats,
    FlagReason.CHAMPION_LOST: _champion_lost,
    FlagReason.ONBOARDING_STALLED: _onboarding_stalled,
    FlagReason.CANCELLATION_INTENT: _cancellation_intent,
    FlagReason.PAYMENT_FAILED: _payment_failed,
    FlagReason.SUPPORT_STRAIN: _support_strain,
    FlagReason.UNHAPPY_FEEDBACK: _unhappy_feedback,
    FlagReason.RENEWAL_DUE: _renewal_due,
    FlagReason.GOAL_MISSED: _goal_missed,
    FlagReason.EXPANSION_READY: _seats,
    FlagReason.GOAL_REACHED: _goal_reached,
}


def _ago(age: float) -> str:
    """Ages are in whole days of 24 hours."""
    return f"{days(age)} ago" if age >= 1 else "less than a day ago"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:,.0f}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
