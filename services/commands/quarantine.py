"""`perennial quarantine`."""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from services.commands.running import Json, configure_logging, fail, perform
from shared.errors import Misconfigured

if TYPE_CHECKING:
    from services.quarantine import Entry, OnProgress, Outcome, Survey, Wanted
    from shared.log import Log

app = typer.Typer(
    help="What was rejected: look at it, take it in once more, or drop it.", no_args_is_help=True
)

_MAX_CELL = 40

T = TypeVar("T")

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="as `quarantine list` shows them")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="as `quarantine list` shows it")]
Code = Annotated[str | None, typer.Option(help="only those rejected for this, as missing_account")]
Source = Annotated[str | None, typer.Option(help="only those of this source")]
Account = Annotated[str | None, typer.Option(help="only those of this account")]
Stage = Annotated[
    str | None, typer.Option(help="only those rejected there: ingest, scoring or notifier")
]
Since = Annotated[
    str | None,
    typer.Option(help="only those rejected since: 30m, 12h, 7d, or a moment as 2026-03-31T08:00Z"),
]


@app.command("list")
def quarantine_list(
    code: Code = None,
    source: Source = None,
    account: Account = None,
    stage: Stage = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=0, max=10_000, help="at most so many, the newest")] = 50,
    *,
    show_all: Annotated[
        bool, typer.Option("--all", help="those that were replayed or dropped too")
    ] = False,
    as_json: Json = False,
) -> None:
    """What waits in quarantine, the newest first, and how much of each kind."""
    from services import quarantine  # noqa: PLC0415

    wanted = _wanted(None, code, source, account, stage, since)

    async def look(log: "Log", on_progress: "OnProgress") -> "Survey":
        return await quarantine.survey(
            log, wanted, limit=limit, with_settled=show_all, on_progress=on_progress
        )

    found = _on_log(look)
    if as_json:
        typer.echo(json.dumps(_survey_json(found)))
    else:
        _print_survey(found, with_settled=show_all)


@app.command("show")
def quarantine_show(one: Id) -> None:
    """All that is known of one of them, with its bytes."""
    from services import quarantine  # noqa: PLC0415

    wanted = _wanted([one], None, None, None, None, None)

    async def look(log: "Log", _on_progress: "OnProgress") -> "Entry":
        [only] = wanted.ids
        return await quarantine.find(log, only)

    entry = _on_log(look)
    for name, value in _facts(entry):
        typer.echo(f"{name:<11} {printable(value)}")
    typer.echo()
    typer.echo(readable(entry.rejected.value))


@app.command("replay")
def quarantine_replay(
    ids: Ids = None,
    code: Code = None,
    source: Source = None,
    account: Account = None,
    stage: Stage = None,
    since: Since = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would become of them, and do nothing")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take them in once more, after the cause is removed; twice counts once.

    What ingest rejected is read again with today's settings of its source, as of the time it
    arrived; what a consumer could not read goes back to its topic. A change to the directory counts
    as the newest one. Exit code 1 where some have to stay.
    """
    from services import quarantine  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    wanted = _named(ids, code, source, account, stage, since)

    async def replay(log: "Log", on_progress: "OnProgress") -> "Outcome":
        return await quarantine.replay(
            log,
            wanted,
            by=quarantine.operator(),
            now=system_clock(),
            dry_run=dry_run,
            on_progress=on_progress,
        )

    if dry_run:
        _tell(_on_log(replay), "would be replayed", as_json=as_json)
    outcome = _on_log(replay, action="quarantine.replayed", done=_done)
    _tell(outcome, "replayed", as_json=as_json)


@app.command("drop")
def quarantine_drop(
    ids: Ids = None,
    code: Code = None,
    source: Source = None,
    account: Account = None,
    stage: Stage = None,
    since: Since = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Let go of them for good; `list --all` says who did, as long as the log keeps them."""
    from services import quarantine  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    wanted = _named(ids, code, source, account, stage, since)

    async def look(log: "Log", on_progress: "OnProgress") -> "Survey":
        return await quarantine.survey(
            log, wanted, limit=1, with_settled=False, on_progress=on_progress
        )

    meant = wanted
    if not yes and (found := _on_log(look)).entries:
        typer.confirm(f"Drop {found.counts.total():,} for good?", abort=True, err=True)
        # What comes meanwhile was not in the question.
        meant = replace(wanted, until=found.entries[0].rejected.rejected_at)

    async def drop(log: "Log", on_progress: "OnProgress") -> "Outcome":
        return await quarantine.drop(
            log, meant, by=quarantine.operator(), now=system_clock(), on_progress=on_progress
        )

    outcome = _on_log(drop, action="quarantine.dropped", done=_done)
    _tell(outcome, "dropped", as_json=as_json)


def _done(outcome: "Outcome") -> dict[str, str]:
    """As the audit log has it: how many to where, no account."""
    return {to: str(count) for to, count in sorted(outcome.done.items())}


def printable(text: str) -> str:
    """Text from outside, safe for a terminal: what does not show is written as its number."""
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def readable(value: bytes | None) -> str:
    """The bytes as indented JSON where they are some, else as text; nothing moves the cursor."""
    if not value:
        return "(no bytes)"
    text = value.decode("utf-8", "backslashreplace")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(value), ensure_ascii=False, indent=2)
    return "\n".join(printable(line) for line in text.split("\n"))


