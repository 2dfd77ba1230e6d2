"""A training, and a look at the model in service, as text for a terminal."""

from collections.abc import Iterable

from services.scoring.domain.gate import Line, Quality
from services.scoring.drift import Health
from services.scoring.lifecycle import Trained
from services.scoring.training import Block, Counted, Report


def as_text(trained: Trained) -> str:
    """What was learnt from, what it is worth, the gate line by line, and what became of it."""
    report = trained.report
    return "\n".join(
        [
            *_labels(report),
            "",
            *_qualities(report),
            "",
            f"shuffled outcomes: AUC {report.shuffled_auc:.3f} (0.45 to 0.55: nothing leaks)",
            *(_block(name, block) for name, block in report.blocks.items()),
            *([report.advice] if report.advice else []),
            "",
            *(_gate_line(line) for line in report.gate),
            "",
            f"{report.version} is {trained.state}: {trained.reason}",
        ]
    )


def health_as_text(health: Health) -> str:
    lines = [f"{health.version}, looked at {health.looked_at:%Y-%m-%d %H:%M} UTC"]
    if health.psi:
        lines += ["", f"{'feature':22}  PSI (0.25: other accounts than in training)"]
        lines += [
            f"{name:22}  {value:.3f}"
            for name, value in sorted(health.psi.items(), key=lambda item: -item[1])
        ]
    else:
        lines += ["", "prior weights: no training rows of these accounts to compare with"]
    if health.months:
        lines += ["", "month      rows  expected  observed"]
        lines += [
            f"{one.month}  {one.rows:7,}  {one.expected:8.1f}  {one.observed:8,}"
            for one in health.months
        ]
    if health.quarter_auc is not None:
        lines += ["", f"AUC of the last quarter: {health.quarter_auc:.3f}"]
    lines += ["", *(f"ALARM {alarm}" for alarm in health.alarms)]
    return "\n".join(lines if health.alarms else [*lines, "nothing is out of its limits"])


def _labels(report: Report) -> Iterable[str]:
    yield (
        f"{report.horizon_days} days ahead; lost by {report.definition}:"
        f" {report.dated_share:.0%} of the accounts have contract dates"
    )
    for name, counted in report.definitions.items():
        yield f"  {name:9} {_counts(counted)}"
    yield f"tested: {', '.join(report.periods)}"


def _counts(counted: Counted) -> str:
    rules = ", ".join(f"{rule} {count:,}" for rule, count in counted.by_rule.items() if count)
    return (
        f"{counted.rows:,} rows of {counted.accounts:,} accounts, {counted.lost:,} rows of"
        f" {counted.lost_accounts:,} lost ({rules or 'none'}); left out: {counted.open:,} open,"
        f" {counted.gone:,} lost before, {counted.treated:,} saved by an intervention"
    )


def _qualities(report: Report) -> Iterable[str]:
    yield (
        f"{report.served.rows:,} rows tested, {report.served.base:.3f} lost;"
        f" mean risk {report.served.mean_risk:.3f}"
    )
    yield f"{'':26}  AUC    AP     lift@10 %  Brier  ECE"
    yield _quality("this model", report.served)
    yield _quality("gradient boosting", report.challenger)
    if report.comparison is not None:
        yield _quality(
            f"in service, {report.comparison.active.rows:,} rows", report.comparison.active
        )
    best = sorted(report.indicators.items(), key=lambda item: -item[1])[:3]
    for name, precision in best:
        yield f"{name:26}         {precision:.3f}"


def _quality(name: str, one: Quality) -> str:
    return (
        f"{name:26}  {one.auc:.3f}  {one.average_precision:.3f}  {one.lift_at_10_percent:9.2f}"
        f"  {one.brier:.3f}  {one.ece:.3f}"
    )


def _block(name: str, block: Block) -> str:
    return (
        f"with {name} (known of {block.known:.0%}): AUC {block.auc:.3f} -> {block.auc_with:.3f},"
        f" AP {block.average_precision:.3f} -> {block.average_precision_with:.3f}; not served"
    )


def _gate_line(line: Line) -> str:
    value = "" if line.value is None else f": {line.value:.3f}"
    limit = "" if line.limit is None else f", limit {line.limit:.3f}"
    note = f" ({line.note})" if line.note else ""
    return f"GATE {'pass' if line.passed else 'fail'}  {line.name}{value}{limit}{note}"
