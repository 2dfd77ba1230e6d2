"""`perennial report`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.running import configure_logging, fail, perform, read_or_fail

if TYPE_CHECKING:
    from services.notifier.domain.periods import Period
    from services.report.readings import Readings


def report(
    *,
    month: Annotated[
        str | None, typer.Option(help="such as 2026-10; default: the last one that is over")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the file; `-` for stdout; default: by the month's name")
    ] = None,
) -> None:
    """The monthly review as one HTML page: nothing in it is fetched, and it prints well.

    Renewals against the target, churn, revenue, by owner, segment and sales, what came of
    interventions, goals, the forecast, and what to look at next month. Nothing is changed.
    """
    from datetime import UTC  # noqa: PLC0415

    from services.notifier.domain import periods  # noqa: PLC0415
    from services.report import page  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    today = system_clock().astimezone(UTC).date()
    this = periods.month(today.year, today.month)
    period = periods.month_before(this)
    if month is not None:
        found = periods.period_of(month, today=today)
        if found is None or len(month) != len("2026-10"):
            fail(f"--month {month} is no month: write it as {period.name}", code=2)
        if found.first > today:
            fail(f"{found.title} has not begun", code=2)
        period = found
    configure_logging(quiet=True)
    whole = page.render(perform(_read(period)))
    if out is not None and str(out) == "-":
        sys.stdout.write(whole)
        return
    target = out or Path(f"perennial-review-{period.name}.html")
    try:
        target.write_text(whole, encoding="utf-8")
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}", code=1)
    typer.echo(f"{target}: the review of {period.title}, {len(whole.encode()) // 1024:,} kB.")


async def _read(period: "Period") -> "Readings":
    from services.process import open_backends  # noqa: PLC0415
    from services.report import readings  # noqa: PLC0415
    from services.scoring.settings import ScoringSettings  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    rules = read_or_fail(ScoringSettings).rules
    async with (
        open_backends(needs_database=True) as backends,
        open_engine(
            backends.database, application="perennial-report", pool_size=4, pooling=backends.pooling
        ) as engine,
        readings.open_scoring(engine, rules=rules, clock=system_clock) as scoring,
    ):
        return await readings.read(scoring, engine, period, system_clock())
