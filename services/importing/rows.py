"""A CSV row to the item that goes on the wire, or to the reason why it cannot."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from services.importing.mapping import AccountColumns, EventColumns
from services.importing.times import TimeForm, wire_time
from shared.account_cells import read_cell
from shared.csv_table import CsvRow

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)

_NUMERIC_PROPERTIES = frozenset({"amount", "delta", "duration_seconds", "score", "seats", "value"})
"""Properties that the wire reads as numbers; all others stay text, as product numbers must."""

_encode = msgspec.json.Encoder().encode


class Item(NamedTuple):
    """One row, encoded; `cells` are kept so that a rejected row can be written out as it came."""

    number: int
    line: int
    account: str
    body: bytes
    cells: list[str]


class RowError(NamedTuple):
    """Why a row was not taken; `field` is empty where the row as a whole is at fault."""

    number: int
    line: int
    field: str
    code: str
    message: str
    cells: list[str]


Row: TypeAlias = Item | RowError
BuildRow: TypeAlias = Callable[[CsvRow], Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRows:
    """Builds events; without an id column, `id_prefix` and the row number make the id."""

    columns: EventColumns
    header: Sequence[str]
    time_form: TimeForm
    zone: ZoneInfo | None
    default_type: str
    id_prefix: str

    def __call__(self, record: CsvRow) -> Row:
        if record.broken is not None:
            return _broken(record)
        cells, columns = record.cells, self.columns
        account = cells[columns.account_id].strip()
        if not account:
            return _error(record, "account_id", "missing_account", "the cell is empty")
        text = cells[columns.occurred_at].strip()
        if not text:
            return _error(record, "occurred_at", "invalid_time", "the cell is empty")
        try:
            occurred_at = wire_time(text, self.time_form, self.zone)
        except ValueError as error:
            return _error(record, "occurred_at", "invalid_time", f"{text[:40]!a} {error}")
        event: dict[str, object] = {
            "id": f"{self.id_prefix}-{record.number}",
            "account_id": account,
            "type": self.default_type,
            "occurred_at": occurred_at,
        }
        if columns.id is not None:
            event["id"] = cells[columns.id].strip()
            if not event["id"]:
                # Without one the event would get a random id, and a second import count it twice.
                return _error(record, "id", "invalid_id", "the cell is empty")
        if columns.type is not None:
            event["type"] = cells[columns.type].strip() or self.default_type
        if columns.user_id is not None and (user := cells[columns.user_id].strip()):
            event["user_id"] = user
        properties = {
            name: _property(name, cells[index])
            for name, index in columns.properties
            if cells[index].strip()
        }
        if properties:
            event["properties"] = properties
        return _item(record, account, event, self.header)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRows:
    """Builds patches of accounts: an empty cell leaves its field as it is."""

    columns: AccountColumns
    header: Sequence[str]
    decimal_comma: bool

    def __call__(self, record: CsvRow) -> Row:
        if record.broken is not None:
            return _broken(record)
        account = record.cells[self.columns.id].strip()
        if not account:
            return _error(record, "id", "missing_account", "the cell is empty")
        fields: dict[str, object] = {"id": account}
        for name, index in self.columns.fields:
            text = record.cells[index].strip()
            if not text:
                continue
            try:
                fields[name] = read_cell(name, text, decimal_comma=self.decimal_comma)
            except ValueError as error:
                return _error(record, name, "invalid_field", f"{text[:40]!a} {error}")
        return _item(record, account, fields, self.header)


def _property(name: str, text: str) -> object:
    if name in _NUMERIC_PROPERTIES and _NUMBER.fullmatch(text.strip()):
        return float(text) if "." in text else int(text)
    return text


def _item(record: CsvRow, account: str, fields: dict[str, object], header: Sequence[str]) -> Row:
    try:
        body = _encode(fields)
    except UnicodeEncodeError:
        column = next(
            (
                name
                for name, cell in zip(header, record.cells, strict=True)
                if any("\ud800" <= sign <= "\udfff" for sign in cell)
            ),
            "",
        )
        return _error(record, column, "invalid_text", "the cell is not UTF-8")
    return Item(record.number, record.line, account, body, record.cells)


def _broken(record: CsvRow) -> RowError:
    return _error(record, "", "broken_row", record.broken or "")


def _error(record: CsvRow, field: str, code: str, message: str) -> RowError:
    return RowError(record.number, record.line, field, code, message, record.cells)
