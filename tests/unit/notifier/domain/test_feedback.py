"""What came of interventions, with the arithmetic beside each figure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifier.domain.feedback import Ending, by_playbook, by_reason, feedback
from shared.messages import OutcomeKind

OPENED = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEKS = timedelta(weeks=4)


def ending(outcome: str, **changes: Any) -> Ending:
    values: dict[str, Any] = {
        "reason": "usage_drop",
        "playbook": "adoption",
        "owner": "anna@vendor.example",
        "outcome": OutcomeKind(outcome),
        "by_system": False,
        "held_out": False,
        "opened_at": OPENED,
        "closed_at": OPENED + 2 * DAY,
    }
    return Ending(**(values | changes))


def test_precision_is_how_often_it_was_true_and_the_save_rate_how_often_it_helped() -> None:
    found = feedback(
        [
            *(ending("saved") for _ in range(3)),
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


@pytest.mark.parametrize(
    ("lost_after", "saved"),
    [
        pytest.param(None, 1, id="it stays"),
        pytest.param(180 * DAY, 0, id="it leaves on the 180th day"),
        pytest.param(180 * DAY + HOUR, 1, id="it leaves later"),
    ],
)
def test_who_leaves_soon_after_was_not_saved(lost_after: timedelta | None, saved: int) -> None:
    closed_at = OPENED + 2 * DAY
    lost_at = None if lost_after is None else closed_at + lost_after
    found = feedback([ending("saved", lost_at=lost_at)], period=WEEKS)
    assert (found.save_rate.part, found.save_rate.of) == (saved, 1)
    assert found.outcomes[OutcomeKind.CHURNED] == 1 - saved


def test_times_are_medians_of_those_that_have_them() -> None:
    found = feedback(
        [
            ending("saved", acknowledged_at=OPENED + HOUR, first_action_at=OPENED + HOUR),
            ending("saved", acknowledged_at=OPENED + 5 * HOUR, first_action_at=OPENED + 2 * HOUR),
            ending("saved", acknowledged_at=OPENED + 30 * HOUR),
            ending("saved"),
        ],
        period=WEEKS,
    )
    assert found.to_acknowledge == 5 * HOUR  # of 1, 5, 30
    assert found.to_first_action == 1.5 * HOUR  # of 1, 2


def test_false_alarms_are_counted_per_person_and_week() -> None:
    anna = [ending("false_alarm") for _ in range(6)]
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
