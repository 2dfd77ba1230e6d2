"""`perennial erase`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from services.commands.running import Json, configure_logging, fail, perform, read_or_fail
from shared.errors import Misconfigured
from shared.settings import DatabaseSettings, ProcessSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from services.erase import OnProgress, Outcome, Replayed, Subject
    from services.erasure_plan import Plan
    from services.process import Backends
    from services.receipts import Receipt

app = typer.Typer(
    help="Erase an account or a person for good: no replay, import or backup brings them back.",
    no_args_is_help=True,
    invoke_without_command=True,
)

T = TypeVar("T")

_STAYS = (
    "its entry in the suppression list, for ever: no replay or backup brings it back",
    "topics of the log, until theirs ends: 7 days of usage, 14 of flags and rejects, 30 of changes",
    "backups: after a restore `perennial erase --from RECEIPTS` comes first",
)
_STAYS_OF_ACCOUNT = (
    "how many interventions there were, when, and how they ended; who did what when (audit)",
    "figures of many accounts together: insights, peers, models",
    "files on machines where imports ran: --rejects, and the CSV itself",
)
_STAYS_OF_USER = ("the person's events that name an account, counted without a person",)

Receipts = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="where the receipt goes; default: receipts, in the data folder"
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="do it; without, only say what would go")]
Wait = Annotated[float, typer.Option(min=0, max=86_400, help="for it to be done, in seconds")]


@app.callback()
def erase(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            exists=True,
            help="a folder of receipts, or one: erase all of it again, in a restored database,"
            " before the services start",
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    if context.invoked_subcommand is not None:
        if source is not None:
            fail("--from stands alone", code=2)
        return
    if source is None:
        fail("say account, user, list, receipts, or --from PATH", code=2)
    _replay(source, as_json=as_json)


@app.command("account")
def erase_account(
    account: Annotated[str, typer.Argument(metavar="ID")],
    receipts: Receipts = None,
    wait: Wait = 60,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """All that was received of an account until now; without --yes, what that is.

    Exit code 1: asked for, and not done yet. Events that are sent later start it afresh.
    """
    from services.erase import Subject  # noqa: PLC0415
    from services.ingest.identity import account_of  # noqa: PLC0415
    from shared.errors import InvalidMessage  # noqa: PLC0415

    try:
        subject = Subject(account=account_of(account, "ID"))
    except InvalidMessage as error:
        fail(error.detail, code=2)
    _erase(subject, receipts, wait, yes=yes, as_json=as_json)


@app.command("user")
def erase_user(
    user: Annotated[str, typer.Argument(metavar="ID", help="as the product knows the person")],
    account: Annotated[str | None, typer.Option(help="only in this account")] = None,
    receipts: Receipts = None,
    wait: Wait = 60,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """A person: their events count on without them, also those that come later.

    Needs the key that ingest hashes people with (PERENNIAL_USER_HASH_KEY, or its data folder).
    """
    from services.erase import Subject  # noqa: PLC0415
    from services.ingest.identity import account_of, user_of  # noqa: PLC0415
    from services.process import user_hash_key  # noqa: PLC0415
    from shared.credentials import hash_user  # noqa: PLC0415
    from shared.errors import InvalidMessage  # noqa: PLC0415

    process = read_or_fail(ProcessSettings)
    kept = process.perennial_data_dir / "user_hash.key"
    if process.perennial_user_hash_key is None and not kept.exists():
        # A new key would make a hash that nobody has: nothing would be erased, and nobody told.
        fail("ingest's PERENNIAL_USER_HASH_KEY is needed to know the person", code=2)
    try:
        person = user_of(user)
        within = "" if account is None else account_of(account, "--account")
    except InvalidMessage as error:
        fail(error.detail, code=2)
    if person is None:
        fail("this is a placeholder, not a person", code=2)
    subject = Subject(account=within, user=hash_user(user_hash_key(process), person))
    _erase(subject, receipts, wait, yes=yes, as_json=as_json)


@app.command("list")
def erase_list(*, as_json: Json = False) -> None:
    """The suppression list: who was erased when, and whether it is done."""
    from services import erase as erasing  # noqa: PLC0415

    async def look(engine: "AsyncEngine", _on_progress: "OnProgress") -> "Sequence[Receipt]":
        async with engine.connect() as connection:
            return await erasing.read(connection)

    found = _on_database(look)
    if as_json:
        typer.echo(json.dumps([_receipt_json(one) for one in found]))
        return
    if not found:
        typer.echo("Nothing was ever erased.")
        return
    from services.commands.quarantine import printable  # noqa: PLC0415

    typer.echo(f"{'ERASED':16}  {'STATE':7}  {'ACCOUNT':30}  PERSON")
    for one in found:
        state = "pending" if one.done_at is None else "done"
        whose = printable(one.account) or "(all)"
        person = one.user or ("" if one.user_key is None else f"key {one.user_key}")
        typer.echo(f"{one.erased_at:%Y-%m-%d %H:%M}  {state:7}  {whose:30}  {person}".rstrip())


@app.command("receipts")
def erase_receipts(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="made where it is missing")],
    *,
    as_json: Json = False,
) -> None:
    """Write the receipts that a folder lacks, also of what was erased over HTTP.

    Run it with each backup, and keep the folder beside the backups, not in them.
    """
    from services import erase as erasing  # noqa: PLC0415

    async def write(engine: "AsyncEngine", _on_progress: "OnProgress") -> int:
        return await erasing.export(engine, to)

    written = _on_database(write)
    typer.echo(json.dumps({"written": written}) if as_json else f"{written:,} written to {to}.")


def _erase(
    subject: "Subject", receipts: Path | None, wait: float, *, yes: bool, as_json: bool
) -> None:
    from services import erase as erasing  # noqa: PLC0415
    from services import erasure_plan  # noqa: PLC0415
    from services.commands.auditing import audit  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    folder = receipts or read_or_fail(ProcessSettings).perennial_data_dir / "receipts"

    async def look(engine: "AsyncEngine", on_progress: "OnProgress") -> "Plan":
        return await erasure_plan.plan(engine, subject, on_progress)

    if not yes:
        _tell_plan(subject, _on_database(look), as_json=as_json)
        return

    async def do(
        backends: "Backends", engine: "AsyncEngine", on_progress: "OnProgress"
    ) -> "Outcome":
        now = system_clock()
        asked = await erasing.request(backends.log, subject, folder, now=now)
        # By its receipt: the account's id is gone from the audit log with all else.
        await audit(engine, f"{subject.kind}.erased", asked.name, at=now)
        limit = timedelta(seconds=wait)
        return await erasing.wait(engine, asked, folder, limit=limit, on_progress=on_progress)

    outcome = _on_backends(do)
    receipt = outcome.receipt
    if as_json:
        said = _receipt_json(receipt) | {
            "pending": list(outcome.pending),
            "receipt": str(folder / receipt.name),
        }
        typer.echo(json.dumps(said))
    else:
        if outcome.pending:
            typer.echo(
                f"Asked for, and not done by {' and '.join(outcome.pending)} within {wait:g} s:"
                " is it running? `perennial erase list` says when it is done."
            )
        else:
            typer.echo("Erased.")
            _print_counts(receipt.counts)
        typer.echo(f"Receipt: {folder / receipt.name}")
    raise typer.Exit(1 if outcome.pending else 0)


def _replay(path: Path, *, as_json: bool) -> None:
    from services import erase as erasing  # noqa: PLC0415
    from services import receipts  # noqa: PLC0415
    from services.commands.auditing import audit  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    async def do(engine: "AsyncEngine", on_progress: "OnProgress") -> "Replayed":
        found = await asyncio.to_thread(receipts.read_all, path)
        now = system_clock()
        done = await erasing.replay(engine, found, now=now, on_progress=on_progress)
        if done.erased:
            await audit(engine, "erasures.replayed", "", at=now, count=str(done.erased))
        return done

    done = _on_database(do)
    if as_json:
        typer.echo(json.dumps({"erased": done.erased, "already": done.already}))
    else:
        typer.echo(f"{done.erased:,} erased again, {done.already:,} were.")


def _on_database(work: "Callable[[AsyncEngine, OnProgress], Coroutine[object, object, T]]") -> T:
    """The work on the database alone: the log may be away, and nothing is sent there."""
    from shared.database import open_engine  # noqa: PLC0415

    async def run() -> T:
        async with (
            _database() as url,
            open_engine(url, application="perennial-erase", pool_size=2) as engine,
        ):
            with _progress() as on_progress:
                return await work(engine, on_progress)

    configure_logging(quiet=True)
    return perform(run())


def _on_backends(
    work: "Callable[[Backends, AsyncEngine, OnProgress], Coroutine[object, object, T]]",
) -> T:
    from services.process import open_backends  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    async def run() -> T:
        settings = read_or_fail(ProcessSettings)
        async with (
            open_backends(
                needs_database=True, prepare=settings.perennial_prepare, settings=settings
            ) as backends,
            open_engine(
                backends.database,
                application="perennial-erase",
                pool_size=2,
                pooling=backends.pooling,
            ) as engine,
        ):
            with _progress() as on_progress:
                return await work(backends, engine, on_progress)

    configure_logging(quiet=True)
    return perform(run())


@contextmanager
def _progress() -> "Iterator[OnProgress]":
    """A line on a terminal that says how far it is."""
    from rich.console import Console  # noqa: PLC0415

    with Console(stderr=True).status("working") as status:
        yield status.update


@asynccontextmanager
async def _database() -> "AsyncIterator[str]":
    """The database itself, past any PgBouncer; after a restore another job has migrated it."""
    from shared import migrations  # noqa: PLC0415
    from shared.embedded_postgres import embedded_postgres  # noqa: PLC0415
    from shared.errors import DependencyAway  # noqa: PLC0415

    process, database = read_or_fail(ProcessSettings), read_or_fail(DatabaseSettings)
    async with AsyncExitStack() as stack:
        if database.database_url is None:
            folder = process.perennial_data_dir / "postgres"
            url = await stack.enter_async_context(embedded_postgres(folder))
        else:
            url = database.pooling.direct(database.database_url.get_secret_value())
        try:
            is_current = await migrations.is_current(url)
        except OSError as error:
            raise DependencyAway("PostgreSQL") from error
        if not is_current:
            raise Misconfigured("the schema is not this release's: `perennial migrate` comes first")
        yield url


def _tell_plan(subject: "Subject", plan: "Plan", *, as_json: bool) -> None:
    stays = [*_STAYS, *(_STAYS_OF_ACCOUNT if subject.user is None else _STAYS_OF_USER)]
    if as_json:
        said = {
            "kind": subject.kind,
            "account": subject.account,
            "user": subject.user,
            "would_go": dict(plan.counts),
            "not_seen": list(plan.unseen),
            "erased_at": _iso(plan.erased_at),
            "stays": stays,
        }
        typer.echo(json.dumps(said))
        return
    if plan.erased_at is not None:
        typer.echo(f"Erased before, as of {plan.erased_at:%Y-%m-%d %H:%M:%S} UTC.")
    typer.echo("These rows would go:" if plan.counts else "There is nothing of it.")
    _print_counts(plan.counts)
    for place in plan.unseen:
        typer.echo(f"This role may not look into the schema of {place}.")
    typer.echo("These stay:")
    for one in stays:
        typer.echo(f"  {one}")
    typer.echo("Nothing is changed; --yes does it.")


def _print_counts(counts: Mapping[str, int]) -> None:
    for table, count in sorted(counts.items()):
        typer.echo(f"  {count:>9,}  {table}")


def _receipt_json(one: "Receipt") -> dict[str, object]:
    return {
        "kind": one.kind,
        "account": one.account,
        "user": one.user,
        "erased_at": _iso(one.erased_at),
        "flags_until": _iso(one.flags_until),
        "done_at": _iso(one.done_at),
        "counts": dict(one.counts),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
