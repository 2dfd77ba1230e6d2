"""The `perennial` command line: reading settings, logging and signals live here alone."""

import asyncio
from importlib.metadata import version
from typing import Annotated

import typer

from services.commands import (
    doctor,
    erase,
    evaluate,
    flags,
    imports,
    insights,
    keys,
    lag,
    models,
    notify,
    outbox,
    playbooks,
    quarantine,
    report,
    secrets,
    silences,
    sources,
    team,
    users,
)
from services.commands.running import configure_logging, fail, perform

app = typer.Typer(
    name="perennial",
    help="Event-driven churn-risk alerting for SaaS vendors.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(*, asked: bool) -> None:
    if asked:
        typer.echo(f"perennial {version('perennial')}")
        raise typer.Exit


@app.callback()
def perennial(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="say it and leave"),
    ] = False,
) -> None:
    """Event-driven churn-risk alerting for SaaS vendors."""


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
        fail(f"--service is one of: {', '.join(Service)}", code=2)

    async def run() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await run_process(chosen, stop)

    configure_logging()
    perform(run(), is_service=True)


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

    configure_logging(quiet=True)
    perform(run(once=once))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema and create missing topics; safe to repeat.

    It runs as the owner of the tables, and grants to the services' roles what each needs. Where
    PERENNIAL_SCORING_KEY is set, it makes that key known to the services.
    """
    from services import keys  # noqa: PLC0415
    from services.process import grant, open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415
    from shared.credentials import Secret  # noqa: PLC0415
    from shared.settings import LogSettings, ProcessSettings, read  # noqa: PLC0415

    async def run() -> tuple[str, ...]:
        async with open_backends(needs_database=True, prepare=True) as backends:
            if (key := read(ProcessSettings).perennial_scoring_key) is not None:
                secret = Secret(key.get_secret_value())
                await keys.announce_console(backends.log, secret, now=system_clock())
            url = backends.pooling.direct(backends.database)
            return await grant(url, read(LogSettings))

    configure_logging(quiet=True)
    roles = perform(run())
    typer.echo("The schema is the newest one, and all topics exist.")
    if roles:
        typer.echo(f"Rights are granted to {', '.join(roles)}.")


app.command()(doctor.doctor)
app.command()(lag.lag)
app.command()(outbox.outbox)
app.add_typer(secrets.app, name="secrets")
app.add_typer(keys.app, name="keys")
app.add_typer(sources.app, name="sources")
app.add_typer(imports.app, name="import")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(erase.app, name="erase")
app.add_typer(flags.app, name="flags")
app.add_typer(insights.app, name="insights")
app.add_typer(playbooks.app, name="playbooks")
app.add_typer(team.app, name="team")
app.add_typer(users.app, name="users")
app.add_typer(silences.app, name="silences")
app.add_typer(notify.app, name="notify")
app.add_typer(models.train, name="train")
app.add_typer(models.app, name="models")
app.command()(evaluate.evaluate)
app.command()(report.report)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
