"""`perennial evaluate`."""

import asyncio
import json
import signal
from collections.abc import Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from services.commands.running import Json, configure_logging, fail, perform

if TYPE_CHECKING:
    from services.scoring.evaluation.runs import Order, Report

T = TypeVar("T")
_Labels = Literal["true", "shuffled", "random"]
_Eligible = Literal["auto", "scored", "any"]


def evaluate(
    events: Annotated[
        Path,
        typer.Option(
            help="CSV, plain or .gz: account_id and event_ts, arrival_ts (epoch seconds);"
            " user_id, product (the feature), event_type. Or date (YYYYMMDD) instead of the times"
        ),
    ],
    accounts: Annotated[
        Path | None,
        typer.Option(help="CSV as `perennial import accounts` takes it: plan, segment, contract"),
    ] = None,
    from_year: Annotated[
        int | None, typer.Option("--from", metavar="YEAR", help="the first year that is tested")
    ] = None,
    as_of: Annotated[
        list[datetime] | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="look at the accounts as of the end of these days (repeat it) instead of every"
            " 28 days; each from the second on is tested on what was known before it",
        ),
    ] = None,
    horizon: Annotated[
        int, typer.Option(min=1, max=730, help="lost: no use in so many days after the look")
    ] = 90,
    eligible: Annotated[
        _Eligible,
        typer.Option(
            help="who takes part: accounts that the product gives a risk (scored), or all that"
            " were ever active (any); auto: scored, but any in files without arrival times"
        ),
    ] = "auto",
    lag_days: Annotated[
        int,
        typer.Option(min=0, max=365, help="without arrival times: received so many days later"),
    ] = 0,
    labels: Annotated[
        _Labels,
        typer.Option(help="a control: with shuffled or random outcomes the AUC must be about 0.5"),
    ] = "true",
    report: Annotated[
        Path | None, typer.Option(help="write a report with plots here, HTML in one file")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="a PostgreSQL server to work on: a database is created there and dropped."
            " By default one is started for this alone; DATABASE_URL is never used",
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """How good the risk would have been on the events of a file; exit code 1: it misses the gate.

    Replays the file in the order of arrival through the real intake and sweep, on a clock that
    follows it, and looks at the accounts every 28 days while what became of them is known. Each
    period (years; half-years in files of less than four, quarters in files of less than two) is
    then ranked by models that knew what came before it, from when a quarter of the file is over.

    The gate is asked of the model that is served. Over all accounts: AUC at least 0.85, average
    precision 0.63, lift in the top tenth 2.8, calibration error at most 0.03. With 3 users and
    more in a year: AUC at least 0.82, average precision 0.31.

    A file without arrival times is a ledger: every account takes part. Under two years it is
    looked at twice, two horizons and one before its end: once to learn, once to test; the gate is
    an AUC of 0.80.
    """
    from services.scoring.evaluation.protocol import Wishes  # noqa: PLC0415
    from services.scoring.evaluation.runs import Order  # noqa: PLC0415

    configure_logging(quiet=True)
    _tell(
        Order(
            events=events,
            accounts=accounts,
            wishes=Wishes(
                first_year=from_year,
                as_of=tuple(moment.date() for moment in as_of or ()),
                horizon_days=horizon,
                eligible=None if eligible == "auto" else eligible,
            ),
            labels=labels,
            lag=timedelta(days=lag_days),
            database=database,
        ),
        report,
        as_json=as_json,
    )


def _tell(order: "Order", page: Path | None, *, as_json: bool) -> None:
    from services.scoring.evaluation.event_file import UnusableFile  # noqa: PLC0415
    from services.scoring.evaluation.page import as_html  # noqa: PLC0415
    from services.scoring.evaluation.text import as_text  # noqa: PLC0415

    if page is not None and not page.resolve().parent.is_dir():
        fail(f"--report: the folder of {page} does not exist", code=2)
    try:
        found = _run(order)
        if page is not None:
            page.write_text(as_html(found), encoding="utf-8")
    except UnusableFile as error:
        fail(str(error), code=2)
    except ArithmeticError as error:
        fail(str(error), code=1)
    except OSError as error:
        fail(f"--report: {error}", code=2)
    typer.echo(json.dumps(found.as_json(), allow_nan=False) if as_json else as_text(found))
    raise typer.Exit(0 if found.passed else 1)


def _run(order: "Order") -> "Report":
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from services.scoring.evaluation import runs  # noqa: PLC0415
    from services.scoring.models import read_prior  # noqa: PLC0415

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        inputs = runs.read_inputs(order)
        task = progress.add_task("replaying events", total=len(inputs.file.events))
        elapsed = runs.stopwatch()
        replayed = perform(
            _until_sigterm(
                runs.replay_inputs(
                    inputs, order.database, lambda count: progress.advance(task, count)
                )
            )
        )
        seconds = elapsed()
        progress.add_task("fitting and measuring", total=None, visible=True)
        return runs.evaluate_replayed(
            order, inputs, replayed, prior=read_prior(), replay_seconds=seconds
        )


async def _until_sigterm(work: Coroutine[Any, Any, T]) -> T:
    """As Ctrl-C does, SIGTERM ends the work and what it has started: a server and its folder."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if task.cancelled():
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise
