"""`perennial playbooks`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.running import Json, configure_logging, fail, perform, read_or_fail

if TYPE_CHECKING:
    from services.notifier.domain.playbooks import Playbook, Playbooks
    from services.notifier.playbook_review import Change, Preview
    from shared.messages import Band

app = typer.Typer(
    help="What is done about each kind of work: the playbooks, and what others would do.",
    no_args_is_help=True,
)


@app.command("list")
def playbooks_list(*, as_json: Json = False) -> None:
    """The playbooks in force, in the order in which they are tried: the first that matches.

    Those of PERENNIAL_PLAYBOOKS, else ours.
    """
    found = _in_force().ordered
    if as_json:
        typer.echo(_encode(found))
        return
    width = max(len(one.name) for one in found)
    typer.echo(f"{'PLAYBOOK':{width}}  VERSION  TASKS  FOR")
    for one in found:
        typer.echo(
            f"{one.name:{width}}  {one.version:>7}  {len(one.tasks):>5}  {_match_in_words(one)}"
        )


@app.command("show")
def playbooks_show(
    name: Annotated[str, typer.Argument(help="as `perennial playbooks list` names it")],
    *,
    as_json: Json = False,
) -> None:
    """One playbook: whose, until when, its tasks, and who hears of it."""
    found = _in_force().named(name)
    if found is None:
        fail(f"there is no playbook {name}: see `perennial playbooks list`", code=1)
    if as_json:
        typer.echo(_encode(found))
    else:
        _print_playbook(found)


@app.command("check")
def playbooks_check(
    file: Annotated[Path, typer.Argument(help="a file, or a folder of *.yaml")],
    *,
    as_json: Json = False,
) -> None:
    """Whether playbooks would be accepted, and what they change; exit code 1 if they are refused.

    Every mistake is told with its file and line.
    """
    from services.notifier import playbook_review  # noqa: PLC0415

    theirs = _read(file, code=1)
    changes = playbook_review.changes(_in_force(), theirs)
    if as_json:
        typer.echo(_encode({"playbooks": len(theirs.ordered), "changes": changes}))
        return
    typer.echo(f"{file} is valid: {len(theirs.ordered)} playbooks.")
    _print_changes(changes)


@app.command("preview")
def playbooks_preview(
    folder: Annotated[
        Path | None, typer.Argument(help="playbooks to try; absent: those in force")
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="lines, at most")] = 20,
    as_json: Json = False,
) -> None:
    """Which playbook each open intervention would get if it opened now; nothing is changed.

    What is open keeps the playbook that it was opened with.
    """
    from services.notifier import playbook_review  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    ours = _in_force()
    theirs = ours if folder is None else _read(folder, code=2)

    async def run() -> "list[Preview]":
        async with (
            open_backends(needs_database=True) as backends,
            open_engine(
                backends.database,
                application="perennial-playbooks",
                pool_size=1,
                pooling=backends.pooling,
            ) as engine,
            engine.begin() as connection,
        ):
            return await playbook_review.preview(connection, ours=ours, theirs=theirs)

    configure_logging(quiet=True)
    found = perform(run())
    changes = playbook_review.changes(ours, theirs)
    if as_json:
        typer.echo(_encode({"interventions": found, "changes": changes}))
        return
    _print_preview(found, limit=limit)
    if folder is not None:
        _print_changes(changes)
    typer.echo("Nothing was changed.")


def _in_force() -> "Playbooks":
    from services.notifier import reloading  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415
    from shared.errors import Misconfigured  # noqa: PLC0415

    try:
        return reloading.open_playbooks(read_or_fail(NotifierSettings).perennial_playbooks).current
    except Misconfigured as error:
        fail(str(error), code=2)


def _read(path: Path, *, code: int) -> "Playbooks":
    from services.notifier import playbook_files  # noqa: PLC0415
    from services.notifier.yaml_files import FileRejected  # noqa: PLC0415

    try:
        read = playbook_files.of_folder if path.is_dir() else playbook_files.of_file
        return playbook_files.read(read(path))
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", code=2)
    except FileRejected as error:
        fail(f"{path} is refused\n{error}", code=code)


def _print_playbook(found: "Playbook") -> None:
    typer.echo(f"{found.name}, version {found.version}: {found.title}.")
    typer.echo(f"For: {_match_in_words(found)}")
    typer.echo(f"Owner: {found.owner}. Due in working days: {_days(found.due)}.")
    typer.echo(f"Told by: {', '.join(found.channels)}. Repeated after: {_days(found.repeat)}.")
    for number, task in enumerate(found.tasks, 1):
        when = "the same day" if task.due == 0 else f"day {task.due}"
        if task.before_notice is not None:
            when = f"{task.before_notice} days before notice, else {when}"
        whose = "" if task.owner == "owner" else f", {task.owner}"
        typer.echo(f"{number:>3}. {task.title} ({when}{whose})")
    if not found.escalation:
        typer.echo("It does not escalate.")
    for step in found.escalation:
        when = "at once" if step.after == 0 else f"after {step.after} working days"
        typer.echo(f"Unacknowledged {when}: {step.to} is told.")


def _print_preview(found: "Sequence[Preview]", *, limit: int) -> None:
    if not found:
        typer.echo("No intervention is open.")
        return
    now, then = Counter(one.before for one in found), Counter(one.playbook for one in found)
    width = max(len(name) for name in (*now, *then, "PLAYBOOK"))
    typer.echo(f"{len(found)} open interventions:")
    typer.echo(f"{'PLAYBOOK':{width}}  IN FORCE  THEN")
    for name in dict.fromkeys((*then, *now)):
        typer.echo(f"{name:{width}}  {now[name]:>8}  {then[name]:>4}")
    # What moves is what one wants to see; the rest only while there is room.
    shown = sorted(found, key=lambda one: not one.moves)[:limit]
    broad = max(len(one.account) for one in shown)
    for one in shown:
        gets = f"{one.before} -> {one.playbook}" if one.moves else one.playbook
        typer.echo(f"{one.account:{broad}}  {one.reason:19}  {one.severity:8}  {gets}")
    if len(found) > limit:
        typer.echo(f"Only {limit} are shown: --limit shows more.")


def _print_changes(changes: "Iterable[Change]") -> None:
    nothing = True
    for one in changes:
        nothing = False
        fields = f": {', '.join(one.fields)}" if one.fields else ""
        hint = ", but its version is the same: raise it" if one.same_version else ""
        typer.echo(f"  {one.name}: {one.what}{fields}{hint}")
    if nothing:
        typer.echo("They are the ones in force.")


def _match_in_words(one: "Playbook") -> str:
    match = one.match
    parts = [
        match.type,
        ", ".join(match.reasons),
        " or ".join(match.severity),
        f"segment {' or '.join(match.segment)}" if match.segment else None,
        f"value at risk from {match.value:,}" if match.value is not None else None,
        {"direct": "direct customers", "reseller": "customers of resellers"}.get(match.sold or ""),
    ]
    return "; ".join(part for part in parts if part) or "everything else"


def _days(by_severity: "Mapping[Band, int]") -> str:
    return ", ".join(f"{band} {days}" for band, days in by_severity.items()) or "never"


def _encode(found: object) -> str:
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(found).decode()
