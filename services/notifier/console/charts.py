"""Curves over months, and predicted against observed: where everything stands in a drawing.

In the units of the drawing; templates draw it, and a table beside it says the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.notifier.console.plot import Label

_LEFT: Final = 52
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 22
_LEAST_LABEL_DISTANCE: Final = 44
_LABEL_MARGIN: Final = 30
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_MOST_INTERVALS: Final = 4
_BESIDE_LABEL: Final = 3
"""So many months are as wide as the target's label."""
_LEAST_SPAN: Final = 0.01
_MOST_SPREAD: Final = 40.0
"""Widest to which an axis grows: beyond it the value is no share anybody reads from a curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A curve: one value for each label, None where there is none."""

    name: str
    kind: str
    """How it is drawn, as a class of the style sheet: `one` or `two`."""
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    x: float
    y: float
    says: str
    open: bool = False
    """Not final: it may still move."""
    radius: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    name: str
    kind: str
    path: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`anchor`: where the label's text begins or ends, as SVG says it."""

    y: float
    label_x: float
    label_y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    width: int
    height: int
    left: float
    right: float
    top: float
    base: float
    grid: tuple[Label, ...]
    ticks: tuple[Label, ...]
    curves: tuple[Curve, ...]
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """The same, for a desk and for a phone."""

    title: str
    wide: Chart
    narrow: Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A tenth of what was predicted, and what happened."""

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A square: on the diagonal, what was predicted is what happened."""

    size: int
    left: float
    right: float
    top: float
    base: float
    across: tuple[Label, ...]
    up: tuple[Label, ...]
    dots: tuple[Dot, ...]


def percent(value: float) -> str:
    """A share as a label: no more digits than it needs."""
    return f"{round(value * 100, 2):g} %"


def sized(
    title: str,
    series: Sequence[Series],
    labels: Sequence[str],
    *,
    provisional: Sequence[bool] = (),
    target: float | None = None,
    least: float | None = None,
    most: float | None = None,
    says: Callable[[float], str] = percent,
) -> Sized:
    """`least`, `most`: what the axis shows at any rate; `says`: a value in words."""

    def drawn(width: int, height: int) -> Chart:
        return chart(
            series,
            labels,
            width=width,
            height=height,
            provisional=provisional,
            target=target,
            least=least,
            most=most,
            says=says,
        )

    return Sized(title=title, wide=drawn(460, 170), narrow=drawn(358, 150))


def chart(
    series: Sequence[Series],
    labels: Sequence[str],
    *,
    width: int,
    height: int,
    provisional: Sequence[bool] = (),
    target: float | None = None,
    least: float | None = None,
    most: float | None = None,
    says: Callable[[float], str] = percent,
) -> Chart:
    known = [value for one in series for value in one.values if value is not None]
    low, high, step = axis(
        [one for one in (*known, target, least, most) if one is not None], floor=least
    )
    base = height - _BOTTOM
    right = width - _RIGHT
    slot = (right - _LEFT) / max(len(labels) - 1, 1)

    def across(index: int) -> float:
        return round(_LEFT + index * slot, 1) if len(labels) > 1 else (_LEFT + right) / 2

    def up(value: float) -> float:
        inside = min(max(value, low), high)
        return round(base - (inside - low) / (high - low) * (base - _TOP), 1)

    is_open = list(provisional) or [False] * len(labels)
    lines = round((high - low) / step)
    return Chart(
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        base=base,
        grid=tuple(
            Label(at=up(low + number * step), text=says(round(low + number * step, 6)))
            for number in range(lines + 1)
        ),
        ticks=_ticks(labels, across, right),
        curves=tuple(_curve(one, labels, is_open, across, up, says) for one in series),
        target=None if target is None else _target(target, _ends(series), up, right, says),
    )


