"""How a goal stands, value by value, as one would read it out; None is "not known"."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from shared.messages import Goal


@dataclass(frozen=True)
class ByHand:
    """What `Standing` says of one goal; the numbers are those of its newest value."""

    state: str
    improvement: float | None
    attained: float | None
    expected_now: float | None
    behind: float | None
    days_at_target: int | None
    days_behind: int | None
    is_due: bool


def stand(
    goal: Goal,
    start: date | None,
    values: Sequence[tuple[datetime, float]],
    *,
    as_of: date,
    now: datetime,
    over: float = 0.2,
) -> ByHand:
    """`values` in the order of time; `over` is for `days_behind`, a state is at a fifth."""
    is_due = goal.due is not None and goal.due <= as_of
    known = [(at, value) for at, value in values if now - timedelta(days=400) < at <= now]
    if not known:
        return ByHand("no_values", None, None, None, None, None, None, is_due)
    sign = 1 if goal.direction == "up" else -1
    begins = max(known[0][0].astimezone(UTC).date(), start or date.min)

    def there(value: float) -> bool:
        return sign * value >= sign * goal.target

    def attained(value: float) -> float:
        way = sign * (goal.target - goal.baseline)
        return sign * (value - goal.baseline) / way if way > 0 else float(there(value))

    def line(day: date) -> float | None:
        if goal.due is None:
            return None
        days = (goal.due - begins).days
        if days <= 0:
            return float(day >= goal.due)
        return min(max((day - begins).days / days, 0), 1)

    def behind(at: datetime, value: float) -> float | None:
        expected = line(at.astimezone(UTC).date())
        return None if expected is None else expected - attained(value)

    lag = [behind(at, value) for at, value in known]
    in_time = [value for at, value in known if goal.due and at.astimezone(UTC).date() <= goal.due]
    newest = known[-1][1]
    reached = there(newest) or (is_due and bool(in_time) and there(in_time[-1]))
    return ByHand(
        state="reached" if reached else "missed" if is_due else _on_its_way(lag[-1]),
        improvement=sign * (newest - goal.baseline) / abs(goal.baseline) if goal.baseline else None,
        attained=attained(newest),
        expected_now=line(as_of),
        behind=lag[-1],
        days_at_target=_lasting(known, [there(value) for _, value in known], now),
        days_behind=_lasting(known, [_is_more(one, over) for one in lag], now),
        is_due=is_due,
    )


def _on_its_way(behind: float | None) -> str:
    return "behind" if _is_more(behind, 0.2) else "on_track"


def _is_more(behind: float | None, over: float) -> bool:
    return behind is not None and behind > over + 1e-9


def _lasting(
    known: Sequence[tuple[datetime, float]], holds: Sequence[bool], now: datetime
) -> int | None:
    since = None
    for (at, _), is_so in zip(known, holds, strict=True):
        since = (since or at) if is_so else None
    return None if since is None else (now - since).days
