"""`perennial lag`."""

import json
from typing import TYPE_CHECKING

import typer

from services.commands.running import Json, configure_logging, perform

if TYPE_CHECKING:
    from services.lag import PartitionLag


def lag(*, as_json: Json = False) -> None:
    """How many records wait in each partition, for how long, and which process reads it.

    Exit code 1: a partition has no reader, was cut off before it was read, or ends before its
    reader's position.
    """
    from services import lag as reading  # noqa: PLC0415
    from services.process import open_backends  # noqa: PLC0415
    from shared.clock import system_clock  # noqa: PLC0415
    from shared.database import open_engine  # noqa: PLC0415

    async def run() -> "list[PartitionLag]":
        async with (
            open_backends(needs_database=True, prepare=False) as backends,
            open_engine(
                backends.database, application="perennial", pool_size=1, pooling=backends.pooling
            ) as engine,
        ):
            return list(await reading.survey(backends.log, engine, now=system_clock()))

    configure_logging(quiet=True)
    found = perform(run())
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found]))
    else:
        _print(found)
    raise typer.Exit(1 if any(one.trouble for one in found) else 0)


def _print(found: "list[PartitionLag]") -> None:
    header = ("SERVICE", "TOPIC", "PARTITION", "RECORDS", "SECONDS", "POSITION", "END", "READER")
    rows = [
        (
            one.service,
            one.partition.topic,
            str(one.partition.partition),
            f"{one.records:,}",
            "?" if one.seconds is None else f"{one.seconds:,.0f}",
            f"{one.position:,}",
            f"{one.extent.end:,}",
            (one.extent.owner or "-") + (f"  {one.trouble}" if one.trouble else ""),
        )
        for one in found
    ]
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    numbers = range(2, 7)
    for row in (header, *rows):
        cells = (
            text.rjust(width) if place in numbers else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        typer.echo("  ".join(cells).rstrip())


def _as_json(one: "PartitionLag") -> dict[str, object]:
    return {
        "service": one.service,
        "topic": one.partition.topic,
        "partition": one.partition.partition,
        "records": one.records,
        "seconds": None if one.seconds is None else round(one.seconds, 3),
        "position": one.position,
        "begin": one.extent.begin,
        "end": one.extent.end,
        "reader": one.extent.owner,
        "missing": one.missing,
        "trouble": one.trouble,
    }