def axis(values: Sequence[float], *, floor: float | None = None) -> tuple[float, float, float]:
    """The least and the most that the axis shows, and its step; a few round lines hold all.

    `floor`: below it nothing can be, as below no losses.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    high = min(high, low + _MOST_SPREAD)
    if high - low < _LEAST_SPAN:
        low, high = low - _LEAST_SPAN / 2, high + _LEAST_SPAN / 2
    if floor is not None:
        low = max(low, floor)
    for step in _STEPS:
        first = _floor(low, step)
        last = -_floor(-high, step)
        if round((last - first) / step) <= _MOST_INTERVALS:
            return first, max(last, first + step), step
    step = _STEPS[-1]
    return _floor(low, step), -_floor(-high, step), step


def calibration(bins: Sequence[Seen], *, size: int = 320) -> Calibration:
    """Both axes alike, from 0 to a round number that holds all."""
    _, most, step = axis([0.0, *(one.predicted for one in bins), *(one.observed for one in bins)])
    left, right, top, base = float(_LEFT), float(size - 20), 28.0, float(size - 36)
    largest = max((one.rows for one in bins), default=1)

    def across(value: float) -> float:
        return round(left + value / most * (right - left), 1)

    def up(value: float) -> float:
        return round(base - value / most * (base - top), 1)

    marks = [round(number * step, 6) for number in range(round(most / step) + 1)]
    return Calibration(
        size=size,
        left=left,
        right=right,
        top=top,
        base=base,
        across=tuple(Label(at=across(one), text=percent(one)) for one in marks),
        up=tuple(Label(at=up(one), text=percent(one)) for one in marks),
        dots=tuple(
            Dot(
                x=across(one.predicted),
                y=up(one.observed),
                says=f"predicted {one.predicted:.1%}, happened {one.observed:.1%},"
                f" {one.rows:,} risks",
                # By area: a tenth of the rows is a tenth of the ink.
                radius=round(2.5 + 3.5 * (one.rows / largest) ** 0.5, 1),
            )
            for one in bins
        ),
    )


def _curve(
    one: Series,
    labels: Sequence[str],
    is_open: Sequence[bool],
    across: Callable[[int], float],
    up: Callable[[float], float],
    says: Callable[[float], str],
) -> Curve:
    """A gap where there is no value: no line is drawn over what is not known."""
    path: list[str] = []
    dots: list[Dot] = []
    pen_is_down = False
    for index, value in enumerate(one.values):
        if value is None:
            pen_is_down = False
            continue
        x, y = across(index), up(value)
        path.append(f"{'L' if pen_is_down else 'M'}{x:g} {y:g}")
        pen_is_down = True
        text = f"{labels[index]}: {one.name.lower()} {says(value)}"
        provisional = is_open[index]
        dots.append(Dot(x=x, y=y, says=f"{text}, provisional" if provisional else text,
                        open=provisional))  # fmt: skip
    return Curve(name=one.name, kind=one.kind, path="".join(path), dots=tuple(dots))


def _ends(series: Sequence[Series]) -> tuple[list[float], list[float]]:
    """The first few and the last few values that are known of any curve."""
    first, last = [], []
    for one in series:
        known = [value for value in one.values if value is not None]
        first += known[:_BESIDE_LABEL]
        last += known[-_BESIDE_LABEL:]
    return first, last


def _target(
    target: float,
    ends: tuple[list[float], list[float]],
    up: Callable[[float], float],
    right: float,
    says: Callable[[float], str],
) -> Target:
    """Its label stands at the end where the curves are further away, on their other side."""
    first, last = (min((abs(one - target) for one in end), default=9.0) for end in ends)
    at_left = first >= last
    beside = ends[0] if at_left else ends[1]
    y = up(target)
    above = y > _TOP + 12 and (not beside or sum(one > target for one in beside) * 2 <= len(beside))
    return Target(
        y=y,
        label_x=_LEFT + 4 if at_left else right - 4,
        label_y=y - 5 if above else y + 13,
        anchor="start" if at_left else "end",
        text=f"Target {says(target)}",
    )


def _ticks(
    labels: Sequence[str], across: Callable[[int], float], right: float
) -> tuple[Label, ...]:
    """The newest is always named, and as many before it as have room."""
    found: list[Label] = []
    free_until = right + _LEAST_LABEL_DISTANCE
    for index in range(len(labels) - 1, -1, -1):
        at = across(index)
        if free_until - at >= _LEAST_LABEL_DISTANCE:
            found.append(Label(at=min(at, right - _LABEL_MARGIN / 2), text=labels[index]))
            free_until = at
    return tuple(reversed(found))


def _floor(value: float, step: float) -> float:
    # Rounded first: 0.3 / 0.1 is a little less than 3.
    return round(round(value / step, 6) // 1 * step, 6)
