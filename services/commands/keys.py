"""`perennial keys`."""

import json
import re
from datetime import timedelta
from typing import Annotated

import typer

from services.commands.running import configure_logging, fail, perform
from shared.credentials import Scope

app = typer.Typer(help="Keys of the sources that send events.", no_args_is_help=True)

SOURCE = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_CONSOLE_SOURCE = "perennial-console"


@app.command("create")
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
            " accounts. backfill: send events of any age, beside events:write. erase: erase"
            " accounts and people. accounts:read: ask the read API. interventions:read,"
            " interventions:write: work, in the notifier's API, as a manager. settings:read: what"
            " is set, and the audit log. settings:write: as an admin, who may name others."
            " Default: events:write and accounts:write"
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

    if not SOURCE.fullmatch(source):
        fail("--source takes 1 to 100 letters, digits, dots, dashes and underscores", code=2)

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

    configure_logging(quiet=True)
    secret = perform(run())
    if not plain:
        typer.echo(f"The key of {source}; it is shown this once:")
    typer.echo(secret)


@app.command("list")
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

    configure_logging(quiet=True)
    found = sorted(perform(run()), key=lambda key: (key.source, key.created_at))
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


@app.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(help="as `keys list` shows it")]) -> None:
    """End a key; it is refused within a second."""
    from services import keys  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    async def run() -> None:
        async with open_backends(needs_database=False) as backends:
            await keys.revoke(backends.log, key_id=key_id, now=system_clock())

    configure_logging(quiet=True)
    perform(run())
    typer.echo(f"{key_id} is revoked.")
