"""`perennial sources`."""

import json
from typing import Annotated

import msgspec
import typer

from services.commands.keys import SOURCE
from services.commands.running import configure_logging, fail, perform
from shared.messages import Source

app = typer.Typer(
    help="How the events of each source are read: names of types, the account of those without.",
    no_args_is_help=True,
)


@app.command("set")
def set_source(
    name: Annotated[str, typer.Argument(help="as its keys name it")],
    type_map: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="theirs=ours, as trial_started=onboarding_milestone; repeat it. Theirs is read in"
            " lower case, with _ for blanks and dashes. theirs= takes the entry back",
        ),
    ] = None,
    default_account: Annotated[
        str | None,
        typer.Option(help="account of events that name none; empty: the one of their user, if any"),
    ] = None,
    account_group: Annotated[
        str | None,
        typer.Option(
            help="PostHog's group type that is the account; empty: company, else the only one"
        ),
    ] = None,
) -> None:
    """Change what is named here; the rest stays. It holds within a second, for what comes then."""
    from services import sources  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415

    if not SOURCE.fullmatch(name):
        fail("a source has 1 to 100 letters, digits, dots, dashes and underscores", code=2)
    entries = dict(_entry(stated) for stated in type_map or [])

    async def run() -> Source:
        async with open_backends(needs_database=False) as backends:
            before = {source.name: source for source in await sources.read_all(backends.log)}
            known = before.get(name) or Source(name=name)
            merged = {**known.type_map, **entries}
            changed = msgspec.structs.replace(
                known,
                type_map={theirs: ours for theirs, ours in merged.items() if ours},
                default_account=_changed(default_account, known.default_account),
                account_group=_changed(account_group, known.account_group),
            )
            await sources.describe(backends.log, changed)
            return changed

    configure_logging(quiet=True)
    typer.echo(_line(perform(run())))


@app.command("list")
def list_sources(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """All sources that have a key or settings."""
    from services import sources  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415

    async def run() -> list[Source]:
        async with open_backends(needs_database=False) as backends:
            return await sources.read_all(backends.log)

    configure_logging(quiet=True)
    for source in perform(run()):
        typer.echo(json.dumps(msgspec.to_builtins(source)) if as_json else _line(source))


def _entry(stated: str) -> tuple[str, str]:
    from services.ingest.identity import type_of  # noqa: PLC0415
    from shared.errors import InvalidMessage  # noqa: PLC0415

    theirs, equals, ours = stated.partition("=")
    if not equals:
        fail(f"--type takes theirs=ours, not {stated}", code=2)
    try:
        return type_of(theirs), type_of(ours) if ours else ""
    except InvalidMessage as error:
        fail(f"--type {stated}: {error.detail}", code=2)


def _changed(stated: str | None, before: str | None) -> str | None:
    return before if stated is None else stated or None


def _line(source: Source) -> str:
    said = [f"{theirs}={ours}" for theirs, ours in sorted(source.type_map.items())]
    if source.default_account is not None:
        said.append(f"default account {source.default_account}")
    if source.account_group is not None:
        said.append(f"account group {source.account_group}")
    return f"{source.name}: {', '.join(said) or 'as they come'}"
