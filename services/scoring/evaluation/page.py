"""An evaluation as one HTML file: no script, nothing fetched, light and dark, fit to print."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib import resources
from typing import Final

import numpy as np

from services.scoring.domain.model import Vector
from services.scoring.evaluation import plots
from services.scoring.evaluation.alerts import Alerts
from services.scoring.evaluation.plots import Axes, Line
from services.scoring.evaluation.rankings import SERVED
from services.scoring.evaluation.results import ALL, USERS3, Evaluation, Measured, ordered
from services.scoring.evaluation.runs import Report
from services.scoring.measures import lifts, precision_and_recall

_SHOWN: Final = ((SERVED, "a"), ("active_days_365", "b"), ("recency", "c"), ("fixed", "d"))
_HEAD: Final = (
    "rows", "lost", "AUC", "95 %", "AP", "lift, top 10 %", "precision at 10", "Brier", "ECE",
)  # fmt: skip
_TITLES: Final = {ALL: "All accounts", USERS3: "3 users and more in a year"}
_SHORT_TITLES: Final = {ALL: "all", USERS3: "3+ users"}
_SHARES: Final = np.linspace(0.02, 1, 50)
_POINTS: Final = 100


def as_html(report: Report) -> str:
    """The whole page."""
    found = report.found
    style = resources.files("services.scoring.evaluation").joinpath("page.css").read_text()
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation of {escape(report.data.name)}</title>",
        f"<style>{style}</style></head><body>",
        *_head(report),
        *_gate(found),
        "<h2>Models and simple rules on the same rows</h2>",
        *(_table(title, ordered(found.measured[name])) for name, title in _TITLES.items()),
        *_contracts(report),
        '<h2>Plots of the served model</h2><div class="plots">',
        *_plots(found),
        "</div>",
        "<h2>The served model, by period and by kind of account</h2>",
        _table("By period that was tested", _served(found, found.periods)),
        _table("By slice", _served(found, [n for n in found.slices if n not in _TITLES])),
        *_alerts(report),
        *_protocol(report),
        "</body></html>",
    ]
    return "\n".join(parts)


def _head(report: Report) -> Iterable[str]:
    data, found = report.data, report.found
    tested = found.measured[ALL][SERVED]
    yield f"<h1>How good the risk would have been: {escape(data.name)}</h1>"
    yield (
        f'<p class="soft">{data.events:,} events of {data.accounts:,} accounts and {data.users:,}'
        f" users, received {data.first} to {data.last}. {found.rows:,} rows of"
        f" {found.accounts:,} accounts, {found.lost:,} lost within {found.plan.horizon_days} days;"
        f" {tested.rows:,} rows tested, each by models of what was known before its period.</p>"
    )
    for note in report.notes:
        yield f'<p class="soft">Note: {escape(note)}.</p>'


def _gate(found: Evaluation) -> Iterable[str]:
    yield f'<p class="verdict">Gate: {_verdict(found.passed)}</p>'
    rows = [
        [
            escape(f"{line.slice}, {line.measure}"),
            _number(line.value),
            f"{line.limit:g}",
            _verdict(line.passed),
        ]
        for line in found.gate
    ]
    yield _grid("What the served model must reach", ("", "measured", "limit", ""), rows)


def _verdict(passed: bool) -> str:  # noqa: FBT001 - two private callers
    word = "pass" if passed else "fail"
    return f'<span class="{word}">{word}</span>'


def _table(title: str, found: Sequence[tuple[str, Measured]]) -> str:
    rows = [[escape(name), *_cells(one)] for name, one in found]
    marked = {index for index, (name, _) in enumerate(found) if name == SERVED}
    return _grid(title, ("", *_HEAD), rows, marked)


def _cells(one: Measured) -> list[str]:
    interval = "" if one.auc_low is None else f"{one.auc_low:.3f} to {_number(one.auc_high)}"
    return [
        f"{one.rows:,}",
        _number(one.base),
        _number(one.auc),
        interval,
        _number(one.ap),
        "" if one.lift10 is None else f"{one.lift10:.2f}",
        _number(one.precision_at_capacity),
        _number(one.brier),
        _number(one.ece),
    ]


def _served(found: Evaluation, names: Iterable[str]) -> list[tuple[str, Measured]]:
    return [(name, found.measured[name][SERVED]) for name in names]


def _contracts(report: Report) -> Iterable[str]:
    if report.by_contract is not None:
        yield _table("All accounts, lost by their contracts", ordered(report.by_contract))


def _plots(found: Evaluation) -> Iterable[str]:
    lost, rankings = found.tested.lost, found.ranked.rankings
    risk = rankings[SERVED].score
    yield plots.reliability_plot("Reliability: ten groups of equally many rows", found.bins)
    yield from _periods(found)
    if 0 < lost.sum() < len(lost):
        yield plots.lines(
            "Precision and recall",
            plots.share_axes("recall: share of the losses found", "precision"),
            [
                Line(name=name, style=style, points=_curve(*precision_and_recall(
                    lost, rankings[name].score)))
                for name, style in _SHOWN
            ],
        )  # fmt: skip
        top = float(lifts(lost, risk, _SHARES).max())
        axes = plots.share_axes("share of the rows, riskiest first", "lift", y_top=max(top, 1.5))
        yield plots.lines(
            "Lift over the base rate",
            axes,
            [
                Line(
                    name=name,
                    style=style,
                    points=list(
                        zip(
                            _SHARES.tolist(),
                            lifts(lost, rankings[name].score, _SHARES).tolist(),
                            strict=True,
                        )
                    ),
                )
                for name, style in _SHOWN
            ],
        )
    yield plots.histogram(
        "Distribution of the risk",
        [
            ("kept", _shares(risk[~lost]), "a"),
            ("lost", _shares(risk[lost]), "b"),
        ],
    )
    yield _months(found)
    weights = sorted(found.weights, key=lambda one: -abs(one.weight))
    yield plots.bars(
        "Weights of the features, standardised",
        [(one.feature, one.weight) for one in weights],
        ("lowers the risk", "raises it"),
    )


def _periods(found: Evaluation) -> Iterable[str]:
    known = [
        (_short(name), one.auc_low, one.auc, one.auc_high)
        for name, one in _served(found, found.periods)
        if one.auc is not None and one.auc_low is not None and one.auc_high is not None
    ]
    points = [
        (name, low, auc, high)
        for name, low, auc, high in known
        if low is not None and auc is not None and high is not None
    ]
    if points:
        bottom = min(0.5, *(low for _, low, _, _ in points))
        yield plots.intervals_plot("AUC per period, 95 % interval", points, (bottom, 1.0))


def _short(period: str) -> str:
    """2016-01-01 is 2016, where it is the whole year's."""
    return period.removesuffix("-01-01") if period.endswith("-01-01") else period[:7]