def _escaped(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 256 else f"\\u{{{code:x}}}"


def _wanted(
    ids: list[str] | None,
    code: str | None,
    source: str | None,
    account: str | None,
    stage: str | None,
    since: str | None,
) -> "Wanted":
    from services import quarantine  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    configure_logging(quiet=True)
    try:
        return quarantine.Wanted(
            ids=quarantine.parse_ids(ids or []),
            code=code,
            source=source,
            account=account,
            stage=stage,
            since=quarantine.parse_since(since, now=system_clock()),
        )
    except Misconfigured as error:
        fail(str(error), code=2)


def _named(
    ids: list[str] | None,
    code: str | None,
    source: str | None,
    account: str | None,
    stage: str | None,
    since: str | None,
) -> "Wanted":
    """As `_wanted`, but nobody means everything by saying nothing."""
    wanted = _wanted(ids, code, source, account, stage, since)
    if not wanted:
        fail("name them by ID or by a filter; all of the last two weeks: --since 14d", code=2)
    return wanted


def _on_log(
    work: "Callable[[Log, OnProgress], Coroutine[object, object, T]]",
    *,
    action: str = "",
    done: "Callable[[T], Mapping[str, str]]" = lambda _found: {},
) -> T:
    """The work on the open log, with a line on a terminal that says how far it is.

    `action`: as the audit log has it, where `done` says what was done.
    """
    from rich.console import Console  # noqa: PLC0415

    from services.commands.auditing import audit  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    console = Console(stderr=True)

    async def run() -> T:
        async with open_backends(needs_database=False) as backends:
            with console.status("reading") as status:

                def on_progress(count: int) -> None:
                    status.update(f"{count:,} records read")

                found = await work(backends.log, on_progress)
            if detail := done(found):
                await audit(backends, action, "", at=system_clock(), **detail)
            return found

    return perform(run())


def _print_survey(found: "Survey", *, with_settled: bool) -> None:
    if not found.counts:
        typer.echo("Nothing is in quarantine." if not with_settled else "There is nothing.")
        return
    rows = [_row(entry, with_settled=with_settled) for entry in found.entries]
    if rows:
        _print_table(("ID", "REJECTED", "STAGE", "CODE", "SOURCE", "ACCOUNT", "STATE"), rows)
        typer.echo()
    _print_table(
        ("COUNT", "CODE", "SOURCE", "STAGE"),
        [(f"{count:,}", *kind) for kind, count in found.counts.most_common()],
    )
    total = found.counts.total()
    if total > len(found.entries):
        typer.echo(f"{len(found.entries):,} of {total:,} are shown; --limit shows more.")


def _row(entry: "Entry", *, with_settled: bool) -> tuple[str, ...]:
    rejected, settlement = entry.rejected, entry.settlement
    state = "waits" if rejected.why_not_replayable is None else "not replayable"
    if with_settled and settlement is not None:
        state = f"{settlement.state} by {settlement.by}"
    return (
        rejected.id,
        f"{rejected.rejected_at:%Y-%m-%d %H:%M}",
        rejected.stage,
        rejected.code,
        rejected.source or "-",
        rejected.account or "-",
        state,
    )


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    shown = [header, *([_cell(text) for text in row] for row in rows)]
    widths = [max(len(row[place]) for row in shown) for place in range(len(header))]
    for row in shown:
        line = "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def _cell(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _MAX_CELL else f"{shown[: _MAX_CELL - 1]}\u2026"


def _facts(entry: "Entry") -> list[tuple[str, str]]:
    rejected, settlement = entry.rejected, entry.settlement
    facts = [
        ("id", rejected.id),
        ("rejected", f"{rejected.rejected_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("stage", rejected.stage),
        ("code", rejected.code),
        ("reason", rejected.reason),
        ("source", rejected.source or "-"),
        ("account", rejected.account or "-"),
        ("replay", rejected.why_not_replayable or "possible"),
    ]
    if rejected.topic is not None:
        facts.append(("topic", rejected.topic))
    told = (("format", "format"), ("path", "path"), ("request", "request_id"))
    facts.extend((name, rejected.said[key]) for name, key in told if rejected.said.get(key))
    if settlement is not None:
        facts.append(
            (
                "state",
                f"{settlement.state} by {settlement.by} at {settlement.at:%Y-%m-%d %H:%M} UTC",
            )
        )
    return facts


def _survey_json(found: "Survey") -> dict[str, object]:
    return {
        "count": found.counts.total(),
        "kinds": [{**kind._asdict(), "count": count} for kind, count in found.counts.most_common()],
        "items": [_entry_json(entry) for entry in found.entries],
    }


def _entry_json(entry: "Entry") -> dict[str, object]:
    rejected, settlement = entry.rejected, entry.settlement
    return {
        "id": rejected.id,
        "rejected_at": rejected.rejected_at.isoformat(),
        "stage": rejected.stage,
        "code": rejected.code,
        "reason": rejected.reason,
        "source": rejected.source,
        "account": rejected.account,
        "topic": rejected.topic,
        "bytes": rejected.size,
        "why_not_replayable": rejected.why_not_replayable,
        "state": "waits" if settlement is None else settlement.state,
        "by": None if settlement is None else settlement.by,
        "settled_at": None if settlement is None else settlement.at.isoformat(),
    }


def _tell(outcome: "Outcome", done: str, *, as_json: bool) -> NoReturn:
    if as_json:
        said = {
            "done": outcome.done.total(),
            "to": dict(outcome.done),
            "stay": dict(outcome.refused),
            "settled_before": [entry.rejected.id for entry in outcome.settled],
            "unknown": outcome.unknown,
        }
        typer.echo(json.dumps(said))
        raise typer.Exit(outcome.exit_code)
    typer.echo(f"{outcome.done.total():,} {done}")
    for topic, count in sorted(outcome.done.items()):
        if topic != done:
            typer.echo(f"  to {topic}: {count:,}")
    for entry in outcome.settled:
        assert entry.settlement is not None  # noqa: S101 - that is why it is here
        typer.echo(f"{entry.rejected.id} was {entry.settlement.state} before")
    for why, count in sorted(outcome.refused.items()):
        typer.echo(f"{count:,} stay: {printable(why)}")
    for rejected_id, why in outcome.shown:
        typer.echo(f"  {rejected_id}: {printable(why)}")
    for rejected_id in outcome.unknown:
        typer.echo(f"perennial: nothing in quarantine has the id {rejected_id}", err=True)
    raise typer.Exit(outcome.exit_code)
