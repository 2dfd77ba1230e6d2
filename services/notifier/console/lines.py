"""A share over time as a line, on the bands it was in; the template draws it (`parts.lines`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from services.notifier.console.marks import Mark, Placed, placed
from services.notifier.console.plot import Label, months

_LEFT: Final = 44
_RIGHT: Final = 8
_TOP: Final = 24
_BOTTOM: Final = 20
_DAYS: Final = 365
_FEWEST_DAYS: Final = 90
_AHEAD: Final = timedelta(days=150)
_CEILINGS: Final = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    at: datetime
    value: float
    band: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A stretch of time in one band."""

    x: float
    width: float
    band: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    width: int
    height: int
    left: float
    right: float
    top: float
    base: float
    zones: tuple[Zone, ...]
    line: str
    """The points of a polyline."""
    last: tuple[float, float]
    now: float
    """Where the future begins."""
    grid: tuple[Label, ...]
    months: tuple[Label, ...]
    marks: tuple[Placed, ...]


def lines(
    points: Sequence[Point],
    *,
    today: date,
    width: int,
    height: int = 150,
    marks: Sequence[Mark] = (),
) -> Lines | None:
    """The last year, less where there is less, and what of the contract lies just ahead.

    None without a point. `points` in the order of time.
    """
    seen = [one for one in points if one.at.date() > today - timedelta(days=_DAYS)]
    if not seen:
        return None
    first = min(seen[0].at.date(), today - timedelta(days=_FEWEST_DAYS))
    ahead = [one.day for one in marks if today < one.day <= today + _AHEAD]
    last = max(ahead, default=today) + timedelta(days=2)
    slot = (width - _LEFT - _RIGHT) / (last - first).days
    start = datetime.combine(first, time(), UTC)

    def place(day: date) -> float:
        return _LEFT + (day - first).days * slot

    def place_moment(moment: datetime) -> float:
        return round(_LEFT + (moment - start) / timedelta(days=1) * slot, 1)

    base = _TOP + height
    most = max(one.value for one in seen)
    ceiling = next(one for one in _CEILINGS if most <= one or one == 1.0)

    def rise(value: float) -> float:
        return round(base - height * min(value / ceiling, 1.0), 1)

    now = place_moment(datetime.combine(today, time(12), UTC))
    placed_points = [(place_moment(one.at), rise(one.value)) for one in seen]
    return Lines(
        width=width,
        height=base + _BOTTOM,
        left=_LEFT,
        right=width - _RIGHT,
        top=_TOP,
        base=base,
        zones=_zones([one.band for one in seen], [x for x, _ in placed_points], now),
        line=" ".join(f"{x},{y}" for x, y in placed_points),
        last=placed_points[-1],
        now=now,
        grid=tuple(
            Label(at=rise(ceiling * share), text=f"{ceiling * share * 100:.0f} %")
            for share in (0, 0.5, 1)
        ),
        months=months(first, last, place),
        marks=placed(
            [one for one in marks if first <= one.day <= last],
            place,
            left=_LEFT,
            right=width - _RIGHT,
        ),
    )


def _zones(bands: Sequence[str], at: Sequence[float], now: float) -> tuple[Zone, ...]:
    """Each band from where it was seen until the next one was."""
    found: list[Zone] = []
    ends = [*at[1:], max(now, at[-1])]
    for band, x, end in zip(bands, at, ends, strict=True):
        if found and found[-1].band == band:
            before = found.pop()
            found.append(Zone(x=before.x, width=round(end - before.x, 1), band=band))
        else:
            found.append(Zone(x=x, width=round(end - x, 1), band=band))
    return tuple(found)
