"""`perennial insights`."""

import secrets
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.running import Json, fail, on_database
from shared.clock import system_clock

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.scoring.domain.insight_document import Insight

app = typer.Typer(
    help="How customers use the product, per segment and month; no account can be told from it.",
    no_args_is_help=True,
)

_KEY_BYTES = 32

Month = Annotated[str | None, typer.Option(help="as 2026-10; by default the last one")]


@app.command("make")
def insights_make(month: Month = None) -> None:
    """Make a month's document, once: what is there stays, also if more has come in since.

    It is made from the third day after the month on, and for a month after that. Which accounts
    it is made of is drawn at random, and known to nobody.
    """
    from services.scoring import insights  # noqa: PLC0415

    now, chosen = system_clock(), _month(month)
    key = secrets.token_bytes(_KEY_BYTES)

    async def make(connection: "AsyncConnection") -> tuple[date, insights.Made]:
        span = insights.last_month(now) if chosen is None else insights.span_of(chosen, now)
        return span.month, await insights.make(connection, span, now=now, key=key)

    of, made = on_database(make)
    typer.echo(
        {
            insights.Made.MADE: f"The insights of {of:%Y-%m} are made.",
            insights.Made.THERE_ALREADY: f"The insights of {of:%Y-%m} are there already.",
            insights.Made.TOO_FEW: f"Of {of:%Y-%m} nothing can be told: too few accounts.",
        }[made]
    )


@app.command("show")
def insights_show(
    month: Month = None,
    segment: Annotated[str | None, typer.Option(help="only this one, and all together")] = None,
    *,
    as_json: Json = False,
) -> None:
    """The numbers and stories of a month, each with enough accounts behind it."""
    import msgspec  # noqa: PLC0415

    from services.scoring import insight_store  # noqa: PLC0415
    from services.scoring.domain.publication import told  # noqa: PLC0415

    chosen = _month(month)
    document = on_database(lambda connection: insight_store.read(connection, chosen))
    if document is None:
        fail("there are no insights yet; see `perennial insights make`", code=1)
    document = told(document)
    if segment is not None:
        kept = [one for one in document.segments if one.segment in {None, segment}]
        if all(one.segment is None for one in kept):
            fail(f"nothing is told of {segment}: unknown, or too few accounts", code=1)
        document = msgspec.structs.replace(document, segments=kept)
    if as_json:
        typer.echo(msgspec.json.encode(document))
        return
    typer.echo(f"{document.month}, {len(document.segments)} groups. {document.basis}")
    for one in document.segments:
        _print(one)


def _print(one: "Insight") -> None:
    typer.echo()
    typer.echo(f"{one.segment or 'All customers'} (about {one.accounts} accounts)")
    for story in one.stories:
        typer.echo(f"  {story.text}")
    if not one.stories:
        typer.echo("  Too few accounts for a story.")
    for use in one.features:
        first = "" if use.first_week is None else f", most by week {use.first_week}"
        typer.echo(f"    {use.name}: {use.share:.0%}{first}")


def _month(month: str | None) -> date | None:
    if month is None:
        return None
    try:
        return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        fail("--month is a year and a month, as 2026-10", code=2)
