"""`perennial flags`."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.running import Json, fail, on_database, read_or_fail
from shared.messages import FlagReason

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.scoring.domain.flags.report import AlternativeReport, RuleReport
    from services.scoring.domain.rules import Rules
    from services.scoring.flag_review import AccountReview, OpenFlag, Preview

app = typer.Typer(
    help="Why flags are up or not, what other rules would do, and flags that are held.",
    no_args_is_help=True,
)

RulesFile = Annotated[
    Path, typer.Option("--rules", help="rules that differ from the shipped ones, as TOML")
]


@app.command("explain")
def flags_explain(
    account: Annotated[str, typer.Argument(help="the account's id")], *, as_json: Json = False
) -> None:
    """Why each flag of an account is up, waits or is not raised, as of its last look.

    By the rules in force: PERENNIAL_RULES_FILE, else the shipped ones.
    """
    from services.scoring import flag_review  # noqa: PLC0415

    rules = _rules_in_force()
    found = on_database(lambda connection: flag_review.review_account(connection, account, rules))
    if found is None:
        fail(f"no account {account} has been scored", code=1)
    if as_json:
        typer.echo(_encode(found))
    else:
        _print_review(found)


@app.command("preview")
def flags_preview(rules: RulesFile, *, as_json: Json = False) -> None:
    """What a rules file would do to today's accounts; nothing is changed.

    Accounts are taken as of their last look. A rule with days to wait begins to count when it is
    in force: what would begin to wait then is counted apart.
    """
    from services.scoring import flag_review  # noqa: PLC0415

    chosen = _read_rules(rules, code=2)
    found = on_database(lambda connection: flag_review.preview(connection, chosen))
    if as_json:
        typer.echo(_encode(found))
    else:
        _print_preview(found)


@app.command("check")
def flags_check(rules: RulesFile, *, as_json: Json = False) -> None:
    """Whether a rules file would be accepted, and what it changes; exit code 1 if it is refused."""
    from services.scoring import rules_file  # noqa: PLC0415

    chosen = _read_rules(rules, code=1)
    changes = rules_file.changes(chosen)
    if as_json:
        typer.echo(json.dumps({"changes": [one.as_json() for one in changes]}))
        return
    typer.echo(f"{rules} is valid.")
    for one in changes:
        typer.echo(f"  {one.path}: {one.ours} -> {one.theirs}")
    if not changes:
        typer.echo("It changes nothing.")


@app.command("list")
def flags_list(
    *,
    held: Annotated[bool, typer.Option("--held", help="those that the storm guard holds")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="at most so many")] = 50,
    as_json: Json = False,
) -> None:
    """Flags that are up, the newest first, and how many are held."""
    from services.scoring import flag_review, storm  # noqa: PLC0415

    async def read(
        connection: "AsyncConnection",
    ) -> tuple["list[OpenFlag]", Mapping[FlagReason, int]]:
        found = await flag_review.read_open(connection, held=held, limit=limit)
        return found, await storm.count_held(connection)

    found, counts = on_database(read)
    if as_json:
        typer.echo(_encode({"flags": found, "held": counts}))
        return
    width = max((len(one.account) for one in found), default=7)
    if found:
        typer.echo(f"{'ACCOUNT':{width}}  {'FLAG':19}  {'RAISED':16}  {'TOLD':16}  SUMMARY")
    for one in found:
        typer.echo(
            f"{one.account:{width}}  {one.reason:19}  {_time(one.raised_at)}  {_told(one):16}"
            f"  {one.summary}"
        )
    if len(found) == limit:
        typer.echo(f"Only the newest {limit} are shown: --limit shows more.")
    typer.echo(_count_in_words(counts, "held by the storm guard"))


@app.command("release")
def flags_release(
    *,
    release_all: Annotated[bool, typer.Option("--all", help="all that are held")] = False,
    reason: Annotated[FlagReason | None, typer.Option(help="only flags of this kind")] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="tell nobody: these flags end unheard")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let out flags that the storm guard holds, or drop them; who did it is kept with each.

    The guard counts them no more, so the rest of the batch passes too.
    """
    from services.quarantine import operator  # noqa: PLC0415
    from services.scoring import storm  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415

    if release_all == (reason is not None):
        fail("say either --all or --reason", code=2)
    counts = on_database(
        lambda connection: storm.release_held(
            connection, system_clock(), by=operator(), reason=reason, drop=drop
        )
    )
    if as_json:
        typer.echo(json.dumps({"dropped" if drop else "released": counts}))
    else:
        typer.echo(_count_in_words(counts, "dropped" if drop else "released"))


