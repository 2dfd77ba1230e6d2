"""`perennial outbox`."""

import json
from typing import TYPE_CHECKING

import typer

from services.commands.running import Json, on_database

if TYPE_CHECKING:
    from services.outboxes import Outbox


def outbox(*, as_json: Json = False) -> None:
    """What the services have written for the log and what has not left yet, and who publishes it.

    Exit code 1: messages wait, and nobody publishes them.
    """
    from services import outboxes  # noqa: PLC0415

    found = on_database(outboxes.read, prepare=False)
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found]))
    else:
        for one in found:
            since = (
                "" if one.oldest is None else f", the oldest since {one.oldest:%Y-%m-%d %H:%M} UTC"
            )
            relay = one.relay or "nobody"
            typer.echo(f"{one.service}: {one.total:,} messages wait{since}; published by {relay}")
            for topic, count in sorted(one.rows.items()):
                typer.echo(f"  {topic}: {count:,}")
    raise typer.Exit(1 if any(one.total and one.relay is None for one in found) else 0)


def _as_json(one: "Outbox") -> dict[str, object]:
    return {
        "service": one.service,
        "messages": one.total,
        "topics": dict(one.rows),
        "oldest": one.oldest and one.oldest.isoformat(),
        "relay": one.relay,
    }
