"""The flags of goals, where an account has several, and over time."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.scoring.domain.flags.states import FlagState, Why
from services.scoring.domain.flags.summary import summary
from shared.messages import AccountFields, FlagReason, Goal
from tests.unit.scoring.domain.flags.factories import Account, of_seats
from tests.unit.scoring.domain.test_goals import reported
from tests.unit.scoring.factories import AS_OF, NOW, days_later

MISSED, REACHED = FlagReason.GOAL_MISSED, FlagReason.GOAL_REACHED


def goal(metric: str, *, due: int) -> Goal:
    """Up from 100 to 110, due so many days after A."""
    return Goal(metric=metric, baseline=100, target=110, due=AS_OF + timedelta(days=due))


def of(goals: Sequence[Goal], **values: float) -> Account:
    """An account whose metrics have had these values for fifty days."""
    return Account(
        fields=AccountFields(goals=tuple(goals)),
        goal_values=tuple(
            reported(AS_OF - timedelta(days=50), value, metric) for metric, value in values.items()
        ),
    )


def look(states: dict[FlagReason, FlagState], one: Account, day: int) -> list[tuple[str, Why]]:
    """What is told on that day, and why; `states` are what they are after it."""
    decisions = one.but(now=days_later(day)).decide(states)
    states.update({decision.reason: decision.state for decision in decisions})
    return [
        (f"{decision.reason.value} {decision.change}", decision.why)
        for decision in decisions
        if decision.change
    ]


def lines(states: dict[FlagReason, FlagState], one: Account) -> list[str]:
    return [summary(decision, one.sight) for decision in one.decide(states) if decision.change]


FIRST, SECOND = goal("first", due=-10), goal("second", due=-7)


def test_a_second_goal_that_is_missed_is_told_while_the_flag_is_up() -> None:
    states: dict[FlagReason, FlagState] = {}
    one = of([FIRST], first=105)
    assert look(states, one, 0) == [("goal_missed raised", Why.GOAL_OVERDUE)]
    both = of([FIRST, SECOND], first=105, second=101)
    assert lines(states, both) == [
        # The one that is further from its target comes first.
        (
            "Second is up 1.0 % of the 10 % promised; it was due 21 February 2026."
            " First is up 5.0 % of the 10 % promised; it was due 18 February 2026."
        )
    ]
    assert look(states, both, 1) == [("goal_missed updated", Why.ANOTHER_GOAL)]
    assert look(states, both, 2) == []
    # One of the two is not enough to end it.
    one_left = of([FIRST, SECOND], first=110, second=101)
    assert ("goal_missed cleared", Why.GOALS_SETTLED) not in look(states, one_left, 3)
    none_left = of([FIRST, SECOND], first=110, second=112)
    assert ("goal_missed cleared", Why.GOALS_SETTLED) in look(states, none_left, 4)


def test_a_goal_that_was_behind_and_is_then_missed_is_told_again() -> None:
    states: dict[FlagReason, FlagState] = {}
    begun = reported(AS_OF - timedelta(days=150), 100, "a")
    values = (begun, reported(AS_OF - timedelta(days=50), 103, "a"))
    behind = of([goal("a", due=20)]).but(goal_values=values)
    assert look(states, behind, 0) == [("goal_missed raised", Why.GOAL_BEHIND)]
    # The same promise, 27 days later.
    later = behind.but(as_of=AS_OF + timedelta(days=27))
    assert look(states, later, 27) == [("goal_missed updated", Why.ANOTHER_GOAL)]
    assert look(states, later, 28) == []


def test_a_missed_goal_ends_when_it_is_dropped_or_three_months_have_gone() -> None:
    up = {MISSED: FlagState(episode=1, raised_at=NOW)}
    (dropped,) = Account(fields=AccountFields(goals=())).decide(up)
    assert (dropped.change, dropped.why) == ("cleared", Why.NO_LONGER_MEASURED)
    (another,) = of([goal("other", due=90)], other=100).decide(up)
    assert (another.change, another.why) == ("cleared", Why.GOALS_SETTLED)
    assert [one.change for one in of([goal("a", due=-89)], a=100).decide(up)] == ["updated"]
    (old,) = of([goal("a", due=-90)], a=100).decide(up)
    assert (old.change, old.why) == ("cleared", Why.GOALS_SETTLED)


def test_a_reached_goal_is_told_once_for_thirty_days() -> None:
    states: dict[FlagReason, FlagState] = {}
    there = of([goal("a", due=90)], a=110)
    assert look(states, there, 0) == [("goal_reached raised", Why.GOAL_HELD)]
    assert look(states, there, 29) == []
    assert look(states, there, 30) == [("goal_reached cleared", Why.TIME_OVER)]
    assert look(states, there, 31) == []
    # It leaves its target and comes back: no news.
    assert look(states, of([goal("a", due=90)], a=109), 60) == []
    assert look(states, there, 120) == []


def test_only_the_new_one_of_two_reached_goals_is_told() -> None:
    states: dict[FlagReason, FlagState] = {}
    first, second = goal("first", due=90), goal("second", due=90)
    look(states, of([first], first=110), 0)
    look(states, of([first], first=110), 30)
    both = of([first, second], first=110, second=111)
    assert lines(states, both) == ["Second is up 11 % of the 10 % promised: the goal is reached."]
    assert look(states, both, 40) == [("goal_reached raised", Why.GOAL_HELD)]
    assert states[REACHED].episode == 2
    # What is no longer promised is forgotten.
    look(states, of([], first=110), 41)
    assert states[REACHED].anchor != {}
    look(states, of([], first=110), 42)
    assert states[REACHED].is_idle


def test_a_missed_goal_is_in_the_way_of_an_offer_to_expand() -> None:
    full = Account(columns=of_seats(9, 10), fields=AccountFields(seats=10))
    wanted = {FlagReason.EXPANSION_READY: FlagState(wanted_since=NOW - timedelta(days=30))}
    assert full.changes(wanted) == [("expansion_ready", "raised")]
    owed = AccountFields(seats=10, goals=(FIRST,))
    missed = full.but(fields=owed, goal_values=of([FIRST], first=105).goal_values)
    assert missed.changes(wanted) == [("goal_missed", "raised")]


@pytest.mark.parametrize("noise", [-0.02, 0.02])
def test_noise_at_the_threshold_does_not_make_a_second_flag(noise: float) -> None:
    # A fifth of the way behind, now a bit more and now a bit less: the flag stays up.
    states: dict[FlagReason, FlagState] = {}
    begun = reported(AS_OF - timedelta(days=100), 100, "a")
    told = []
    for day in range(60):
        at = AS_OF - timedelta(days=50)
        shaken = 100 + 10 * (50 / 200 - 0.2 - 0.001 + (noise if day % 2 else 0.0) * 0.04)
        one = of([goal("a", due=100)]).but(goal_values=(begun, reported(at, shaken, "a")))
        told += look(states, one, day)
    assert told == [("goal_missed raised", Why.GOAL_BEHIND)]
