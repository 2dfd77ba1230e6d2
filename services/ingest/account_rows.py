"""Accounts as a CSV file: each row is a change, and a bad row costs no other.

An empty cell says nothing of its field: a patch leaves it as it is, a put does not set it.
"""

import io
from collections import Counter
from dataclasses import dataclass

from services.ingest.directory import (
    DirectoryRules,
    DirectorySubmission,
    Statement,
    change_of,
    read_fields,
    record_of,
    unknown_warning,
)
from services.ingest.identity import account_of
from services.ingest.repair import is_storable
from services.ingest.replies import RefusalCode, Refused
from services.ingest.results import Code, Decoded, Result
from shared.account_cells import COLUMN_NAMES, read_cell, snake
from shared.csv_table import CsvRow, CsvTable, UnusableHeader
from shared.errors import InvalidMessage
from shared.messages import DIRECTORY_CHANGES

MEDIA_TYPE = "text/csv"

_MAX_LINES = 100_000
"""Of a body: blank ones and those inside quotes are no rows, but cost time too."""
_MAX_COLUMNS = 1_000
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii"})
_MAX_COLUMN_NAME = 50

_FIELDS = {name: field for field, names in COLUMN_NAMES.items() for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """What each column of the file means."""

    id: int
    fields: dict[str, int]
    """By field, in the file's order."""
    names: list[str]
    unknown: list[str]


def is_csv(content_type: bytes | None) -> bool:
    """Whether the body is CSV; raises Refused where it says that it is not in UTF-8."""
    media_type, _, parameters = (content_type or b"").decode("latin-1").lower().partition(";")
    if media_type.strip() != MEDIA_TYPE:
        return False
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in _UTF_8:
            raise Refused(RefusalCode.INVALID_ENCODING, "the file must be in UTF-8")
    return True


def decode(body: bytes, rules: DirectoryRules, submission: DirectorySubmission) -> Decoded:
    """One result per row; raises Refused where the header cannot be used, or there is no row."""
    if body.count(b"\n") > _MAX_LINES:
        raise Refused(
            RefusalCode.TOO_MANY_ITEMS, f"the file has more than {_MAX_LINES} lines; split it"
        )
    try:
        table = CsvTable(io.BytesIO(body))
    except UnusableHeader as error:
        raise Refused(RefusalCode.INVALID_ENVELOPE, str(error)) from error
    if len(table.header) > _MAX_COLUMNS:
        raise Refused(
            RefusalCode.INVALID_ENVELOPE, f"the file has more than {_MAX_COLUMNS} columns"
        )
    columns = _columns(table.header)
    # Set aside with each bad row, so that the row says by itself what it meant.
    header = table.header_text.encode("utf-8", "surrogateescape")
    decoded = Decoded()
    for row in table.rows():
        if row.number > rules.max_items:
            raise Refused(
                RefusalCode.TOO_MANY_ITEMS,
                f"more than {rules.max_items} accounts in one request; split the file",
            )
        _decode_row(decoded, row, table, columns, header, rules=rules, submission=submission)
    if not decoded.results:
        raise Refused(RefusalCode.INVALID_ENVELOPE, "the file holds no accounts")
    _tell_unknown(decoded, columns)
    return decoded


def _columns(header: list[str]) -> _Columns:
    meant = [_FIELDS.get(snake(column)) for column in header]
    for field, count in Counter(filter(None, meant)).items():
        if count > 1:
            twice = [name for name, other in zip(header, meant, strict=True) if other == field]
            raise Refused(
                RefusalCode.INVALID_ENVELOPE, f"columns {', '.join(twice)} all mean {field}"
            )
    if "id" not in meant:
        raise Refused(
            RefusalCode.INVALID_ENVELOPE,
            f"no column names the account: one must be called {' or '.join(COLUMN_NAMES['id'])}",
        )
    places = {field: place for place, field in enumerate(meant) if field is not None}
    return _Columns(
        id=places.pop("id"),
        fields=places,
        names=header,
        unknown=[
            name[:_MAX_COLUMN_NAME] or f"column {place}"
            for place, (name, field) in enumerate(zip(header, meant, strict=True), start=1)
            if field is None
        ],
    )


def _decode_row(
    decoded: Decoded,
    row: CsvRow,
    table: CsvTable,
    columns: _Columns,
    header: bytes,
    *,
    rules: DirectoryRules,
    submission: DirectorySubmission,
) -> None:
    index = row.number - 1
    account = None
    try:
        _check_row(row, table, rules)
        if not is_storable(table.row_text):
            _check_text(row, columns)
        account = _account(row, columns)
        said = _read(row, columns, decimal_comma=table.delimiter == ";")
        record = record_of(change_of(account, said, submission), rules, submission)
    except InvalidMessage as error:
        kept = table.row_text.encode("utf-8", "surrogateescape")
        decoded.reject(index, account, error.code, f"line {row.line}: {error.detail}", kept, header)
        return
    result = Result(index, account, "retry")
    decoded.wait_for(result, DIRECTORY_CHANGES, record)


def _check_row(row: CsvRow, table: CsvTable, rules: DirectoryRules) -> None:
    if len(table.row_text) > rules.max_item_bytes:
        raise InvalidMessage(
            Code.EVENT_TOO_LARGE, f"it takes more than {rules.max_item_bytes} bytes"
        )
    if row.broken is not None:
        raise InvalidMessage(Code.INVALID_FIELD, row.broken)


def _account(row: CsvRow, columns: _Columns) -> str:
    column, cell = columns.names[columns.id], row.cells[columns.id].strip()
    if not cell:
        raise InvalidMessage(Code.MISSING_ACCOUNT, f"{column}: the cell is empty")
    return account_of(cell, column)


def _read(row: CsvRow, columns: _Columns, *, decimal_comma: bool) -> Statement:
    stated: dict[str, object] = {}
    problems: list[tuple[str, str]] = []
    for field, place in columns.fields.items():
        cell = row.cells[place].strip()
        if not cell:
            continue
        try:
            stated[field] = read_cell(field, cell, decimal_comma=decimal_comma)
        except ValueError as error:
            problems.append((field, str(error)))
    said = read_fields(stated)
    said.problems = [
        (columns.names[columns.fields[field]], why) for field, why in problems + said.problems
    ]
    return said


def _check_text(row: CsvRow, columns: _Columns) -> None:
    """Nothing can store NUL, or bytes that are no UTF-8; in a column that is not kept it may be."""
    for place in (columns.id, *columns.fields.values()):
        if not is_storable(row.cells[place]):
            name = columns.names[place]
            raise InvalidMessage(Code.INVALID_TEXT, f"{name}: the cell is not UTF-8, or holds NUL")


def _tell_unknown(decoded: Decoded, columns: _Columns) -> None:
    """Columns are unknown for all rows alike: the first one that is taken names them."""
    if columns.unknown:
        taken = next((result for result in decoded.results if result.status != "rejected"), None)
        if taken is not None:
            taken.warnings = (unknown_warning(columns.unknown),)
