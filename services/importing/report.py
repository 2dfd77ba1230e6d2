"""What a person sees of an import: a progress bar, the first rejected rows, the summary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from services.importing.rows import RowError

SHOWN_REJECTS = 10
_LEAST_ROWS_FOR_A_RATE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """How an import ended; `warnings` counts warnings, not rows."""

    rows: int
    accepted: int
    rejected: int
    warnings: int
    seconds: float

    @property
    def exit_code(self) -> int:
        return 1 if self.rejected else 0

    def to_json(self) -> str:
        """One line: {"rows","accepted","rejected","warnings","seconds"}."""
        return msgspec.json.encode(
            {
                "rows": self.rows,
                "accepted": self.accepted,
                "rejected": self.rejected,
                "warnings": self.warnings,
                "seconds": round(self.seconds, 3),
            }
        ).decode()


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def show_reject(console: Console, error: RowError) -> None:
    field = f" {error.field}:" if error.field else ""
    console.print(
        f"[red]rejected[/] row {error.number} (line {error.line}):{escape(field)}"
        f" {escape(error.code)}: {escape(printable(error.message))}",
        highlight=False,
        soft_wrap=True,
    )


def show_summary(
    console: Console,
    summary: ImportSummary,
    warnings: Mapping[str, int],
    rejects: Path | None,
    *,
    whole_file_counts_twice: bool,
) -> None:
    """`whole_file_counts_twice`: rows without an id of their own are new ones in a new file."""
    rate = ""
    if summary.rows >= _LEAST_ROWS_FOR_A_RATE and summary.seconds:
        rate = f" ({summary.rows / summary.seconds:,.0f} rows/s)"
    console.print(
        f"{summary.rows:,} rows: {summary.accepted:,} accepted, {summary.rejected:,} rejected,"
        f" {summary.warnings:,} warnings in {summary.seconds:.1f} s{rate}",
        highlight=False,
        soft_wrap=True,
    )
    for code, count in sorted(warnings.items()):
        console.print(f"  warning {escape(code)}: {count:,}", highlight=False, soft_wrap=True)
    if summary.rejected:
        where = (
            f"all are in {rejects}: correct them there and import that file"
            if rejects
            else "with --rejects FILE all are written to a file to correct and import"
        )
        if whole_file_counts_twice:
            where += (
                " (the whole file, once corrected, would count its good rows twice"
                " where it has no ids of its own)"
            )
        console.print(
            f"  {escape(where)}",
            highlight=False,
            soft_wrap=True,
        )


def printable(text: str) -> str:
    """Text from a file or a server, safe for a terminal."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
