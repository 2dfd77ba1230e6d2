"""The rules: each flag's condition to raise and to clear, once for a million accounts and for one.

The windows stand in the indicators' names; all other numbers come from the rules file.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from services.scoring.domain.flags import promises
from services.scoring.domain.flags.clauses import Alternative, Clause, Condition, Seen
from services.scoring.domain.flags.states import Why
from services.scoring.domain.risk import severity
from services.scoring.domain.rules import (
    ChampionLostRule,
    ChurnRiskRule,
    ExpansionReadyRule,
    GoalMissedRule,
    GoalReachedRule,
    GoneSilentRule,
    OnboardingStalledRule,
    PaymentFailedRule,
    RenewalDueRule,
    RuleSet,
    SeatsIdleRule,
    SupportStrainRule,
    UnhappyFeedbackRule,
    UsageDropRule,
)
from shared.messages import FlagReason

_DAYS_OF_MEAN: Final = 180


def condition(reason: FlagReason, seen: Seen, numbers: RuleSet) -> Condition:
    """A rule's condition on the accounts seen, whatever their state."""
    return _CONDITIONS[reason](seen, numbers.of(reason))


def _churn_risk(seen: Seen, rule: ChurnRiskRule) -> Condition:
    level = float(severity(rule.band))
    return Condition(
        raises=(
            Alternative(
                Why.ENTERED_BAND,
                (
                    Clause("severity of the band", seen.severity, ">=", level),
                    # Without a risk the band is an old one: it keeps a flag up, but raises none.
                    Clause("risk", seen.facts.risk, "known"),
                ),
            ),
        ),
        ends=(
            Alternative(
                Why.LEFT_BAND, (Clause("severity of the band", seen.severity, "<", level),)
            ),
        ),
    )


def _gone_silent(seen: Seen, rule: GoneSilentRule) -> Condition:
    recency = seen.table.column("recency_days")
    silent, ever = float(rule.silent_days), float(rule.active_days_ever_at_least)
    days = seen.table.column("active_days_ever")
    recent = seen.table.column("active_days_28")
    what = "days since the last active day"
    heard = Clause(what, recency, "<", silent, "days")
    return Condition(
        raises=(
            Alternative(
                Why.SILENT,
                (
                    Clause(what, recency, ">=", silent, "days"),
                    Clause("active days ever", days, ">=", ever, "days"),
                ),
            ),
        ),
        # A shorter recency alone is no visit: days of an outage that is found out later, or a late
        # event, shorten it too.
        ends=(
            Alternative(
                Why.ACTIVE_AGAIN, (heard, Clause("active days of 28", recent, ">", 0, "days"))
            ),
            Alternative(Why.ACTIVE_AGAIN, (Clause(what, recency, "<=", 0, "days"),)),
            Alternative(Why.NO_LONGER_MEASURED, (Clause(what, recency, "unknown"),)),
        ),
    )


def _usage_drop(seen: Seen, rule: UsageDropRule) -> Condition:
    trend, z = seen.table.column("trend"), seen.table.column("trend_z")
    what = "use against the half year before"
    return Condition(
        raises=(
            Alternative(
                Why.USE_FELL,
                (
                    Clause(what, trend, "<=", rule.trend_at_most, "share"),
                    Clause("fall in usual deviations", z, "<=", rule.z_at_most),
                ),
            ),
        ),
        ends=(
            Alternative(
                Why.USE_RECOVERED, (Clause(what, trend, ">=", rule.clear_trend_at_least, "share"),)
            ),
            # The half year before has become so thin that nothing can fall against it.
            Alternative(Why.NO_LONGER_MEASURED, (Clause(what, trend, "unknown"),)),
        ),
    )


def _seats_idle(seen: Seen, rule: SeatsIdleRule) -> Condition:
    share, seats = seen.share_of_seats, seen.facts.seats
    what = "share of seats used in 28 days"
    enough = float(rule.seats_at_least)
    tenure = seen.table.column("tenure_days")
    return Condition(
        raises=(
            Alternative(
                Why.SEATS_UNUSED,
                (
                    Clause("seats", seats, ">=", enough),
                    Clause("tenure", tenure, ">=", float(rule.tenure_days_at_least), "days"),
                    Clause(what, share, "<", rule.share_below, "share"),
                ),
            ),
        ),
        ends=(
            Alternative(
                Why.SEATS_USED, (Clause(what, share, ">=", rule.clear_share_at_least, "share"),)
            ),
            Alternative(Why.FEW_SEATS, (Clause("seats", seats, "<", enough),)),
            Alternative(Why.NO_LONGER_MEASURED, (Clause(what, share, "unknown"),)),
        ),
    )


