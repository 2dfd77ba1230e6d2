"""Which success goals a flag is about, and what is said of each."""

from collections.abc import Mapping
from datetime import date
from typing import Final

import numpy as np

from services.scoring.domain.flags.facts import Bools
from services.scoring.domain.goals import ROUNDING, Standing
from services.scoring.domain.rules import GoalMissedRule, GoalReachedRule, RuleSet
from shared.messages import FlagReason

_BEHIND: Final = 1.0
_OVERDUE: Final = 2.0


def overdue(goals: Standing, rule: GoalMissedRule) -> Bools:
    """Past their day for long enough, not reached, and no old story."""
    days = goals.as_of - goals.goals.due
    told = (days >= rule.days_past_due_at_least) & (days < rule.ends_after_days)
    return told & ~goals.reached & goals.has_values


def lagging(goals: Standing, rule: GoalMissedRule) -> Bools:
    """Behind their line, by all their values of so many days."""
    long = goals.days_behind(rule.behind_over) >= rule.behind_days_at_least
    return long & ~goals.is_due & ~goals.reached


def unsettled(goals: Standing, rule: GoalMissedRule) -> Bools:
    """What keeps a flag up that is raised: off the line by however little, or past their day."""
    is_recent = goals.as_of - goals.goals.due < rule.ends_after_days
    off = goals.behind > max(rule.clear_behind_at_most, ROUNDING)
    return np.where(goals.is_due, is_recent, off) & ~goals.reached & goals.has_values


def held(goals: Standing, rule: GoalReachedRule) -> Bools:
    """At their target for long enough."""
    lasting: Bools = goals.days_at_target >= rule.held_days_at_least
    return lasting


def now(reason: FlagReason, goals: Standing, numbers: RuleSet) -> dict[str, float]:
    """The goals that the flag is about, by key; a higher number is worse news of the same goal."""
    if reason is FlagReason.GOAL_REACHED:
        found = held(goals, numbers.goal_reached) * 1.0
    else:
        rule = numbers.goal_missed
        found = np.where(overdue(goals, rule), _OVERDUE, lagging(goals, rule) * _BEHIND)
    return {key: rank for key, rank in zip(goals.goals.key, found.tolist(), strict=True) if rank}


def known(told: Mapping[str, float], goals: Standing) -> dict[str, float]:
    """What was told of goals that are still promised."""
    return {key: told[key] for key in goals.goals.key if key in told}


def has_news(found: Mapping[str, float], told: Mapping[str, float]) -> bool:
    """Whether there is another goal than those told of, or worse news of one of them."""
    return any(rank > told.get(key, 0.0) for key, rank in found.items())


def sentence(goals: Standing, index: int) -> str:
    """How one goal stands: "Time to invoice is down 12 % of the 15 % promised; due 1 March 2027."""
    due, expected = float(goals.goals.due[index]), float(goals.expected_now[index])
    if goals.reached[index]:
        return f"{_come(goals, index)}: the goal is reached."
    day = "" if np.isnan(due) else f"; due {_day(due)}"
    if not np.isnan(expected) and not goals.is_due[index]:
        day += f", {_share(goals, index, expected)} were to be expected by now"
    elif goals.is_due[index]:
        day = f"; it was due {_day(due)}"
    return f"{_come(goals, index)}{day}."


def _come(goals: Standing, index: int) -> str:
    metric = goals.goals.metric[index].replace("_", " ").strip()
    name = metric[:1].upper() + metric[1:]
    come, promised = float(goals.improvement[index]), float(goals.promised[index])
    if np.isnan(come) or np.isnan(promised):
        # Of a baseline of 0 nothing is a share.
        value, target = float(goals.value[index]), float(goals.goals.target[index])
        return f"{name} is at {_number(value)} of the {_number(target)} promised"
    forward, back = ("up", "down") if goals.goals.sign[index] > 0 else ("down", "up")
    if round(come * 100) == 0:
        return f"{name} is where it began, not {forward} the {_percent(promised)} promised"
    if come < 0:
        return (
            f"{name} is {back} {_percent(-come)}, not {forward} the {_percent(promised)} promised"
        )
    return f"{name} is {forward} {_percent(come)} of the {_percent(promised)} promised"


def _share(goals: Standing, index: int, of_way: float) -> str:
    promised = float(goals.promised[index])
    if np.isnan(promised):
        baseline, target = float(goals.goals.baseline[index]), float(goals.goals.target[index])
        return _number(baseline + of_way * (target - baseline))
    return _percent(of_way * promised)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if abs(share) >= 0.095 else f"{share * 100:.1f} %"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if abs(value) < 10 else f"{value:,.0f}"


def _day(ordinal: float) -> str:
    day = date.fromordinal(int(ordinal))
    return f"{day.day} {day:%B} {day.year}"
