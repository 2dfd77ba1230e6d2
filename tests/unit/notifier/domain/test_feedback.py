"""What came of interventions, with the arithmetic beside each figure."""

from datetime import timedelta
from typing import Any

import pytest

from services.notifier.domain.feedback import Endings, by_playbook, by_reason, feedback
from shared.messages import OutcomeKind

HOUR = 3600.0
WEEKS = timedelta(weeks=4)


def ending(outcome: str, **changes: Any) -> Endings:
    values: dict[str, Any] = {
        "reason": "usage_drop",
        "playbook": "adoption",
        "owner": "anna@vendor.example",
        "outcome": OutcomeKind(outcome),
        "by_system": False,
        "held_out": False,
        "number": 1,
    }
    return Endings(**(values | changes))


def test_precision_is_how_often_it_was_true_and_the_save_rate_how_often_it_helped() -> None:
    found = feedback(
        [
            ending("saved"),
            ending("saved", number=2),
            ending("churned"),
            ending("downsold"),
            *(ending("false_alarm") for _ in range(5)),
            # What says nothing of either.
            ending("no_action_needed"),
            ending("expanded"),
        ],
        period=WEEKS,
    )
    assert (found.precision.part, found.precision.of) == (5, 10)  # 3 + 1 + 1 of those and 5
    assert found.precision.value == pytest.approx(0.5)
    assert (found.save_rate.part, found.save_rate.of) == (3, 5)
    assert found.endings == 12


def test_what_the_system_closed_stands_apart_and_what_was_held_out_nowhere() -> None:
    found = feedback(
        [
            ending("no_action_needed", by_system=True),
            ending("churned", held_out=True),
            ending("saved"),
        ],
        period=WEEKS,
    )
    assert (found.endings, found.by_system) == (1, 1)
    assert (found.save_rate.part, found.save_rate.of) == (1, 1)


def test_times_are_medians_of_those_that_have_them() -> None:
    found = feedback(
        [
            ending("saved", number=3, to_acknowledge=[30 * HOUR, HOUR], to_first_action=[HOUR]),
            ending("churned", to_acknowledge=[5 * HOUR], to_first_action=[2 * HOUR]),
            ending("saved"),
        ],
        period=WEEKS,
    )
    assert found.to_acknowledge == timedelta(hours=5)  # of 1, 5, 30
    assert found.to_first_action == timedelta(hours=1.5)  # of 1, 2


def test_false_alarms_are_counted_per_person_and_week() -> None:
    anna = [ending("false_alarm", number=6)]
    ben = [ending("saved", owner="Ben@vendor.example"), ending("saved", owner="ben@vendor.example")]
    found = feedback([*anna, *ben], period=WEEKS)
    assert found.false_alarms_per_week == pytest.approx(6 / (2 * 4))  # Two people, four weeks.


def test_of_nothing_nothing_is_said() -> None:
    found = feedback([], period=WEEKS)
    assert found.precision.value is None
    assert found.save_rate.value is None
    assert (found.to_acknowledge, found.to_first_action) == (None, None)
    assert found.false_alarms_per_week is None


def test_parts_sum_to_the_whole_and_the_largest_comes_first() -> None:
    all_of_them = [
        ending("saved"),
        ending("saved", reason="gone_silent"),
        ending("churned", reason="gone_silent", playbook="win-back"),
    ]
    reasons = by_reason(all_of_them, period=WEEKS)
    assert list(reasons) == ["gone_silent", "usage_drop"]
    assert sum(one.endings for one in reasons.values()) == len(all_of_them)
    assert list(by_playbook(all_of_them, period=WEEKS)) == ["adoption", "win-back"]