def _champion_lost(seen: Seen, rule: ChampionLostRule) -> Condition:
    gone = seen.table.column("champion_gone")
    users = seen.table.column("active_users_180")
    most = seen.table.column("most_user_days_28")
    successor = float(rule.successor_days_at_least)
    what = "most active user's days of 28"
    return Condition(
        raises=(
            Alternative(
                Why.CHAMPION_GONE,
                (
                    Clause("main user of days 29-118 away (1: yes)", gone, ">=", 1.0),
                    Clause("users in 180 days", users, ">=", float(rule.users_at_least)),
                    Clause(what, most, "<", successor, "days"),
                ),
            ),
        ),
        ends=(
            Alternative(
                Why.CHAMPION_BACK,
                (Clause("main user of days 29-118 away (1: yes)", gone, "<=", 0.0),),
            ),
            Alternative(Why.SUCCESSOR_FOUND, (Clause(what, most, ">=", successor, "days"),)),
        ),
    )


def _onboarding_stalled(seen: Seen, rule: OnboardingStalledRule) -> Condition:
    tenure = seen.table.column("tenure_days")
    reached = np.nan_to_num(seen.table.column("milestones"))
    by_day = float(rule.milestone_by_day)
    enough = float(rule.active_days_at_least)
    expected = (tenure >= by_day) & seen.facts.milestones_used
    is_new = Clause("tenure", tenure, "<=", float(rule.to_day), "days")
    none_reached = Clause("milestones reached", reached, "<", 1.0)
    first = ("active days of the first 14", seen.table.column("active_days_first_14"))
    recent = ("active days of the last 14", seen.table.column("active_days_14"))
    not_expected = Clause("a milestone is due (1: yes)", expected.astype(np.float64), "<", 1.0)
    return Condition(
        raises=(
            Alternative(
                Why.SLOW_START,
                (
                    Clause("tenure", tenure, ">=", float(rule.from_day), "days"),
                    is_new,
                    Clause(*first, "<", enough, "days"),
                    Clause(*recent, "<", enough, "days"),
                    none_reached,
                ),
            ),
            Alternative(
                Why.NO_MILESTONE,
                (
                    Clause("a milestone is due (1: yes)", not_expected.values, ">=", 1.0),
                    is_new,
                    none_reached,
                ),
            ),
        ),
        ends=(
            Alternative(Why.MILESTONE_REACHED, (Clause("milestones reached", reached, ">=", 1.0),)),
            Alternative(Why.GOT_GOING, (not_expected, Clause(*recent, ">=", enough, "days"))),
            Alternative(Why.GOT_GOING, (not_expected, Clause(*first, ">=", enough, "days"))),
            Alternative(
                Why.NO_LONGER_NEW,
                (Clause("tenure", tenure, ">=", float(rule.ends_on_day), "days"),),
            ),
            Alternative(Why.NO_LONGER_MEASURED, (Clause("tenure", tenure, "unknown"),)),
        ),
    )


def _cancellation_intent(seen: Seen, _: object) -> Condition:
    age = seen.table.column("cancellation_age_days")
    what = "a request to cancel that stands"
    return Condition(
        raises=(Alternative(Why.CANCELLATION_REQUESTED, (Clause(what, age, "known"),)),),
        ends=(Alternative(Why.CANCELLATION_WITHDRAWN, (Clause(what, age, "unknown"),)),),
    )


def _payment_failed(seen: Seen, rule: PaymentFailedRule) -> Condition:
    failures = seen.table.column("payments_failed_14")
    paid = np.nan_to_num(seen.table.column("payment_succeeded_since"))
    age = seen.table.column("payment_failed_age_days")
    enough, over = float(rule.failures_at_least), float(rule.ends_after_days)
    return Condition(
        raises=(
            Alternative(
                Why.PAYMENTS_FAILED,
                (
                    Clause("failed payments in 14 days", failures, ">=", enough),
                    Clause("last failure", age, "<", over, "days"),
                    Clause("paid since (1: yes)", paid, "<", 1.0),
                ),
            ),
        ),
        ends=(
            Alternative(Why.PAYMENT_SUCCEEDED, (Clause("paid since (1: yes)", paid, ">=", 1.0),)),
            Alternative(Why.NO_FURTHER_FAILURE, (Clause("last failure", age, ">=", over, "days"),)),
            Alternative(Why.NO_LONGER_MEASURED, (Clause("last failure", age, "unknown"),)),
        ),
    )


def _support_strain(seen: Seen, rule: SupportStrainRule) -> Condition:
    tickets = np.nan_to_num(seen.table.column("tickets_28"))
    usual = np.nan_to_num(seen.table.column("tickets_180")) * 28 / _DAYS_OF_MEAN
    many = np.maximum(rule.tickets_at_least, rule.times_own_mean * usual)
    severe = np.nan_to_num(seen.table.column("ticket_severe_age_days"))
    too_long = float(rule.severe_open_days_over)
    return Condition(
        raises=(
            Alternative(Why.MANY_TICKETS, (Clause("tickets in 28 days", tickets, ">=", many),)),
            Alternative(
                Why.SEVERE_TICKET_OPEN,
                (Clause("oldest severe ticket open", severe, ">", too_long, "days"),),
            ),
        ),
        ends=(
            Alternative(
                Why.TICKETS_AS_USUAL,
                (
                    Clause("tickets in 28 days", tickets, "<", many),
                    Clause("oldest severe ticket open", severe, "<=", too_long, "days"),
                ),
            ),
        ),
    )


