"""`perennial import`."""

import os
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.running import Json, configure_logging, fail, perform, read_or_fail
from shared.settings import ProcessSettings

if TYPE_CHECKING:
    from services.importing.imports import Order
    from services.importing.report import ImportSummary

app = typer.Typer(help="Load CSV files (plain or .gz) through the API.", no_args_is_help=True)

ImportFile = Annotated[Path, typer.Argument(help="CSV with a header, plain or .gz")]
EventsMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="field=column, where the names differ; repeat it. Fields: id, account_id, user_id,"
        " type, occurred_at, feature; any other name becomes a property",
    ),
]
AccountsMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="field=column, where the names differ; repeat it. Fields: id, name, plan, segment,"
        " reseller, seats, mrr, margin_per_month, currency, region, timezone, owner,"
        " contract_start, contract_end, notice_days, billing_period, status, churned_at, goals",
    ),
]
ImportKey = Annotated[str, typer.Option(envvar="PERENNIAL_KEY", help="a key of the source")]
ImportUrl = Annotated[str | None, typer.Option(help="ingest; default: this machine, INGEST_PORT")]
Rejects = Annotated[Path | None, typer.Option(help="write every rejected row here, as CSV")]
FromStart = Annotated[
    bool, typer.Option("--from-start", help="forget where an interrupted import stood")
]


@app.command("events")
def import_events(
    file: ImportFile,
    key: ImportKey,
    mapping: EventsMap = None,
    url: ImportUrl = None,
    default_type: Annotated[
        str, typer.Option("--type", help="type of all events, where no column says it")
    ] = "activity",
    timezone: Annotated[
        str | None, typer.Option(help="IANA zone of times that have no offset")
    ] = None,
    rejects: Rejects = None,
    *,
    from_start: FromStart = False,
    as_json: Json = False,
) -> None:
    """Load usage events; the key needs the scope backfill. Twice is the same as once."""
    from services.importing import imports  # noqa: PLC0415

    order = _order(file, key, mapping, url, rejects, from_start=from_start)
    _report(
        imports.import_events(order, default_type=default_type, timezone=timezone),
        as_json=as_json,
    )


@app.command("accounts")
def import_accounts(
    file: ImportFile,
    key: ImportKey,
    mapping: AccountsMap = None,
    url: ImportUrl = None,
    rejects: Rejects = None,
    *,
    from_start: FromStart = False,
    as_json: Json = False,
) -> None:
    """Load accounts into the directory; empty cells leave what is known."""
    from services.importing import imports  # noqa: PLC0415

    order = _order(file, key, mapping, url, rejects, from_start=from_start)
    _report(imports.import_accounts(order), as_json=as_json)


def _order(
    file: Path,
    key: str,
    mapping: list[str] | None,
    url: str | None,
    rejects: Path | None,
    *,
    from_start: bool,
) -> "Order":
    from rich.console import Console  # noqa: PLC0415

    from services.importing.errors import Unusable  # noqa: PLC0415
    from services.importing.imports import Order  # noqa: PLC0415
    from services.importing.mapping import parse_mapping  # noqa: PLC0415

    try:
        fields = parse_mapping(mapping or [])
    except Unusable as error:
        fail(str(error), code=2)
    return Order(
        path=file,
        url=url or f"http://127.0.0.1:{os.environ.get('INGEST_PORT') or 8080}",
        key=key,
        data_dir=read_or_fail(ProcessSettings).perennial_data_dir,
        console=Console(stderr=True),
        mapping=fields,
        rejects=rejects,
        from_start=from_start,
    )


def _report(work: "Coroutine[Any, Any, ImportSummary]", *, as_json: bool) -> None:
    from services.importing.errors import Unusable  # noqa: PLC0415

    configure_logging(quiet=True)
    try:
        summary = perform(work, usage=Unusable)
    finally:
        work.close()
    if as_json:
        typer.echo(summary.to_json())
    raise typer.Exit(summary.exit_code)
