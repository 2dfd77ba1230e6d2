"""`perennial team`."""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.running import fail

app = typer.Typer(help="Who works here, and whose the accounts are.", no_args_is_help=True)


@app.command("check")
def team_check(file: Annotated[Path, typer.Argument(help="a team file (YAML)")]) -> None:
    """Whether a team file would be accepted; exit code 1, with file and line, if it is refused."""
    from services.notifier import playbook_files, team  # noqa: PLC0415
    from services.notifier.yaml_files import FileRejected  # noqa: PLC0415

    try:
        roster = team.read(playbook_files.of_file(file))
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", code=2)
    except FileRejected as error:
        fail(f"{file} is refused\n{error}", code=1)
    typer.echo(
        f"{file} is valid: {len(roster.people)} people, {len(roster.teams)} teams,"
        f" {len(roster.assignments)} assignment rules, {len(roster.resellers)} resellers."
    )
    for address in team.strangers(roster):
        typer.echo(f"  {address} is not among the people: told at any hour, and has no Slack id.")


@app.callback()
def _group() -> None:
    """Keep `check` a word of its own."""
