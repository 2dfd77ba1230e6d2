"""The `perennial` command line: reading settings, logging and signals live here alone."""

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
import uvloop

from shared import logging as logs
from shared.credentials import Scope
from shared.errors import InvalidMessage, Misconfigured, PerennialError
from shared.settings import ProcessSettings, Settings, read

if TYPE_CHECKING:
    from services.importing.imports import Order
    from services.importing.report import ImportSummary

_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_CONSOLE_SOURCE = "perennial-console"

T = TypeVar("T")
S = TypeVar("S", bound=Settings)

app = typer.Typer(
    name="perennial",
    help="Event-driven churn-risk alerting for SaaS vendors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
keys_app = typer.Typer(help="Keys of the sources that send events.", no_args_is_help=True)
import_app = typer.Typer(
    help="Load CSV files (plain or .gz) through the API.", no_args_is_help=True
)
train_app = typer.Typer(help="Fit models.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(import_app, name="import")
app.add_typer(train_app, name="train")

Json = Annotated[bool, typer.Option("--json", help="one line of JSON instead of text")]
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
TrainingEvents = Annotated[
    Path,
    typer.Option(
        help="CSV, plain or .gz, with the columns event_ts and arrival_ts (epoch seconds),"
        " account_id, user_id, product (the feature), event_type"
    ),
]


@app.command()
def up(
    service: Annotated[
        list[str] | None,
        typer.Option(help="ingest, scoring or notifier, as a container runs it; default: all"),
    ] = None,
) -> None:
    """Run the services until Ctrl-C.

    Without DATABASE_URL and KAFKA_BOOTSTRAP_SERVERS it starts its own PostgreSQL and log.
    """
    from services.process import Service, run_process, stop_on_signals  # noqa: PLC0415

    try:
        chosen = {Service(name) for name in service or list(Service)}
    except ValueError:
        _fail(f"--service is one of: {', '.join(Service)}", code=2)

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await run_process(chosen, stop)

    _configure_logging()
    _run(run())


@app.command()
def demo(
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="stop when all is shown; the last line is JSON, for scripts"),
    ] = False,
) -> None:
    """Everything on this machine, with the use of a simulated vendor: see what a CSM would see."""
    from services.demo.command import run  # noqa: PLC0415

    _configure_logging(quiet=True)
    _run(run(once=once))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema and create missing topics; safe to repeat."""
    from services.process import open_backends  # noqa: PLC0415

    async def run() -> None:
        async with open_backends(needs_database=True):
            pass

    _configure_logging(quiet=True)
    _run(run())
    typer.echo("The schema is the newest one, and all topics exist.")


@keys_app.command("create")
def keys_create(
    source: Annotated[
        str,
        typer.Option(
            help="who uses it, as a name: 1 to 100 letters, digits, dots, dashes, underscores"
        ),
    ],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="what it may do; repeat it. events:write: send events. accounts:write: send"
            " accounts. backfill: send events of any age, beside events:write. accounts:read: ask"
            " the read API. Default: events:write and accounts:write"
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="it expires after so many days")] = None,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="the key alone on the last line")] = False,
) -> None:
    """Make a key and show it once; only its hash is kept."""
    from services import keys  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    if not _SOURCE.fullmatch(source):
        _fail("--source takes 1 to 100 letters, digits, dots, dashes and underscores", code=2)

    async def run() -> str:
        async with open_backends(needs_database=False) as backends:
            made = await keys.create(
                backends.log,
                source=source,
                scopes=scope or [Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE],
                now=system_clock(),
                valid=None if days is None else timedelta(days=days),
            )
        return made.secret

    _configure_logging(quiet=True)
    secret = _run(run())
    if not plain:
        typer.echo(f"The key of {source}; it is shown this once:")
    typer.echo(secret)


@keys_app.command("list")
def keys_list(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """All keys by source, with their scopes and whether they are live.

    The source perennial-console is the console's own key.
    """
    from services import keys  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415
    from shared.messages import WriteKey  # noqa: PLC0415

    async def run() -> list[WriteKey]:
        async with open_backends(needs_database=False) as backends:
            return await keys.read_all(backends.log)

    _configure_logging(quiet=True)
    found = sorted(_run(run()), key=lambda key: (key.source, key.created_at))
    now = system_clock()
    states = [
        "live" if keys.is_live(key, now) else "revoked" if key.revoked_at else "expired"
        for key in found
    ]
    if as_json:
        for key, state in zip(found, states, strict=True):
            typer.echo(
                json.dumps(
                    {
                        "key_id": key.key_id,
                        "source": key.source,
                        "scopes": key.scopes,
                        "state": state,
                        "created_at": key.created_at.isoformat(),
                        "expires_at": key.expires_at and key.expires_at.isoformat(),
                    }
                )
            )
        return
    width = max((len(key.source) for key in found), default=6)
    typer.echo(f"{'SOURCE':{width}}  {'KEY ID':12}  {'STATE':7}  {'CREATED':10}  SCOPES")
    for key, state in zip(found, states, strict=True):
        typer.echo(
            f"{key.source:{width}}  {key.key_id:12}  {state:7}  {key.created_at:%Y-%m-%d}"
            f"  {' '.join(key.scopes)}"
        )
    if any(key.source == _CONSOLE_SOURCE for key in found):
        typer.echo(f"{_CONSOLE_SOURCE} is the console's own key.")


@keys_app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="as `keys list` shows it")]) -> None:
    """End a key; it is refused within a second."""
    from services import keys  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    async def run() -> None:
        async with open_backends(needs_database=False) as backends:
            await keys.revoke(backends.log, key_id=key_id, now=system_clock())

    _configure_logging(quiet=True)
    _run(run())
    typer.echo(f"{key_id} is revoked.")


@import_app.command("events")
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


@import_app.command("accounts")
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


@train_app.command("prior")
def train_prior(
    events: TrainingEvents,
    out: Annotated[Path, typer.Option(help="the model file to write")],
) -> None:
    """Fit the weights that are served before a vendor has losses of its own to learn from."""
    from services.scoring.training import fit_prior, write  # noqa: PLC0415

    try:
        write(fit_prior(events), out)
    except (OSError, InvalidMessage) as error:
        _fail(str(error), code=2)
    typer.echo(f"Wrote {out}.")


@app.command()
def evaluate(
    events: TrainingEvents,
    *,
    as_json: Json = False,
) -> None:
    """How good the risk would have been, walk-forward; exit code 1 where it misses the gate.

    The gate is what the model that is served must reach. Over all accounts: AUC at least 0.85,
    average precision 0.63, lift in the top tenth 2.8, and a calibration error of at most 0.03.
    Over those with 3 users and more: AUC at least 0.82, average precision 0.31.
    """
    from services.scoring.evaluation import evaluate_served  # noqa: PLC0415
    from services.scoring.report import as_text  # noqa: PLC0415

    try:
        found = evaluate_served(events)
    except (OSError, InvalidMessage) as error:
        _fail(str(error), code=2)
    typer.echo(json.dumps(found.as_json()) if as_json else as_text(found))
    raise typer.Exit(0 if found.passed else 1)


def main() -> None:
    app()


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
        _fail(str(error), code=2)
    return Order(
        path=file,
        url=url or f"http://127.0.0.1:{os.environ.get('INGEST_PORT') or 8080}",
        key=key,
        data_dir=_read_or_fail(ProcessSettings).perennial_data_dir,
        console=Console(stderr=True),
        mapping=fields,
        rejects=rejects,
        from_start=from_start,
    )


def _report(work: "Coroutine[Any, Any, ImportSummary]", *, as_json: bool) -> None:
    from services.importing.errors import Unusable  # noqa: PLC0415

    _configure_logging(quiet=True)
    try:
        summary = _run(work, usage=Unusable)
    finally:
        work.close()
    if as_json:
        typer.echo(summary.to_json())
    raise typer.Exit(summary.exit_code)


def _configure_logging(*, quiet: bool = False) -> None:
    settings = _read_or_fail(ProcessSettings)
    level = settings.perennial_log_level
    if quiet and "PERENNIAL_LOG_LEVEL" not in os.environ:
        level = "warning"
    by_default = "console" if quiet or sys.stdout.isatty() else "json"
    logs.configure(level=level, form=settings.perennial_log_format or by_default)
    if quiet and "PERENNIAL_LOG_LEVEL" not in os.environ:
        # That Kafka is away is the command's own answer, in one sentence.
        for client in ("aiokafka", "kafka", "shared.log.kafka"):
            logging.getLogger(client).setLevel(logging.CRITICAL)


def _run(work: Coroutine[Any, Any, T], *, usage: type[PerennialError] = Misconfigured) -> T:
    """Run to the end; what has a designed answer is one line on stderr, never a traceback.

    Exit codes: 1 it went wrong, 2 (Misconfigured or `usage`) the caller must ask otherwise.
    """
    try:
        return uvloop.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (PerennialError, BaseExceptionGroup) as error:
        first = _first(error)
        if not isinstance(first, PerennialError):
            raise
        misused = isinstance(first, (Misconfigured, usage))
        _fail(str(first) or type(first).__name__, code=2 if misused else 1)


def _first(error: BaseException) -> BaseException:
    """What failed first, out of the groups that tasks wrap it in."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _read_or_fail(kind: type[S]) -> S:
    try:
        return read(kind)
    except Misconfigured as error:
        _fail(str(error), code=2)


def _fail(message: str, *, code: int) -> NoReturn:
    typer.echo(f"perennial: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