def _rules_in_force() -> "Rules":
    from services.scoring.settings import ScoringSettings  # noqa: PLC0415

    return read_or_fail(ScoringSettings).rules


def _read_rules(path: Path, *, code: int) -> "Rules":
    from services.scoring import rules_file  # noqa: PLC0415
    from services.scoring.domain.rules import RulesRejected  # noqa: PLC0415

    try:
        return rules_file.read(path)
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", code=2)
    except RulesRejected as error:
        fail(f"{path}: {error}", code=code)


def _print_review(found: "AccountReview") -> None:
    risk = (
        "no risk (too new, or lapsed)"
        if found.risk is None or found.band is None
        else f"{_words(found.band)}, risk {found.risk:.1%}"
    )
    typer.echo(f"{found.account}, as of {_time(found.as_of)} UTC: {risk}.")
    if found.data_stale:
        typer.echo("Its sources are, or just were, out: no usage flag is raised.")
    told = {one.reason: one for one in found.open}
    for report in found.rules:
        typer.echo()
        typer.echo(f"{report.reason:19}  {_stands(report, told.get(report.reason))}")
        shown = report.ends if report.stands == "raised" else report.raises
        label = "ends" if report.stands == "raised" else "raised"
        for one in shown:
            _print_alternative(label, one)


def _print_alternative(label: str, one: "AlternativeReport") -> None:
    typer.echo(f"  {label} if {_words(one.why)}: {'yes' if one.met else 'no'}")
    marks = {True: "+", False: "-", None: "?"}
    for clause in one.clauses:
        typer.echo(f"    {marks[clause.met]} {clause.text}")


def _stands(report: "RuleReport", flag: "OpenFlag | None") -> str:
    words = _words(report.stands)
    if report.since is not None:
        words += f" since {_time(report.since)}"
    if report.stands == "raised":
        words += f" (episode {report.episode})"
    if flag is not None and flag.told_at is None:
        words += f", {_told(flag)}"
    if report.days_left is not None:
        words += f", {report.days_left} days to go"
    if report.why is not None:
        words += f": {_words(report.why)}"
    return words if report.enabled else f"{words} (the rule is switched off)"


def _told(flag: "OpenFlag") -> str:
    if flag.told_at is not None:
        return _time(flag.told_at)
    if flag.dropped_by is not None:
        return f"dropped by {flag.dropped_by}"
    return "waits" if flag.held_at is None else "held"


def _print_preview(found: "Preview") -> None:
    if found.as_of is None:
        typer.echo("No account has been scored.")
        return
    typer.echo(f"{found.accounts} accounts, as of {_time(found.as_of)} UTC:")
    columns = ("UP NOW", "RAISED", "WAITING", "CLEARED", "CLEARED LATER")
    typer.echo(f"{'FLAG':19}  {'  '.join(f'{name:>7}' for name in columns)}")
    for reason, tally in found.flags.items():
        numbers = (
            tally.raised_now,
            tally.would_raise,
            tally.would_wait,
            tally.would_clear,
            tally.would_clear_later,
        )
        cells = [
            f"{number:>{max(7, len(name))}}" for number, name in zip(numbers, columns, strict=True)
        ]
        typer.echo(f"{reason:19}  {'  '.join(cells)}")
    for reason, tally in found.flags.items():
        for word, examples in (
            ("raised", tally.raised_examples),
            ("cleared", tally.cleared_examples),
        ):
            if examples:
                typer.echo(f"{reason} {word}, for example: {', '.join(examples)}")
    if found.storm:
        typer.echo("So many at once would be held by the storm guard until an admin releases them.")
    typer.echo("Nothing was changed.")


def _count_in_words(counts: Mapping[FlagReason, int], what: str) -> str:
    total = sum(counts.values())
    if not total:
        return f"No flag {'is ' if what.startswith('held') else 'was '}{what}."
    each = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"{total} {what}: {each}."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _encode(found: object) -> str:
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(found).decode()
