"""An evaluation for a terminal."""

from collections.abc import Iterable, Mapping

from services.scoring.evaluation.results import ALL, USERS3, Evaluation, Measured, ordered
from services.scoring.evaluation.runs import Report

_TITLES = {ALL: "all accounts", USERS3: "3 users and more in a year"}
_HEAD = "AUC (95 %)            AP     lift@10 %  P@cap  Brier  ECE"


def as_text(report: Report) -> str:
    """Counts, a table per slice, the alerts and the gate line by line."""
    found = report.found
    lines = [*_data(report), *_notes(report)]
    for name, title in _TITLES.items():
        one = found.measured[name]["served"]
        lines += ["", f"{title}: {one.rows:,} rows of {one.accounts:,} accounts"]
        if one.auc is None:
            if one.rows:
                lines.append("  nothing to rank: no row was lost, or all were")
            continue
        lines[-1] += f", base {_number(one.base)}"
        lines += [f"{'':18}{_HEAD}"]
        lines += [_row(model, measured) for model, measured in ordered(found.measured[name])]
    lines += ["", f"{'served, by period':26}rows   base   {_HEAD}"]
    lines += [_served_row(name, found.measured[name]) for name in found.periods]
    others = [name for name in found.slices if name not in _TITLES]
    lines += ["", f"{'served, by slice':26}rows   base   {_HEAD}"]
    lines += [_served_row(name, found.measured[name]) for name in others]
    lines += ["", *_alerts(found), "", *_gate(found)]
    return "\n".join(lines)


def _data(report: Report) -> Iterable[str]:
    found, data = report.found, report.data
    tested = found.measured[ALL]["served"]
    yield (
        f"{data.events:,} events of {data.accounts:,} accounts, {data.first} to {data.last};"
        f" replayed in {data.replay_seconds:.0f} s"
    )
    yield (
        f"{found.rows:,} rows of {found.accounts:,} accounts at {len(found.plan.days)} looks,"
        f" {found.lost:,} lost in {found.plan.horizon_days} days; {tested.rows:,} rows tested,"
        " each on models of what was known before its period"
    )


def _notes(report: Report) -> Iterable[str]:
    for note in report.notes:
        yield f"note: {note}"


def _row(name: str, one: Measured) -> str:
    return f"  {name:16}{_measures(one)}"


def _served_row(name: str, measured: Mapping[str, Measured]) -> str:
    one = measured["served"]
    return f"  {name:22} {one.rows:6,}  {_number(one.base):>5}  {_measures(one)}"


def _measures(one: Measured) -> str:
    if one.auc is None:
        return "-"
    interval = f"({_number(one.auc_low)}-{_number(one.auc_high)})"
    lift = "-" if one.lift10 is None else f"{one.lift10:.2f}"
    return (
        f"{_number(one.auc)} {interval:15}  {_number(one.ap)}  {lift:>8}"
        f"  {_number(one.precision_at_capacity):>6}  {_number(one.brier):>5}  {_number(one.ece):>5}"
    ).rstrip()


def _alerts(found: Evaluation) -> Iterable[str]:
    for name, rules in found.alerts.items():
        yield f"what a team would have been told, {_TITLES[name]}"
        for one in rules:
            yield (
                f"  {one.rule:14} {one.flags:5} flags, {_number(one.per_account_month)} per"
                f" account-month ({_number(one.false_per_account_month)} false),"
                f" {one.per_week or 0:.1f} a week"
            )
            yield (
                f"  {'':14} lost {_number(one.lost)} (base {_number(one.lost_base)}); silence"
                f" > 90 d within 180 d {_number(one.silenced)} (base {_number(one.silenced_base)})"
            )
            days = "-" if one.days_until_confirmed is None else f"{one.days_until_confirmed:.0f}"
            yield (
                f"  {'':14} of {one.losses} losses caught {_number(one.caught)}, before the last"
                f" use {_number(one.caught_before_last_use)}; {days} days until confirmed"
            )


def _gate(found: Evaluation) -> Iterable[str]:
    for line in found.gate:
        yield (
            f"GATE {'pass' if line.passed else 'fail'}  {line.slice} {line.measure}:"
            f" {_number(line.value)}, limit {line.limit}"
        )
    yield f"GATE {'pass' if found.passed else 'fail'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
