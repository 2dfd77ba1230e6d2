"""`perennial import`: one file from its first byte to its summary."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console
from rich.markup import escape

from services.importing.client import SILENCE_LIMIT, Client, Kind, Target, open_http
from services.importing.errors import Unusable
from services.importing.journal import Journal
from services.importing.lanes import IN_FLIGHT
from services.importing.mapping import EventColumns, map_accounts, map_events
from services.importing.report import ImportSummary, progress_bar, show_summary
from services.importing.rows import AccountRows, BuildRow, EventRows
from services.importing.sending import Sending
from services.importing.source import Survey, open_csv, survey
from services.importing.threads import undisturbed
from services.importing.times import TimeForm, recognise
from shared.csv_table import CsvTable

_TIME_SAMPLE_ROWS = 1_000
_ID_SAMPLE_ROWS = 100_000

_Prepare: TypeAlias = Callable[[CsvTable, Survey], BuildRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What both kinds of import are asked for; `console` is for people, best on stderr."""

    path: Path
    url: str
    key: str
    data_dir: Path
    console: Console
    mapping: Mapping[str, str] = field(default_factory=dict)
    rejects: Path | None = None
    from_start: bool = False
    silence_limit: timedelta = SILENCE_LIMIT


async def import_events(
    order: Order, *, default_type: str = "activity", timezone: str | None = None
) -> ImportSummary:
    """Send a CSV file of events; raises Unusable before anything is sent, or Stopped.

    `timezone` is what times without an offset and dates mean (dates: UTC if it is not given).
    """
    zone = _zone(timezone)

    def prepare(file: CsvTable, surveyed: Survey) -> BuildRow:
        columns = map_events(file.header, order.mapping)
        if columns.id_is_guessed and (why := _why_no_event_id(order.path, file.header, columns)):
            _say(order.console, why)
            columns = map_events(file.header, {**order.mapping, "id": ""})
        column = file.header[columns.occurred_at]
        cells = _first_cells(order.path, columns.occurred_at)
        form = recognise(cells, column=column, zone=zone)
        _say(order.console, _reading(file.header, columns, form, default_type))
        return EventRows(
            columns=columns,
            header=file.header,
            time_form=form,
            zone=zone,
            default_type=default_type,
            id_prefix=surveyed.fingerprint[:16],
        )

    options = {"type": default_type, "timezone": timezone or ""}
    return await _import(order, Kind.EVENTS, prepare, options)


async def import_accounts(order: Order) -> ImportSummary:
    """Send a CSV file of accounts as patches; raises Unusable or Stopped, as `import_events`."""

    def prepare(file: CsvTable, _: Survey) -> BuildRow:
        columns = map_accounts(file.header, order.mapping)
        if columns.unused:
            _say(order.console, f"not used, no account field: {', '.join(columns.unused)}")
        return AccountRows(columns=columns, header=file.header, decimal_comma=file.delimiter == ";")

    return await _import(order, Kind.ACCOUNTS, prepare, {})


async def _import(
    order: Order, kind: Kind, prepare: _Prepare, options: Mapping[str, str]
) -> ImportSummary:
    started = time.monotonic()
    target = Target(url=order.url, key=order.key, kind=kind)
    target.check()
    surveyed = await asyncio.to_thread(survey, order.path)
    journal = Journal(
        order.data_dir / "imports",
        identity={
            **{f"map {name}": column for name, column in order.mapping.items()},
            **options,
            "fingerprint": surveyed.fingerprint,
            "kind": kind,
            "url": order.url.rstrip("/"),
            "key": order.key,
        },
    )
    known = None if order.from_start else await asyncio.to_thread(journal.load)
    if known and known.done:
        _say(order.console, f"going on after row {known.done:,}, where the last import stopped")
    async with AsyncExitStack() as stack:
        opened = open_csv(order.path)
        file = await asyncio.to_thread(opened.__enter__)
        stack.push_async_callback(undisturbed, opened.__exit__, None, None, None)
        build = await undisturbed(prepare, file, surveyed)
        sending = await undisturbed(
            Sending,
            path=order.path,
            file=file,
            build=build,
            journal=journal,
            known=known,
            rejects_path=order.rejects,
            console=order.console,
        )
        stack.push_async_callback(sending.close)
        http = await stack.enter_async_context(open_http(order.url, in_flight=IN_FLIGHT))
        client = Client(
            http,
            target,
            silence_limit=order.silence_limit,
            on_wait=lambda why: _say(order.console, why),
        )
        bar = stack.enter_context(progress_bar(order.console))
        # Lines less the header: rows over several lines and blank lines correct it at the end.
        task = bar.add_task(f"sending {kind}", total=max(0, surveyed.lines - 1))
        await sending.send(client, on_progress=lambda done: bar.update(task, completed=done))
        bar.update(task, completed=sending.ledger.done, total=sending.ledger.done)
    ledger = sending.ledger
    summary = ImportSummary(
        rows=ledger.done,
        accepted=ledger.accepted,
        rejected=ledger.rejected,
        warnings=ledger.warnings.total(),
        seconds=time.monotonic() - started,
    )
    show_summary(
        order.console,
        summary,
        ledger.warnings,
        order.rejects,
        whole_file_counts_twice=kind is Kind.EVENTS,
    )
    return summary


def _why_no_event_id(path: Path, header: list[str], columns: EventColumns) -> str | None:
    """Why a column that is called id cannot be the events' id: it repeats with different rows.

    It may be the customer's id (in the CDNOW set it is); taken as the event's, all but one of
    the events that share it would be dropped as duplicates, without a word.
    """
    if columns.id is None:
        return None
    seen: dict[str, int] = {}
    with open_csv(path) as file:
        for record in islice(file.rows(), _ID_SAMPLE_ROWS):
            if record.cells and (name := record.cells[columns.id].strip()):
                row = hash(tuple(record.cells))
                if seen.setdefault(name, row) != row:
                    return (
                        f"column {header[columns.id]} repeats in different rows, so it is not"
                        " taken as the event's id (if it is: --map id="
                        f"{header[columns.id]}); ids are made from the rows"
                    )
    return None


def _first_cells(path: Path, index: int) -> list[str]:
    with open_csv(path) as file:
        return [
            record.cells[index] for record in islice(file.rows(), _TIME_SAMPLE_ROWS) if record.cells
        ]


def _reading(header: list[str], columns: EventColumns, form: TimeForm, default_type: str) -> str:
    """The mapping in words, so that a wrong guess is seen."""

    def named(index: int | None, otherwise: str) -> str:
        return otherwise if index is None else header[index]

    parts = [
        f"account_id = {header[columns.account_id]}",
        f"occurred_at = {header[columns.occurred_at]} ({form})",
        f"user_id = {named(columns.user_id, 'none')}",
        f"type = {named(columns.type, repr(default_type))}",
        f"id = {named(columns.id, 'file and row')}",
        *(f"properties.{name} = {header[index]}" for name, index in columns.properties),
    ]
    return "reading " + ", ".join(parts)


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Unusable(f"--timezone {name}: write a name like UTC or Europe/Paris") from error


def _say(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)
