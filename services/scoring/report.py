"""An evaluation as a table for a terminal."""

from services.scoring.evaluation import Evaluation, Measured

_SLICES = {"all": "all accounts", "team": "3 users and more"}


def as_text(found: Evaluation) -> str:
    """Counts, a table per slice, and the gate line by line."""
    lines = [
        (
            f"{found.rows:,} rows of {found.accounts:,} accounts, {found.lost:,} lost;"
            f" {found.tested:,} rows tested, each year on a model fitted before it"
        ),
    ]
    for name, title in _SLICES.items():
        if name not in found.results:
            continue
        lines += ["", f"{title:26}  AUC (95 %)            AP   lift@10 %   ECE"]
        lines += [_row(ranking, one) for ranking, one in found.results[name].items()]
    lines.append("")
    lines += [
        f"GATE {'pass' if line.passed else 'fail'}  {line.slice} {line.measure}:"
        f" {line.value:.3f}, limit {line.limit}"
        for line in found.gate
    ]
    return "\n".join(lines)


def _row(ranking: str, one: Measured) -> str:
    error = "" if one.ece is None else f"{one.ece:.3f}"
    return (
        f"{ranking:26}  {one.auc:.3f} ({one.auc_low:.3f}-{one.auc_high:.3f})"
        f"  {one.average_precision:.3f}  {one.lift_at_10_percent:8.2f}  {error:>6}"
    )
