"""Plots as inline SVG, coloured by the page's own style (classes), so that they follow its theme.

Each returns one `<figure>`; the numbers behind it stand in the page's tables.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from services.scoring.measures import Bin

_WIDTH: Final = 520
_HEIGHT: Final = 280
_LEFT: Final = 48
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a plot; `style` is a class of the page's style sheet (`a` ... `d`, `faint`)."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Ranges and captions; `ticks` are labelled."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    x_title: str
    y_title: str

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self.x, self.y
        across = (x - x0) / ((x1 - x0) or 1) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - y0) / ((y1 - y0) or 1) * (_HEIGHT - _TOP - _BOTTOM)
        return _LEFT + across, _HEIGHT - _BOTTOM - up


def lines(title: str, axes: Axes, series: Sequence[Line]) -> str:
    """Lines over the same axes, with a legend where there are several."""
    marks = [_path(axes, one) for one in series]
    return _figure(title, axes, marks, [one for one in series if len(series) > 1])


def reliability_plot(title: str, bins: Sequence[Bin]) -> str:
    """What happened against what was predicted, a dot per tenth of the rows."""
    top = max([0.1, *(b.predicted for b in bins), *(b.observed for b in bins)])
    axes = share_axes("predicted risk", "share lost", x_top=top, y_top=top)
    exact = Line(name="as predicted", points=[(0, 0), (top, top)], style="faint")
    marks = [_path(axes, exact)]
    for one in bins:
        x, y = axes.at(one.predicted, one.observed)
        marks.append(
            f'<circle class="a" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{one.rows:,} rows:'
            f" predicted {one.predicted:.3f}, lost {one.observed:.3f}</title></circle>"
        )
    return _figure(title, axes, marks, [])


def intervals_plot(
    title: str, found: Sequence[tuple[str, float, float, float]], y: tuple[float, float]
) -> str:
    """A value with its interval per name: `(name, low, value, high)`."""
    axes = Axes(
        x=(-0.5, len(found) - 0.5),
        y=y,
        x_ticks=_thinned([(number, name) for number, (name, *_) in enumerate(found)], 14),
        y_ticks=share_ticks(*y),
        x_title="",
        y_title="AUC",
    )
    marks = []
    for number, (name, low, value, high) in enumerate(found):
        x, middle = axes.at(number, value)
        _, bottom = axes.at(number, max(low, y[0]))
        _, top = axes.at(number, high)
        marks.append(
            f"<g><title>{escape(name)}: {value:.3f} ({low:.3f} to {high:.3f})</title>"
            f'<line class="a" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>'
            f'<circle class="a" cx="{x:.1f}" cy="{middle:.1f}" r="4.5"/></g>'
        )
    return _figure(title, axes, marks, [])


def histogram(title: str, series: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """Shares of rows per tenth of risk: `(name, shares, style)`, bars beside each other."""
    bins = len(series[0][1])
    top = max(0.05, *(share for _, shares, _ in series for share in shares))
    axes = share_axes("risk", "share of the rows", x_top=1, y_top=top)
    width = 0.8 / bins / len(series)
    marks = []
    for number, (name, shares, style) in enumerate(series):
        for index, share in enumerate(shares):
            left, up = axes.at(index / bins + 0.1 / bins + number * width, share)
            right, down = axes.at(index / bins + 0.1 / bins + (number + 1) * width, 0)
            marks.append(
                f'<rect class="{style}" x="{left:.1f}" y="{up:.1f}" width="{right - left:.1f}"'
                f' height="{down - up:.1f}"><title>{escape(name)}, risk {index / bins:.1f} to'
                f" {(index + 1) / bins:.1f}: {share:.3f}</title></rect>"
            )
    return _figure(
        title, axes, marks, [Line(name=name, points=[], style=style) for name, _, style in series]
    )


def bars(title: str, found: Sequence[tuple[str, float]], sides: tuple[str, str]) -> str:
    """Horizontal bars from zero to either side, in the order given; `sides`: left, right."""
    row, left = 20, 150
    height = row * len(found) + 40
    longest = max([1e-9, *(abs(value) for _, value in found)])
    room = _WIDTH - left - 90
    middle = left + 40 + room / 2
    scale = room / 2 / longest
    parts = []
    for number, (name, value) in enumerate(found):
        y = 8 + number * row
        x = min(middle, middle + value * scale)
        beside = middle + value * scale + (5 if value >= 0 else -5)
        parts.append(
            f'<text class="end" x="{left - 8}" y="{y + 12}">{escape(name)}</text>'
            f'<rect class="{"b" if value > 0 else "a"}" x="{x:.1f}" y="{y}"'
            f' width="{abs(value) * scale:.1f}" height="14"/>'
            f'<text class="{"end" if value < 0 else ""}" x="{beside:.1f}" y="{y + 12}">'
            f"{value:+.2f}</text>"
        )
    parts.append(
        f'<line class="axis" x1="{middle:.1f}" x2="{middle:.1f}" y1="4" y2="{height - 32}"/>'
        f'<text class="end" x="{middle - 8:.1f}" y="{height - 14}">{escape(sides[0])}</text>'
        f'<text x="{middle + 8:.1f}" y="{height - 14}">{escape(sides[1])}</text>'
    )
    return _wrap(title, "".join(parts), height)


def share_axes(x_title: str, y_title: str, *, x_top: float = 1, y_top: float = 1) -> Axes:
    return Axes(
        x=(0, x_top),
        y=(0, y_top),
        x_ticks=share_ticks(0, x_top),
        y_ticks=share_ticks(0, y_top),
        x_title=x_title,
        y_title=y_title,
    )


def share_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five round numbers from `low` to `high`."""
    step = next(
        (s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if (high - low) / s <= 6), 20
    )
    first = int(-(-low // step))
    count = int((high - low) / step + 1e-9) + 1
    digits = 2 if step < 0.1 else 1 if step < 1 else 0
    ticks = ((first + number) * step for number in range(count))
    return [(tick, f"{tick:.{digits}f}") for tick in ticks if low <= tick <= high + 1e-9]


def named_ticks(names: Sequence[str], most: int = 8) -> list[tuple[float, str]]:
    return _thinned([(float(number), name) for number, name in enumerate(names)], most)


def _thinned(ticks: Sequence[tuple[float, str]], most: int) -> list[tuple[float, str]]:
    every = -(-len(ticks) // most) if ticks else 1
    return list(ticks[::every])


def _path(axes: Axes, one: Line) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (axes.at(*point) for point in one.points))
    return f'<polyline class="{one.style}" points="{points}"/>'


def _figure(title: str, axes: Axes, marks: Iterable[str], legend: Sequence[Line]) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value, text in axes.y_ticks:
        _, y = axes.at(axes.x[0], value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{escape(text)}</text>'
        )
    for value, text in axes.x_ticks:
        x, _ = axes.at(value, axes.y[0])
        parts.append(f'<text class="mid" x="{x:.1f}" y="{bottom + 16}">{escape(text)}</text>')
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="mid" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}">{escape(axes.x_title)}'
        f'</text><text class="mid" transform="translate(11 {(_TOP + bottom) / 2}) rotate(-90)">'
        f"{escape(axes.y_title)}</text>"
    )
    parts += marks
    keys = "".join(
        f'<span class="key"><i class="{one.style}"></i>{escape(one.name)}</span>' for one in legend
    )
    return _wrap(title, "".join(parts), _HEIGHT, keys)


def _wrap(title: str, content: str, height: int, keys: str = "") -> str:
    return (
        f"<figure><figcaption>{escape(title)}{keys}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{content}</svg></figure>"
    )
