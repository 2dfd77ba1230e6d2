"""Usage as bars: where everything stands, in the units of the drawing; the template draws it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from services.notifier.console.marks import Mark, Placed, placed
from services.notifier.console.scoring import Daily

DAYS = 180
_LEFT = 44
_RIGHT = 8
_TOP = 22
_GAP = 34
_BOTTOM = 20
_LEAST_LABEL_DISTANCE = 46
_TITLE_WIDTH = 110
_MONTH_WIDTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One row of bars with its own axis."""

    title: str
    kind: str
    top: float
    base: float
    bars: tuple[Bar, ...]
    lines: tuple[Label, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    width: int
    height: int
    left: float
    right: float
    panels: tuple[Panel, ...]
    months: tuple[Label, ...]
    marks: tuple[Placed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """A row of the table that says the same as the plot."""

    begins: date
    events: int
    active_days: int
    most_users: int


def plot(
    days: Sequence[Daily],
    *,
    last: date,
    width: int,
    heights: tuple[int, int] = (130, 70),
    marks: Sequence[Mark] = (),
) -> Plot:
    """Events and active users of the 180 days up to `last`."""
    first = last - timedelta(days=DAYS - 1)
    slot = (width - _LEFT - _RIGHT) / DAYS

    def place(day: date) -> float:
        return _LEFT + (day - first).days * slot

    upper, lower = heights
    events = _panel(
        "Events per day", "events", days, lambda one: one.events, place, slot, _TOP, upper
    )
    top = _TOP + upper + _GAP
    users = _panel(
        "Active users per day", "users", days, lambda one: one.active_users, place, slot, top, lower
    )
    return Plot(
        width=width,
        height=top + lower + _BOTTOM,
        left=_LEFT,
        right=width - _RIGHT,
        panels=(events, users),
        months=months(first, last, place),
        marks=placed(
            [one for one in marks if first <= one.day <= last],
            place,
            left=_LEFT + _TITLE_WIDTH,
            right=width - _RIGHT,
        ),
    )


def weeks(days: Sequence[Daily], *, last: date) -> tuple[Week, ...]:
    """The same days by calendar week, newest first; weeks without use are shown as such."""
    first = last - timedelta(days=DAYS - 1)
    monday = last - timedelta(days=last.weekday())
    found = []
    while monday + timedelta(days=6) >= first:
        inside = [one for one in days if monday <= one.day <= monday + timedelta(days=6)]
        found.append(
            Week(
                begins=monday,
                events=sum(one.events for one in inside),
                active_days=sum(one.events > 0 for one in inside),
                most_users=max((one.active_users for one in inside), default=0),
            )
        )
        monday -= timedelta(days=7)
    return tuple(found)


def nice_ceiling(value: int) -> int:
    """The least round number that holds `value` and has a whole number as its half."""
    step = 1
    while True:
        for factor in (2, 4, 6, 8, 10, 12, 16):
            if value <= factor * step:
                return factor * step
        step *= 10


def months(first: date, last: date, place: Callable[[date], float]) -> tuple[Label, ...]:
    """The first day of each month; fewer where the drawing is narrow."""
    found: list[Label] = []
    day = first.replace(day=1)
    while day <= last:
        at = place(day)
        is_apart = not found or at - found[-1].at >= _LEAST_LABEL_DISTANCE
        if day >= first and is_apart and place(last) - at >= _MONTH_WIDTH:
            text = f"{day:%b %Y}" if day.month == 1 else f"{day:%b}"
            found.append(Label(at=round(at, 1), text=text))
        day = (day + timedelta(days=31)).replace(day=1)
    return tuple(found)


def _panel(
    title: str,
    kind: str,
    days: Sequence[Daily],
    value_of: Callable[[Daily], int],
    place: Callable[[date], float],
    slot: float,
    top: float,
    height: float,
) -> Panel:
    base = top + height
    ceiling = nice_ceiling(max((value_of(day) for day in days), default=0))
    bars = []
    for day in days:
        x = place(day.day)
        size = height * value_of(day) / ceiling
        if x < _LEFT or size <= 0:
            continue
        bars.append(
            Bar(
                x=round(x, 2),
                y=round(base - size, 2),
                width=round(max(slot - 0.8, slot * 0.75), 2),
                height=round(size, 2),
            )
        )
    lines = tuple(
        Label(at=round(base - height * share, 1), text=f"{int(ceiling * share):,}")
        for share in (0, 0.5, 1)
    )
    return Panel(title=title, kind=kind, top=top, base=base, bars=tuple(bars), lines=lines)
