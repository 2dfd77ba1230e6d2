"""`perennial users`."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from services.commands.running import Json, fail, on_database, read_or_fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.notifier.users import User

app = typer.Typer(
    help="Who may sign in to the console, and in which role: viewer, csm, manager, admin.",
    no_args_is_help=True,
)

Address = Annotated[str, typer.Argument(help="an e-mail address")]


@app.command("add")
def users_add(
    address: Address,
    role: Annotated[str, typer.Option(help="viewer, csm, manager or admin")],
    *,
    as_json: Json = False,
) -> None:
    """Add a user; prints a link that works once, for 24 hours, to choose a password by.

    Where people come in by the identity provider, nobody needs the link.
    """
    from services.notifier import audit, users  # noqa: PLC0415
    from services.notifier.domain.access import Role  # noqa: PLC0415
    from services.notifier.domain.people import is_mail_address  # noqa: PLC0415

    if not is_mail_address(address):
        fail("the user is named by an e-mail address, such as anna@example.com", code=2)
    kind, now, console_url = Role(_role(role)), datetime.now(UTC), _console_url()
    token = on_database(
        lambda connection: users.add(connection, address, kind, by=audit.COMMAND, now=now)
    )
    if token is None:
        fail(f"{address} is a user already: see `perennial users reset`", code=1)
    _tell_link(address, f"{console_url}/welcome/{token}", now=now, as_json=as_json)


@app.command("reset")
def users_reset(address: Address, *, as_json: Json = False) -> None:
    """Another link; the password until now, and who is signed in with it, is out at once."""
    from services.notifier import audit, users  # noqa: PLC0415

    now, console_url = datetime.now(UTC), _console_url()
    token = on_database(
        lambda connection: users.reset(connection, address, by=audit.COMMAND, now=now)
    )
    if token is None:
        _fail_unknown(address)
    _tell_link(address, f"{console_url}/welcome/{token}", now=now, as_json=as_json)


@app.command("list")
def users_list(*, as_json: Json = False) -> None:
    """All users, with their roles and when they were last seen."""
    from services.notifier import users  # noqa: PLC0415

    found: Sequence[User] = on_database(users.read_all)
    if as_json:
        typer.echo(json.dumps([_view(one) for one in found], indent=1))
        return
    width = max((len(one.address) for one in found), default=7)
    typer.echo(f"{'ADDRESS':{width}}  {'ROLE':7}  {'STATE':8}  LAST SEEN")
    for one in found:
        seen = f"{one.last_seen_at:%Y-%m-%d %H:%M} UTC" if one.last_seen_at else "never"
        typer.echo(f"{one.address:{width}}  {one.role.value:7}  {one.state:8}  {seen}")


@app.command("role")
def users_role(
    address: Address,
    role: Annotated[str, typer.Argument(help="viewer, csm, manager or admin")],
    *,
    as_json: Json = False,
) -> None:
    """Give a user another role; it holds from their next click on."""
    from services.notifier import audit, users  # noqa: PLC0415
    from services.notifier.domain.access import Role  # noqa: PLC0415

    kind, now = Role(_role(role)), datetime.now(UTC)

    async def change(connection: "AsyncConnection") -> bool:
        return await users.set_role(connection, address, kind, by=audit.COMMAND, now=now)

    _change(address, change, said=f"{address} is {kind.value} now.", as_json=as_json)


@app.command("disable")
def users_disable(address: Address, *, as_json: Json = False) -> None:
    """Shut a user out, at once and wherever they are signed in."""
    from services.notifier import audit, users  # noqa: PLC0415

    now = datetime.now(UTC)

    async def change(connection: "AsyncConnection") -> bool:
        return await users.disable(connection, address, by=audit.COMMAND, now=now)

    _change(address, change, said=f"{address} is shut out.", as_json=as_json)


@app.command("enable")
def users_enable(address: Address, *, as_json: Json = False) -> None:
    """Let a user in again who was disabled, with the password they had."""
    from services.notifier import audit, users  # noqa: PLC0415

    now = datetime.now(UTC)

    async def change(connection: "AsyncConnection") -> bool:
        return await users.enable(connection, address, by=audit.COMMAND, now=now)

    _change(address, change, said=f"{address} may sign in again.", as_json=as_json)


def _role(text: str) -> str:
    from services.notifier.domain.access import Role  # noqa: PLC0415

    if text not in set(Role):
        fail(f"a role is one of: {', '.join(Role)}", code=2)
    return text


def _change(
    address: str,
    change: "Callable[[AsyncConnection], Awaitable[bool]]",
    *,
    said: str,
    as_json: bool,
) -> None:
    from services.notifier import users  # noqa: PLC0415

    async def changed(connection: "AsyncConnection") -> "User | None":
        return await users.read(connection, address) if await change(connection) else None

    user = on_database(changed)
    if user is None:
        _fail_unknown(address)
    typer.echo(json.dumps(_view(user)) if as_json else said)


def _fail_unknown(address: str) -> NoReturn:
    fail(f"there is no user {address}: `perennial users list` shows them all", code=1)


def _console_url() -> str:
    """Read before anything is written: a link that cannot be told would be lost."""
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    return read_or_fail(NotifierSettings).console_url


def _tell_link(address: str, link: str, *, now: datetime, as_json: bool) -> None:
    from services.notifier.users import INVITED_FOR  # noqa: PLC0415

    until = now + INVITED_FOR
    if as_json:
        said = {"address": address.lower(), "link": link, "until": until.isoformat()}
        typer.echo(json.dumps(said))
        return
    typer.echo(f"For {address}, once, until {until:%Y-%m-%d %H:%M} UTC:")
    typer.echo(link)


def _view(one: "User") -> dict[str, object]:
    return {
        "address": one.address,
        "role": one.role.value,
        "state": one.state,
        "created_at": one.created_at.isoformat(),
        "created_by": one.created_by,
        "last_seen_at": one.last_seen_at and one.last_seen_at.isoformat(),
    }
