"""Accounts from a CSV file, with the columns that `perennial import accounts` knows."""

import csv
import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import msgspec

from services.scoring.evaluation.event_file import UnusableFile
from shared.account_cells import COLUMN_NAMES, read_cell, snake
from shared.csv_table import CsvRow, CsvTable, UnusableHeader
from shared.messages import AccountFields

_FIELDS = {name: field for field, names in COLUMN_NAMES.items() for name in names}


def read_accounts(path: Path) -> dict[str, AccountFields]:
    """The fields of each account; of two rows of one account the later one counts.

    Raises UnusableFile with the column or the row that is wrong. Columns it does not know are left
    out.
    """
    try:
        with _open(path) as stream:
            table = CsvTable(stream)
            columns = {
                index: _FIELDS[snake(name)]
                for index, name in enumerate(table.header)
                if snake(name) in _FIELDS
            }
            if "id" not in columns.values():
                raise UnusableFile("--accounts: missing column: account_id")
            comma = table.delimiter == ";"
            return dict(_account(row, columns, decimal_comma=comma) for row in table.rows())
    except (OSError, EOFError, zlib.error, UnusableHeader, csv.Error) as error:
        raise UnusableFile(f"--accounts: {path} cannot be read: {error}") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _account(
    row: CsvRow, columns: Mapping[int, str], *, decimal_comma: bool
) -> tuple[str, AccountFields]:
    if row.broken:
        raise UnusableFile(f"--accounts: row {row.number}: {row.broken}")
    values: dict[str, object] = {}
    for index, field in columns.items():
        text = row.cells[index].strip()
        if not text:
            continue
        try:
            values[field] = read_cell(field, text, decimal_comma=decimal_comma)
        except ValueError as error:
            raise UnusableFile(f"--accounts: row {row.number}: {field} {error}") from error
    account = str(values.pop("id", ""))
    if not account:
        raise UnusableFile(f"--accounts: row {row.number}: the account has no id")
    try:
        return account, msgspec.convert(values, AccountFields)
    except msgspec.ValidationError as error:
        raise UnusableFile(f"--accounts: row {row.number}: {error}") from error
