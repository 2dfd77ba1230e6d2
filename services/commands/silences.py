"""`perennial silences`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID, uuid4

import typer

from services.commands.running import Json, fail, on_database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.notifier.domain.silences import Matchers, Silence

app = typer.Typer(
    help="What nobody wants to hear of for a while: said by somebody, with a reason and an end.",
    no_args_is_help=True,
)

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_REFUSED = {
    "matches_all": "name at least one of --account, --owner, --segment, --reseller, --type,"
    " --reason: a silence of everything is not taken",
    "no_comment": "say why with --comment",
    "backwards": "it would end before it begins",
    "past": "it would be over already",
    "too_long": "at most 180 days",
}


@app.command("add")
def silences_add(
    comment: Annotated[str, typer.Option(help="why")],
    lasts: Annotated[str, typer.Option("--for", help="such as 12h, 3d or 2w")],
    author: Annotated[str, typer.Option(help="whose it is, an e-mail address")],
    *,
    account: Annotated[str | None, typer.Option(help="an account's id")] = None,
    owner: Annotated[str | None, typer.Option(help="e-mail of who has the work")] = None,
    segment: Annotated[str | None, typer.Option()] = None,
    reseller: Annotated[str | None, typer.Option()] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="land, adopt, expand, renew, win_back")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="such as usage_drop")] = None,
    starts: Annotated[
        datetime | None,
        typer.Option("--from", help="UTC; default: now", formats=["%Y-%m-%dT%H:%M"]),
    ] = None,
) -> None:
    """Silence what matches all that is named; prints its id. What is told already stays told."""
    from services.notifier import audit, silences  # noqa: PLC0415
    from services.notifier.domain.silences import Matchers, Silence  # noqa: PLC0415

    now = datetime.now(UTC)
    starts_at = now if starts is None else starts.replace(tzinfo=UTC)
    silence = Silence(
        id=uuid4(),
        matchers=_checked(
            Matchers(
                account=account,
                owner=owner,
                segment=segment,
                reseller=reseller,
                type=kind,
                reason=reason,
            )
        ),
        starts_at=starts_at,
        ends_at=starts_at + _length(lasts),
        author=author,
        comment=comment,
        created_at=now,
    )
    refused = on_database(
        lambda connection: silences.add(connection, silence, by=audit.COMMAND, now=now)
    )
    if refused is not None:
        fail(_REFUSED[refused.value], code=2)
    typer.echo(str(silence.id))


@app.command("list")
def silences_list(
    *,
    every: Annotated[bool, typer.Option("--all", help="also those over")] = False,
    as_json: Json = False,
) -> None:
    """The silences that hold, or will."""
    from services.notifier import silences  # noqa: PLC0415

    now = datetime.now(UTC)

    async def found(connection: "AsyncConnection") -> "Sequence[Silence]":
        if every:
            return await silences.history(connection)
        return await silences.ahead(connection, now=now)

    rows = on_database(found)
    if as_json:
        typer.echo(json.dumps([_view(one, now) for one in rows], indent=1))
        return
    for one in rows:
        typer.echo(
            f"{one.id}  {one.state(now).value:8}  until {one.ends_at:%Y-%m-%d %H:%M} UTC"
            f"  {_in_words(one.matchers)}  ({one.author}: {one.comment})"
        )


@app.command("expire")
def silences_expire(silence: Annotated[UUID, typer.Argument(help="its id")]) -> None:
    """End a silence now; what it kept quiet is decided anew within seconds."""
    from services.notifier import audit, silences  # noqa: PLC0415

    now = datetime.now(UTC)
    if not on_database(
        lambda connection: silences.expire(connection, silence, by=audit.COMMAND, now=now)
    ):
        fail("there is no such silence, or it is over", code=1)


def _checked(matchers: "Matchers") -> "Matchers":
    """Names that exist: what is misspelt would never match, and nobody would notice."""
    from services.notifier.domain.flags import Kind, reason_of  # noqa: PLC0415

    try:
        if matchers.type is not None:
            Kind(matchers.type)
        if matchers.reason is not None:
            reason_of(matchers.reason)
    except ValueError as error:
        fail(f"there is no such type or reason: {error}", code=2)
    return matchers


def _length(text: str) -> timedelta:
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS or len(number) > 4:
        fail("--for is a number and h, d or w, such as 3d", code=2)
    return int(number) * _UNITS[unit]


def _in_words(matchers: "Matchers") -> str:
    return " ".join(f"{name}={value}" for name, value in _named(matchers).items())


def _named(matchers: "Matchers") -> dict[str, str]:
    import msgspec  # noqa: PLC0415

    return {name: value for name, value in msgspec.structs.asdict(matchers).items() if value}


def _view(one: "Silence", now: datetime) -> dict[str, object]:
    return {
        "id": str(one.id),
        "state": one.state(now).value,
        "matchers": _named(one.matchers),
        "starts_at": one.starts_at.isoformat(),
        "ends_at": one.ends_at.isoformat(),
        "author": one.author,
        "comment": one.comment,
    }