def _months(found: Evaluation) -> str:
    names = [one.month for one in found.months]
    top = max([0.1, *(max(one.predicted, one.observed) for one in found.months)])
    return plots.lines(
        "Calibration over time, per month",
        Axes(
            x=(0, max(len(names) - 1, 1)),
            y=(0, top),
            x_ticks=plots.named_ticks(names, 6),
            y_ticks=plots.share_ticks(0, top),
            x_title="",
            y_title="share",
        ),
        [
            Line(
                name="predicted",
                points=[(n, one.predicted) for n, one in enumerate(found.months)],
                style="a",
            ),
            Line(
                name="lost",
                points=[(n, one.observed) for n, one in enumerate(found.months)],
                style="b",
            ),
        ],
    )


def _curve(precision: Vector, recall: Vector) -> list[tuple[float, float]]:
    """At evenly spaced recalls; below the first of them a single row decides the precision."""
    wanted = np.linspace(1 / _POINTS, 1, _POINTS)
    at = np.minimum(np.searchsorted(recall, wanted), len(recall) - 1)
    return list(zip(recall[at].tolist(), precision[at].tolist(), strict=True))


def _shares(risk: Vector) -> list[float]:
    counts, _ = np.histogram(risk, bins=10, range=(0, 1))
    return [float(share) for share in counts / max(len(risk), 1)]


def _alerts(report: Report) -> Iterable[str]:
    yield "<h2>What a team would have been told</h2>"
    yield (
        '<p class="soft">A flag is false where no silence of more than 90 days was under way or'
        " began within 180 days. A loss is the last day of use before such a silence; it is caught"
        " by a flag from 180 days before it to 90 after.</p>"
    )
    shown = [
        (f"{_SHORT_TITLES[name]}, {one.rule}", one)
        for name, rules in report.found.alerts.items()
        for one in rules
    ]
    told: Sequence[tuple[str, Callable[[Alerts], str]]] = (
        ("flags", lambda one: f"{one.flags:,}"),
        ("a week", lambda one: _number(one.per_week)),
        ("per account-month", lambda one: _number(one.per_account_month)),
        ("false ones per account-month", lambda one: _number(one.false_per_account_month)),
        ("then lost", lambda one: _number(one.lost)),
        ("base of that", lambda one: _number(one.lost_base)),
        ("silence within 180 days", lambda one: _number(one.silenced)),
        ("base of that", lambda one: _number(one.silenced_base)),
        ("losses", lambda one: f"{one.losses:,}"),
        ("caught", lambda one: _number(one.caught)),
        ("caught before the last use", lambda one: _number(one.caught_before_last_use)),
        ("median days until confirmed", lambda one: _days(one.days_until_confirmed)),
    )
    if shown:
        yield _grid(
            "The served model's risk against a threshold",
            ("", *(name for name, _ in shown)),
            [[escape(what), *(value(one) for _, one in shown)] for what, value in told],
        )
    flags = [
        [
            escape(one.reason),
            f"{one.flags:,}",
            f"{one.tested:,}",
            _number(one.lost),
            _number(one.base),
        ]
        for one in report.flags
    ]
    if flags:
        yield _grid(
            "Flags that the sweep raised in the tested time, with the prior in service",
            ("", "flags", "of accounts that took part", "then lost", "base"),
            flags,
        )


def _protocol(report: Report) -> Iterable[str]:
    data, plan = report.data, report.found.plan
    yield "<h2>How it was done</h2>"
    yield (
        f'<p class="soft">The events went through intake and sweep in the order of their arrival;'
        f" {len(plan.days)} looks at the accounts, {plan.days[0]} to {plan.days[-1]}. Taking part:"
        f" {escape(plan.eligible)}. Label: {escape(report.label)}, {plan.horizon_days} days."
        f" Replayed in {data.replay_seconds:.0f} s. Intervals by a bootstrap of accounts."
        f" SHA-256 of the file: {data.sha256}.</p>"
    )


def _grid(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    marked: Iterable[int] = (),
) -> str:
    """Cells are HTML already."""
    chosen = set(marked)
    top = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
    body = "".join(
        f"<tr{_mark(index in chosen)}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for index, row in enumerate(rows)
    )
    return (
        f'<div class="tables"><table><caption>{escape(title)}</caption><thead><tr>{top}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _mark(served: bool) -> str:  # noqa: FBT001 - one private caller
    return ' class="served"' if served else ""


def _days(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
