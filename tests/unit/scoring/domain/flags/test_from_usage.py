"""Flags as they come from what is stored of an account: measured and judged day by day."""

from datetime import timedelta

import numpy as np

from services.scoring.domain.flags.conditions import conditions
from services.scoring.domain.flags.facts import facts_of
from services.scoring.domain.flags.machine import decide, sight_of
from services.scoring.domain.flags.states import FlagState
from services.scoring.domain.indicators import measure
from services.scoring.domain.rules import read_default
from services.scoring.domain.usage import History, directory_of, usage_of
from shared.messages import AccountFields, FlagReason
from tests.unit.scoring.factories import AS_OF, NOW, history

ALONE, OTHERS = (1,), (2, 3)


def told_of(one: History, days: int, fields: AccountFields) -> dict[int, list[tuple[str, str]]]:
    """What looks on so many days from `NOW` on tell, by day."""
    states: dict[FlagReason, FlagState] = {}
    told: dict[int, list[tuple[str, str]]] = {}
    usage, directory = usage_of([one]), directory_of([fields])
    for day in range(days):
        now = NOW + timedelta(days=day)
        table = measure(usage, directory, now)
        facts = facts_of(
            [fields], table.as_of, severity=np.zeros(1, np.int64), risk=np.array([0.02])
        )
        found = conditions(table, facts, read_default())
        sight = sight_of(found, 0, fields, now)
        for decision in decide(states, found, 0, sight, read_default()):
            states[decision.reason] = decision.state
            if decision.change:
                told.setdefault(day, []).append((decision.reason.value, decision.change))
    return told


def test_a_champion_who_left_is_not_said_to_be_back_when_his_days_grow_old() -> None:
    # He came on 40 days until the 29th day before A; two others come every fifth day.
    visits: dict[int, tuple[int, ...]] = dict.fromkeys(range(-200, 300, 5), OTHERS)
    for age in range(28, 108, 2):
        visits[age] = (*visits.get(age, ()), *ALONE)
    ages = sorted(visits, reverse=True)
    left = history(ages, users=[visits[age] for age in ages])
    told = told_of(left, 130, AccountFields())
    champion = {day: changes for day, changes in told.items() if "champion_lost" in str(changes)}
    assert champion == {0: [("champion_lost", "raised")], 90: [("champion_lost", "cleared")]}


def test_a_customer_who_never_came_stalls_on_day_fourteen() -> None:
    fields = AccountFields(contract_start=AS_OF)
    assert told_of(History(), 100, fields) == {
        14: [("onboarding_stalled", "raised")],
        90: [("onboarding_stalled", "cleared")],
    }


def test_a_customer_who_comes_late_has_got_going() -> None:
    fields = AccountFields(contract_start=AS_OF)
    # On days 20, 25 and 33 after the start: three days within 14, and two of the next 14.
    late = history([-20, -25, -33, -40])
    assert told_of(late, 60, fields) == {
        14: [("onboarding_stalled", "raised")],
        33: [("onboarding_stalled", "cleared")],
    }


def test_silence_follows_the_clock_alone() -> None:
    weekly = history(range(0, 300, 7))
    told = told_of(weekly, 40, AccountFields(status="active"))
    assert told == {28: [("gone_silent", "raised")]}
