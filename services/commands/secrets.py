"""`perennial secrets`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from services.commands.running import Json, fail

app = typer.Typer(help="The secrets of a deployment, as files.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """`init` stays a name of its own beside others to come."""


@app.command("init")
def secrets_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="made if it is not there")],
    postgres: Annotated[
        str, typer.Option(help="host:port of PostgreSQL, as the services reach it")
    ] = "postgres:5432",
    database: Annotated[str, typer.Option(help="name of the database")] = "perennial",
    *,
    as_json: Json = False,
) -> None:
    """Make the secrets that are missing; none that is there is changed, and none is shown.

    Each is a file that its user alone can read, to be named by a variable that ends in _FILE. Back
    them up: without user_hash.key nobody who used the product before is known again.
    """
    from services.deployment_secrets import Database, make_missing  # noqa: PLC0415

    host, _, port = postgres.rpartition(":")
    if not (host and port.isdecimal()):
        fail("--postgres is host:port, such as postgres:5432", code=2)
    at = Database(host=host, port=int(port), name=database)
    try:
        made = make_missing(folder, at, now=datetime.now(UTC))
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror}; its user must own it", code=1)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "made": made}))
    elif made:
        typer.echo(f"Made in {folder}: {', '.join(made)}.")
    else:
        typer.echo(f"All secrets are in {folder} already; nothing was changed.")
