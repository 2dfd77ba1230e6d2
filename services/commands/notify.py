"""`perennial notify`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from services.commands.running import Json, configure_logging, fail, perform, read_or_fail

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from services.notifier.intervention_rows import AnyRow
    from services.notifier.rehearsal import Rehearsal
    from services.notifier.trials import Ending

app = typer.Typer(
    help="Messages: try a destination, see who would be told, send again what was given up.",
    no_args_is_help=True,
)

_LOOK_SECONDS = 0.2
_STATES = ("pending", "sending", "sent", "held", "restored", "dead", "cancelled")

T = TypeVar("T")


@app.command("test")
def notify_test(
    destination: Annotated[
        str,
        typer.Argument(
            help="slack:webhook, slack:<channel or user id>, email:<address>, webhook:<name>,"
            " apprise:<name>"
        ),
    ],
    *,
    wait: Annotated[float, typer.Option(min=1, max=600, help="for its end, in seconds")] = 60,
    as_json: Json = False,
) -> None:
    """Send one message there, by the queue, and say how that ended; exit code 1 unless it is taken.

    The notifier must be running. What was broken is tried anew: if this is taken, it is mended.
    """
    from services.notifier.domain.attempts import State  # noqa: PLC0415
    from services.notifier.routes import CHANNELS, SLACK  # noqa: PLC0415

    channel, _, address = destination.partition(":")
    if channel not in CHANNELS or not address:
        fail(f"a destination is {' or '.join(CHANNELS)}, a colon and an address", code=2)

    async def run(engine: "AsyncEngine") -> "Ending":
        from services.commands.auditing import audit  # noqa: PLC0415
        from shared.clock import system_clock  # noqa: PLC0415

        found = await _try(engine, f"{channel}:{address}", wait=wait)
        state = str(found.state)
        await audit(engine, "destination.tested", channel, at=system_clock(), state=state)
        return found

    if channel == SLACK and not as_json and (identity := slack_identity()) is not None:
        typer.echo(identity)
    found = _on_database(run)
    if as_json:
        said = {"state": found.state, "class": found.kind, "detail": found.detail}
        typer.echo(json.dumps(said))
    elif found.state is State.SENT:
        typer.echo(f"{destination} has taken it.")
    elif found.state in (State.PENDING, State.SENDING):
        rests = found.resting_until
        why = f"it may not be asked before {rests:%Y-%m-%d %H:%M:%S %Z}" if rests else ""
        hint = why or "is the notifier running, and this channel configured?"
        typer.echo(f"{destination}: nobody has sent it within {wait:g} s: {hint}")
    else:
        typer.echo(
            f"{destination}: {found.kind or found.state}: {found.detail or 'no more is known'}"
        )
    raise typer.Exit(0 if found.state is State.SENT else 1)


@app.command("route")
def notify_route(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT")],
    reason: Annotated[str, typer.Option(help="of the flag")] = "churn_risk",
    severity: Annotated[str, typer.Option(help="watch, at_risk or critical")] = "at_risk",
    *,
    as_json: Json = False,
) -> None:
    """Who would be told of a flag that came now, when and why; nothing is stored or sent."""
    from services.notifier import rehearsal, reloading  # noqa: PLC0415
    from services.notifier.domain.flags import reason_of  # noqa: PLC0415
    from services.notifier.domain.playbooks import severities_of  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415
    from services.notifier.taking import Staff  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415
    from shared.messages import Band  # noqa: PLC0415

    try:
        wanted, band = reason_of(reason), Band(severity)
    except ValueError as error:
        fail(f"{error}: see `perennial playbooks list` for reasons and severities", code=2)
    if band not in severities_of(wanted):
        fail(f"{reason} is never {severity}: {', '.join(severities_of(wanted))}", code=2)
    settings = read_or_fail(NotifierSettings)

    async def run(engine: "AsyncEngine") -> "Rehearsal":
        team = await asyncio.to_thread(
            reloading.open_team,
            settings.perennial_team_file,
            fallback_owner=settings.perennial_fallback_owner,
        )
        books = await asyncio.to_thread(reloading.open_playbooks, settings.perennial_playbooks)
        staff = Staff(roster=team.get, playbooks=books.get)
        desk = rehearsal.desk_of(settings, staff)
        async with engine.connect() as connection:
            try:
                return await rehearsal.rehearse(
                    connection, account, desk, reason=wanted, severity=band, now=system_clock()
                )
            finally:
                await connection.rollback()

    found = _on_database(run)
    if as_json:
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode(found).decode())
    else:
        _print_rehearsal(account, found)


@app.command("again")
def notify_again(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="as `notify list` shows it")],
) -> None:
    """Send once more what was given up (dead), or what nobody knows the end of (held)."""
    from services.notifier import queue  # noqa: PLC0415

    try:
        wanted = UUID(delivery)
    except ValueError:
        fail("an ID is one that `perennial notify list` shows", code=2)

    async def run(engine: "AsyncEngine") -> bool:
        from services.commands.auditing import audit  # noqa: PLC0415
        from shared.clock import system_clock  # noqa: PLC0415

        async with engine.begin() as connection:
            is_queued = await queue.again(connection, wanted)
        if is_queued:
            await audit(engine, "delivery.again", delivery, at=system_clock())
        return is_queued

    if not _on_database(run):
        fail("it is neither dead nor held, or a newer message waits that says all of it", code=1)
    typer.echo("It is sent again, unless nobody wants it any more by then.")


@app.command("release-restored")
def notify_release_restored(
    *,
    as_told: Annotated[
        bool,
        typer.Option("--as-told", help="send nothing: what waits counts as told to everybody"),
    ] = False,
) -> None:
    """After a restore: let messages go out again; what waits is sent, or counts as told.

    What people have got since the backup, they get once more without --as-told. Once and for good.
    """
    from services.notifier.restored import Waiting  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    settings = read_or_fail(NotifierSettings)

    async def run(engine: "AsyncEngine") -> Waiting | None:
        from services.commands.auditing import audit  # noqa: PLC0415
        from services.notifier import releasing  # noqa: PLC0415
        from shared.clock import system_clock  # noqa: PLC0415

        found = await releasing.release(engine, settings, as_told=as_told, clock=system_clock)
        if found is not None:
            how = "told" if as_told else "sent"
            await audit(engine, "restore.released", how, at=system_clock())
        return found

    found = _on_database(run)
    if found is None:
        fail("nothing is held: this database was not restored, or has been released", code=1)
    said = f"{found.restored} that waited at the backup, {found.decided} decided since"
    how = "they count as told, nothing was sent" if as_told else "what is still wanted is sent"
    typer.echo(f"Released: {said}; {how}.")


@app.command("list")
def notify_list(
    state: Annotated[str, typer.Option(help=f"one of {', '.join(_STATES)}")] = "dead",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="the newest")] = 50,
    *,
    as_json: Json = False,
) -> None:
    """Messages in one state, the newest first."""
    from services.notifier import queue  # noqa: PLC0415

    if state not in _STATES:
        fail(f"--state is one of {', '.join(_STATES)}", code=2)

    async def run(engine: "AsyncEngine") -> "list[AnyRow]":
        async with engine.connect() as connection:
            return list(await queue.in_state(connection, state, limit=limit))

    found = _on_database(run)
    if as_json:
        for one in found:
            typer.echo(json.dumps(dict(one._mapping), default=str))  # noqa: SLF001
        return
    if not found:
        typer.echo(f"None is {state}.")
    for one in found:
        why = one.suppress_reason or one.last_class or ""
        said = f"  {one.last_detail}" if one.last_detail else ""
        about = one.account_id or one.kind
        typer.echo(
            f"{one.id}  {_moment(one.created_at)}  {one.destination}  {about}  {one.reason}"
            f"  {why}{said}"
        )


async def _try(engine: "AsyncEngine", destination: str, *, wait: float) -> "Ending":
    """Queue a trial, and wait for its end, but not longer than `wait` seconds."""
    from uuid import uuid4  # noqa: PLC0415

    from services.notifier import trials  # noqa: PLC0415
    from services.notifier.domain.attempts import State  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    async with engine.begin() as connection:
        trial = await trials.begin(connection, destination, nonce=uuid4(), now=system_clock())
    loop = asyncio.get_running_loop()
    ends = loop.time() + wait
    while True:
        async with engine.connect() as connection:
            found = await trials.ending(connection, trial)
        if found.state not in (State.PENDING, State.SENDING):
            return found
        if loop.time() >= ends:
            async with engine.begin() as connection:
                await trials.withdraw(connection, trial)
            return found
        await asyncio.sleep(_LOOK_SECONDS)


def slack_identity() -> str | None:
    """Whose bot token is set, as Slack says; None where there is none."""
    from services.notifier.channels import DeliveryError  # noqa: PLC0415
    from services.notifier.channels.slack_app import open_slack_app  # noqa: PLC0415
    from services.notifier.settings import NotifierSettings  # noqa: PLC0415

    settings = read_or_fail(NotifierSettings)
    token = settings.slack_bot_token
    if token is None:
        return None

    async def ask() -> str:
        limit = timedelta(seconds=settings.perennial_delivery_timeout_seconds)
        url = settings.perennial_slack_api_url
        async with open_slack_app(token, url=url, pace=timedelta(0), limit=limit) as slack:
            try:
                return f"Slack knows the bot token as {await slack.identity()}."
            except DeliveryError as error:
                return f"Slack does not take the bot token: {error.failure.detail}."

    return perform(ask())


def _print_rehearsal(account: str, found: "Rehearsal") -> None:
    if not found.is_known:
        typer.echo(f"The directory does not know {account}: it would be nobody's.")
    typer.echo(f"The flag would be: {found.taken}.")
    because = f" ({found.because})" if found.because else ""
    typer.echo(f"Owner: {found.owner}{because}. Playbook: {found.playbook}.")
    typer.echo(f"Due: {_moment(found.due_at)}.")
    if not found.words:
        typer.echo("Nobody would be told anything now.")
    for word in found.words:
        urgent = ", urgent" if word.urgent else ""
        if word.against is None:
            typer.echo(f"{word.destination}: {word.reason}{urgent}, at {_moment(word.due_at)}")
        else:
            typer.echo(f"{word.destination}: {word.reason}, but not sent: {word.against}")
    typer.echo("Nothing was stored.")


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}"


def _on_database(work: "Callable[[AsyncEngine], Awaitable[T]]") -> T:
    from services.process import open_backends  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    async def run() -> T:
        async with (
            open_backends(needs_database=True) as backends,
            open_engine(
                backends.database,
                application="perennial-notify",
                pool_size=1,
                pooling=backends.pooling,
            ) as engine,
        ):
            return await work(engine)

    configure_logging(quiet=True)
    return perform(run())
