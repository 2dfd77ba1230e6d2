"""`perennial doctor`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.running import Json, configure_logging, fail, perform

if TYPE_CHECKING:
    from services.doctor.findings import Finding


def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="settings, database, log, intake, scoring, keys, messages or care; repeat it"
        ),
    ] = None,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="exit code 1 for warnings, too")] = False,
    as_json: Json = False,
) -> None:
    """Look at everything this deployment stands on: what is wrong, and what to do about it.

    It changes nothing and sends nothing. Exit code 1: something that was promised does not hold.
    """
    from rich.console import Console  # noqa: PLC0415

    from services.doctor.examination import Examination  # noqa: PLC0415
    from services.doctor.findings import Area, State, worst  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    try:
        areas = {Area(one) for one in only or list(Area)}
    except ValueError:
        fail(f"--only is one of: {', '.join(Area)}", code=2)
    configure_logging(quiet=True)
    with Console(stderr=True).status("looking") as status:

        def on_progress(at: str) -> None:
            status.update(f"looking at {at}")

        found = perform(Examination(clock=system_clock, only=areas, on_progress=on_progress).run())
    state = worst(found)
    if as_json:
        typer.echo(json.dumps({"state": state, "findings": [one.as_json() for one in found]}))
    else:
        _print(found)
    is_bad = state is State.FAILED or (strict and state is State.WARNING)
    raise typer.Exit(1 if is_bad else 0)


def _print(found: "list[Finding]") -> None:
    for one in found:
        typer.echo(f"{one.state:8} {one.area:9} {one.what}")
        if one.do:
            typer.echo(f"{'':18} do: {one.do}")
