"""`perennial keys`."""

import json
import re
from datetime import timedelta
from typing import Annotated

import typer

from services.commands.running import Json, configure_logging, fail, perform
from shared.credentials import NewKey, Scope
from shared.messages import WriteKey

app = typer.Typer(help="Keys of the sources that send events.", no_args_is_help=True)

SOURCE = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_CONSOLE_SOURCE = "perennial-console"

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="as `keys list` shows it")]


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
    as_json: Json = False,
) -> None:
    """Make a key and show it once; only its hash is kept."""
    from services import keys  # noqa: PLC0415
    from services.commands.auditing import audit  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    if not SOURCE.fullmatch(source):
        fail("--source takes 1 to 100 letters, digits, dots, dashes and underscores", code=2)

    async def run() -> NewKey:
        scopes, now = scope or [Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE], system_clock()
        async with open_backends(needs_database=False) as backends:
            made = await keys.create(
                backends.log,
                source=source,
                scopes=scopes,
                now=now,
                valid=None if days is None else timedelta(days=days),
            )
            await audit(
                backends,
                "key.created",
                made.record.key_id,
                at=now,
                source=source,
                scopes=" ".join(scopes),
            )
        return made

    configure_logging(quiet=True)
    _tell_new(perform(run()), plain=plain, as_json=as_json)


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


@app.command("rotate")
def keys_rotate(
    key_id: KeyId,
    overlap_days: Annotated[
        int, typer.Option(min=0, help="so long the old one still works; 0: it ends now")
    ] = 7,
    days: Annotated[
        int | None, typer.Option(min=1, help="the new one expires after so many days")
    ] = None,
    *,
    plain: Annotated[bool, typer.Option("--plain", help="the key alone on the last line")] = False,
    as_json: Json = False,
) -> None:
    """Make another key for the same source and scopes; the old one ends in a week."""
    from services import keys  # noqa: PLC0415
    from services.commands.auditing import audit  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    async def run() -> tuple[NewKey, WriteKey]:
        now = system_clock()
        async with open_backends(needs_database=False) as backends:
            made, old = await keys.rotate(
                backends.log,
                key_id=key_id,
                now=now,
                overlap=timedelta(days=overlap_days),
                valid=None if days is None else timedelta(days=days),
            )
            await audit(
                backends, "key.rotated", key_id, at=now, source=old.source, to=made.record.key_id
            )
        return made, old

    configure_logging(quiet=True)
    made, old = perform(run())
    _tell_new(made, old, plain=plain, as_json=as_json)


@app.command("revoke")
def keys_revoke(key_id: KeyId, *, as_json: Json = False) -> None:
    """End a key; it is refused within a second."""
    from services import keys  # noqa: PLC0415
    from services.commands.auditing import audit  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    async def run() -> None:
        now = system_clock()
        async with open_backends(needs_database=False) as backends:
            ended = await keys.revoke(backends.log, key_id=key_id, now=now)
            await audit(backends, "key.revoked", key_id, at=now, source=ended.source)

    configure_logging(quiet=True)
    perform(run())
    if as_json:
        typer.echo(json.dumps({"key_id": key_id, "state": "revoked"}))
    else:
        typer.echo(f"{key_id} is revoked.")


def _tell_new(made: NewKey, old: WriteKey | None = None, *, plain: bool, as_json: bool) -> None:
    """The one time that its secret is shown."""
    record = made.record
    ends = None if old is None or old.expires_at is None else old.expires_at
    if as_json:
        said: dict[str, object] = {
            "key": made.secret,
            "key_id": record.key_id,
            "source": record.source,
            "scopes": record.scopes,
            "expires_at": record.expires_at and record.expires_at.isoformat(),
        }
        if old is not None:
            said["replaces"] = {"key_id": old.key_id, "expires_at": ends and ends.isoformat()}
        typer.echo(json.dumps(said))
        return
    if not plain:
        if old is not None and ends is not None:
            typer.echo(f"{old.key_id} works until {ends:%Y-%m-%d %H:%M} UTC.")
        typer.echo(f"The key of {record.source}; it is shown this once:")
    typer.echo(made.secret)