def _unhappy_feedback(seen: Seen, rule: UnhappyFeedbackRule) -> Condition:
    users = np.nan_to_num(seen.table.column("unhappy_users"))
    what, enough = "users whose newest score is low", float(rule.users_at_least)
    return Condition(
        raises=(Alternative(Why.SCORED_LOW, (Clause(what, users, ">=", enough),)),),
        ends=(Alternative(Why.NO_LOW_SCORE, (Clause(what, users, "<", enough),)),),
    )


def _renewal_due(seen: Seen, rule: RenewalDueRule) -> Condition:
    left, length = seen.days_to_end, seen.contract_days
    what, long_enough = "days to the contract's end", float(rule.contract_days_at_least)
    before, lost = float(rule.days_before), -float(rule.lost_after_days)
    return Condition(
        raises=(
            Alternative(
                Why.CONTRACT_ENDS,
                (
                    Clause("length of the contract", length, ">=", long_enough, "days"),
                    Clause(what, left, "<=", before, "days"),
                    Clause(what, left, ">", lost, "days"),
                ),
            ),
        ),
        # Time alone brings the end nearer: if it is further away, it has moved.
        ends=(
            Alternative(Why.NOT_RENEWED, (Clause(what, left, "<=", lost, "days"),)),
            Alternative(Why.CONTRACT_END_MOVED, (Clause(what, left, ">", before, "days"),)),
            Alternative(Why.CONTRACT_END_MOVED, (Clause(what, left, "unknown"),)),
            Alternative(
                Why.CONTRACT_END_MOVED,
                (Clause("length of the contract", length, "<", long_enough, "days"),),
            ),
            Alternative(
                Why.NO_LONGER_MEASURED, (Clause("length of the contract", length, "unknown"),)
            ),
        ),
    )


def _goal_missed(seen: Seen, rule: GoalMissedRule) -> Condition:
    goals = seen.goals
    overdue = goals.count(promises.overdue(goals, rule))
    behind = goals.count(promises.lagging(goals, rule))
    unsettled = goals.count(promises.unsettled(goals, rule))
    what = "goals off their line, or past their day"
    return Condition(
        raises=(
            Alternative(
                Why.GOAL_OVERDUE, (Clause("goals past their day, not reached", overdue, ">=", 1),)
            ),
            Alternative(
                Why.GOAL_BEHIND, (Clause("goals behind their line for weeks", behind, ">=", 1),)
            ),
        ),
        ends=(
            Alternative(Why.GOALS_SETTLED, (Clause(what, unsettled, "<", 1),)),
            Alternative(Why.NO_LONGER_MEASURED, (Clause(what, unsettled, "unknown"),)),
        ),
    )


def _expansion_ready(seen: Seen, rule: ExpansionReadyRule) -> Condition:
    share = seen.share_of_seats
    what = "share of seats used in 28 days"
    return Condition(
        raises=(
            Alternative(
                Why.SEATS_FULL,
                (
                    Clause(what, share, ">=", rule.share_at_least, "share"),
                    Clause("severity of the band", seen.severity, "<=", 0.0),
                    Clause("risk", seen.facts.risk, "known"),
                ),
            ),
        ),
        ends=(
            Alternative(
                Why.SEATS_FREE, (Clause(what, share, "<", rule.clear_share_below, "share"),)
            ),
            Alternative(Why.NO_LONGER_MEASURED, (Clause(what, share, "unknown"),)),
        ),
    )


def _goal_reached(seen: Seen, rule: GoalReachedRule) -> Condition:
    goals = seen.goals
    held = goals.count(promises.held(goals, rule))
    there = goals.count(goals.at_target)
    what = "goals at their target"
    return Condition(
        raises=(
            Alternative(
                Why.GOAL_HELD, (Clause("goals that have held their target", held, ">=", 1),)
            ),
        ),
        ends=(
            Alternative(Why.GOAL_NOT_KEPT, (Clause(what, there, "<", 1),)),
            Alternative(Why.NO_LONGER_MEASURED, (Clause(what, there, "unknown"),)),
        ),
    )


_CONDITIONS: Final[Mapping[FlagReason, Callable[[Seen, Any], Condition]]] = {
    FlagReason.CHURN_RISK: _churn_risk,
    FlagReason.GONE_SILENT: _gone_silent,
    FlagReason.USAGE_DROP: _usage_drop,
    FlagReason.SEATS_IDLE: _seats_idle,
    FlagReason.CHAMPION_LOST: _champion_lost,
    FlagReason.ONBOARDING_STALLED: _onboarding_stalled,
    FlagReason.CANCELLATION_INTENT: _cancellation_intent,
    FlagReason.PAYMENT_FAILED: _payment_failed,
    FlagReason.SUPPORT_STRAIN: _support_strain,
    FlagReason.UNHAPPY_FEEDBACK: _unhappy_feedback,
    FlagReason.RENEWAL_DUE: _renewal_due,
    FlagReason.GOAL_MISSED: _goal_missed,
    FlagReason.EXPANSION_READY: _expansion_ready,
    FlagReason.GOAL_REACHED: _goal_reached,
}
