"""Success goals of the simulated accounts: what was agreed, and what is reported of it.

Synthetic. Every fourth account that does well has one; some are reached, most are on
their line, some are behind or were missed, and of some nobody has reported anything yet.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final, NamedTuple

from services.demo.vendor import LAST, Fields, Pattern, SimulatedAccount

_REPORTS_EVERY: Final = 30
_BEGINS: Final = LAST - 300
_LATER_DAYS: Final = 400
"""Reports go on while the story does."""


class _Promise(NamedTuple):
    """What may be agreed: by how much of the baseline the metric gets better."""

    metric: str
    baseline: float
    better: float
    direction: str


class _Course(NamedTuple):
    """How a goal runs: due so many days after the story's day, so fast on its way; None: unknown.

    A pace of 1 is the line.
    """

    due_days: int
    pace: float | None


_PROMISES: Final = (
    _Promise("time_to_invoice", 12.0, 0.15, "down"),
    _Promise("reports_per_person", 80.0, 0.05, "up"),
    _Promise("late_payments", 40.0, 0.25, "down"),
)
_REACHED: Final = _Course(60, 1.6)
_ON_LINE: Final = _Course(90, 1.03)
_BEHIND: Final = _Course(60, 0.55)
_MISSED: Final = _Course(-20, 0.8)
_UNREPORTED: Final = _Course(120, None)
_COURSES: Final = {
    Pattern.STABLE: (_ON_LINE, _ON_LINE, _MISSED, _UNREPORTED),
    Pattern.GROWING: (_REACHED, _ON_LINE),
    Pattern.SEASONAL: (_ON_LINE, _BEHIND),
}


def with_goal(account: SimulatedAccount, *, anchor: date) -> Fields:
    """The account's record, with its goal where it has one."""
    agreed = _agreed(account)
    if agreed is None:
        return account.fields
    promise, course = agreed
    goal = {
        "metric": promise.metric,
        "baseline": promise.baseline,
        "target": round(_value(promise, 1.0), 2),
        "direction": promise.direction,
        "due": (anchor + timedelta(days=course.due_days)).isoformat(),
    }
    return account.fields | {"goals": [goal]}


def reports(account: SimulatedAccount) -> Iterator[tuple[int, str, float]]:
    """By the month: the day as an index, the metric, its value."""
    agreed = _agreed(account)
    if agreed is None:
        return
    promise, (due_days, pace) = agreed
    if pace is None:
        return
    whole = LAST + due_days - _BEGINS
    for day in range(_BEGINS, LAST + _LATER_DAYS, _REPORTS_EVERY):
        come = min(pace * (day - _BEGINS) / whole, 1.1)
        yield day, promise.metric, round(_value(promise, come), 2)


def _agreed(account: SimulatedAccount) -> tuple[_Promise, _Course] | None:
    courses = _COURSES.get(account.pattern)
    if courses is None or account.index % 4 != 1 or account.begins > _BEGINS:
        return None
    place = account.index // 4
    return _PROMISES[place % len(_PROMISES)], courses[place % len(courses)]


def _value(promise: _Promise, come: float) -> float:
    """The metric's value after a share of the way."""
    sign = 1 if promise.direction == "up" else -1
    return promise.baseline * (1 + sign * promise.better * come)
