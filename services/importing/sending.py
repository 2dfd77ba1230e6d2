"""The sending part of one import: rows out, answers in, and how far it came, on disk.

Order of effects: 1 a row is sent, 2 its answer moves the ledger on, 3 the ledger's rejected rows
are written, 4 the journal says how far the ledger came. Whatever stops it between, the rows after
the journal's are sent again with the same ids.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from rich.console import Console

from services.importing.client import Client, Settled
from services.importing.errors import Stopped
from services.importing.journal import Entry, Journal
from services.importing.lanes import deliver
from services.importing.ledger import Ledger, Verdict
from services.importing.rejects import Rejects
from services.importing.report import SHOWN_REJECTS, show_reject
from services.importing.rows import BuildRow, Item, Row, RowError
from services.importing.threads import undisturbed
from shared.csv_table import CsvTable

_CHUNK_ROWS = 1_000
_JOURNAL_SECONDS = 1.0
_MOST_ROWS_AHEAD = 200_000  # of the first unanswered row: bounds what the ledger must remember

_FIELDS_OF_CODES = {
    "conflicting_account": "account_id",
    "invalid_account": "account_id",
    "invalid_id": "id",
    "invalid_properties": "properties",
    "invalid_time": "occurred_at",
    "invalid_type": "type",
    "missing_account": "account_id",
    "missing_type": "type",
    "too_deep": "properties",
    "too_old": "occurred_at",
}

OnProgress: TypeAlias = Callable[[int], None]
"""Hears how many rows are settled."""


class Sending:
    """One import's rows on their way; `close` must be called, whatever happened."""

    def __init__(
        self,
        *,
        path: Path,
        file: CsvTable,
        build: BuildRow,
        journal: Journal,
        known: Entry | None,
        rejects_path: Path | None,
        console: Console,
    ) -> None:
        self._path = path
        self._file = file
        self._build = build
        self._journal = journal
        self._console = console
        self._rejects = _open_rejects(rejects_path, file, known)
        self._unwritten: list[RowError] = []
        self._shown = 0
        self._stored_at = 0.0
        self._moved_on = asyncio.Event()
        self._finished = False
        self.ledger = Ledger(
            on_rejected=self._rejected,
            done=known.done if known else 0,
            accepted=known.accepted if known else 0,
            rejected=known.rejected if known else 0,
            warnings=Counter(known.warnings if known else {}),
        )

    async def send(self, client: Client, *, on_progress: OnProgress) -> None:
        """Send every row after the ledger's; raises Stopped, saying where to go on."""

        def settled(batch: Sequence[Settled]) -> None:
            self._settle([_verdict(answer) for answer in batch])
            on_progress(self.ledger.done)

        try:
            # Now, not after the first second: a folder that cannot be written stops it at once.
            await self._store()
            async with aclosing(self._chunks()) as chunks:
                await deliver(chunks, client, on_settled=settled)
        except Stopped as error:
            if not self.ledger.done:
                raise
            raise type(error)(
                f"{error}; {self.ledger.done:,} rows of {self._path} are done:"
                " the same command goes on from there"
            ) from error
        self._finished = True

    async def close(self) -> None:
        """Store how far it came; after the last row, forget it."""
        try:
            await self._store()
            if self._finished or not self.ledger.done:
                await undisturbed(self._journal.remove)
        finally:
            if self._rejects is not None:
                await undisturbed(self._rejects.close)

    async def _chunks(self) -> AsyncGenerator[list[Item], None]:
        rows, newest = self._rows(), 0
        while chunk := await undisturbed(_take, rows):
            broken = [(row.number, row) for row in chunk if isinstance(row, RowError)]
            if broken:
                self._settle(broken)
            newest = chunk[-1].number
            yield [row for row in chunk if isinstance(row, Item)]
            while newest - self.ledger.done > _MOST_ROWS_AHEAD:
                self._moved_on.clear()
                await self._moved_on.wait()
            if time.monotonic() - self._stored_at > _JOURNAL_SECONDS:
                await self._store()

    def _rows(self) -> Iterator[Row]:
        skip = self.ledger.done
        return (self._build(record) for record in self._file.rows() if record.number > skip)

    def _settle(self, verdicts: Sequence[tuple[int, Verdict]]) -> None:
        self.ledger.settle(verdicts)
        self._moved_on.set()

    def _rejected(self, error: RowError) -> None:
        if self._shown < SHOWN_REJECTS:
            self._shown += 1
            show_reject(self._console, error)
        if self._rejects is not None:
            self._unwritten.append(error)

    async def _store(self) -> None:
        # Taken here, not in the thread: the ledger moves on meanwhile.
        ledger, rejected = self.ledger, self._unwritten
        self._unwritten = []
        entry = Entry(
            file=str(self._path),
            done=ledger.done,
            accepted=ledger.accepted,
            rejected=ledger.rejected,
            warnings=dict(ledger.warnings),
        )
        await undisturbed(self._write, entry, rejected)
        self._stored_at = time.monotonic()

    def _write(self, entry: Entry, rejected: Sequence[RowError]) -> None:
        if self._rejects is not None:
            self._rejects.write(rejected)
            entry = Entry(
                file=entry.file,
                done=entry.done,
                accepted=entry.accepted,
                rejected=entry.rejected,
                warnings=entry.warnings,
                rejects_path=str(self._rejects.path),
                rejects_bytes=self._rejects.size(),
            )
        self._journal.save(entry)


def _open_rejects(path: Path | None, file: CsvTable, known: Entry | None) -> Rejects | None:
    if path is None:
        return None
    same = known is not None and known.rejects_path == str(path) and path.exists()
    return Rejects(
        path,
        header=file.header,
        delimiter=file.delimiter,
        keep_bytes=known.rejects_bytes if known and same else 0,
    )


def _take(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, _CHUNK_ROWS))


def _verdict(answer: Settled) -> tuple[int, Verdict]:
    item = answer.item
    if not answer.code:
        return item.number, answer.warnings
    field = _FIELDS_OF_CODES.get(answer.code, "")
    message = answer.message.removeprefix(f"{field}: ")
    return item.number, RowError(item.number, item.line, field, answer.code, message, item.cells)
