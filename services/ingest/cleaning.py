"""What must not lie in quarantine as it came: keys, people's ids, e-mail addresses.

Keys are blotted out; people are hashed as accepted events have them, so that a replay knows them.
What does not parse, or is too large to be looked at, can never be replayed: of it only the shape is
kept, brackets, quotes and commas, and nothing that anybody wrote between them.
"""

import base64
import binascii
import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from services.ingest.envelope import parse_item
from services.ingest.identity import MAX_ID_LENGTH, user_of
from services.ingest.items import Parsed
from shared.account_cells import COLUMN_NAMES, snake
from shared.credentials import HashedUser
from shared.csv_table import CsvTable, UnusableHeader
from shared.errors import InvalidMessage
from shared.quarantine import MAX_ITEM_BYTES

MAX_BYTES = 1024 * 1024
MAX_VALUES = 40_000
MAX_HASHES = 4_000
"""Of the rejected items of one request, together: what is beyond would keep all others waiting."""

_MAX_LEVELS = 200
"""No setting lets an item through that has more."""
_MAX_NAME = 100
_SHAPE_LENGTH = 256

_WHO = ("user", "person", "customer", "member", "contact", "visitor", "profile")
_PEOPLE = frozenset(
    f"{who}id{plural}"
    for who in (*_WHO, "u", "distinct", "anonymous", "anondistinct", "previous")
    for plural in ("", "s")
) | {
    "user",
    "users",
    "username",
    "usernames",
    "email",
    "emails",
    "emailaddress",
    "alias",
    "aliases",
}
"""Names, as `_plain` writes them, of what holds a person's id or address, at any level."""
_ALSO_COUNTS = frozenset({"users", "emails"})
"""A number under these says how many."""
_PERSONS = frozenset(f"{who}{plural}" for who in _WHO for plural in ("", "s")) | frozenset(
    {"people", "actor", "author", "traits", "set", "setonce"}
)
_OF_A_PERSON = frozenset({"id", "ids", "uuid", "key"})
"""Names of a person's id inside of what `_PERSONS` names."""
_NAMES_OF_ACCOUNTS = frozenset({"accountid", "tenantid", "groupid", "groupkey"})
_GROUPS = "groups"
_COMPANY = "company"
_NAMES_OF_ITEMS = frozenset({"id", "messageid", "uuid", "source", "subject", "type", "event"})
"""At the outermost level: what an item is and whose, which its replay must find as it was."""
_OWNER = frozenset(COLUMN_NAMES["owner"])
"""An account's owner is one of the vendor's own people, and a fact of the directory."""
_HOLD_OWNER = frozenset({"traits", "groupset"})
_BASE64 = "data_base64"

_KEY = re.compile(r"prn_live_([0-9A-Za-z]{12})_[0-9A-Za-z_]*")
_ADDRESS = re.compile(r"(?<![\w.+%'@-])(?:[\w.+'-]++|%(?!40))*+(?:@|%40)[\w.+%'@-]*+")
"""A run without blanks that holds an at sign, as such or as addresses of pages have it."""
_AROUND = ".+'@-"
_VALUE = re.compile(r"""[^\s{}\[\]()<>:;,"'\\]""")
_SEPARATORS = str.maketrans("", "", "$_-. ")


class _TooDeep(Exception):
    """The value has more levels than anybody looks at."""


class _TooMuch(Exception):
    """The items of this request are more than anybody looks at."""


class Cleaned(NamedTuple):
    value: bytes
    is_whole: bool
    read: Parsed | None = None
    """The item before it was cleaned, where it was read as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The first line of a CSV file: it says of each cell whose it is."""

    header: bytes
    delimiter: str
    is_owner: list[bool]
    is_person: list[bool]


class Cleaning:
    """The items of one request on their way in: bytes as they came, but for what must not stay."""

    def __init__(
        self, hash_user: Callable[[str], HashedUser], *, is_account: bool, is_csv: bool
    ) -> None:
        """`is_account`: the items are of the directory, and `owner` no customer's address."""
        self._hash_user = hash_user
        self._is_account = is_account
        self._is_csv = is_csv
        self._is_changed = False
        self._columns: tuple[bytes, _Columns | None] | None = None
        self._bytes_left = MAX_BYTES
        self._values_left = MAX_VALUES
        self._hashes_left = MAX_HASHES

    def item(self, item: bytes | Parsed, header: bytes = b"") -> Cleaned | None:
        """At most MAX_ITEM_BYTES of it; None where the request holds too much to look at it.

        `header` is the first line of its file, which is kept with it.
        """
        size = len(header) + (item.size if isinstance(item, Parsed) else len(item))
        if size > MAX_ITEM_BYTES:
            return _shape_of(item)
        self._bytes_left -= size
        if self._bytes_left < 0:
            return None
        self._is_changed = False
        try:
            if self._is_csv and isinstance(item, bytes):
                return self._row(item, header)
            return self._json(item)
        except _TooMuch:
            self._bytes_left = 0
            return None

    def _json(self, item: bytes | Parsed) -> Cleaned:
        try:
            value = parse_item(item)
            cleaned = self._value(value, "", "", 0)
            data = item if isinstance(item, bytes) and not self._is_changed else _dumped(cleaned)
        except (InvalidMessage, _TooDeep, ValueError, RecursionError):
            return _shape_of(item)
        return Cleaned(data[:MAX_ITEM_BYTES], len(data) <= MAX_ITEM_BYTES, Parsed(value, len(data)))

    def _row(self, item: bytes, header: bytes) -> Cleaned:
        """Every cell but the owner's; what cannot be read as one row is none."""
        if self._columns is None or self._columns[0] != header:
            self._columns = header, self._read_header(header)
            self._is_changed = False
        columns = self._columns[1]
        if columns is None:
            return _shape_of(item)
        lines = (line.decode("utf-8", "surrogateescape") for line in io.BytesIO(item))
        try:
            rows = list(csv.reader(lines, delimiter=columns.delimiter, strict=True))
        except csv.Error:
            return _shape_of(item)
        if len(rows) != 1 or len(rows[0]) != len(columns.is_owner):
            return _shape_of(item)
        if any(columns.is_person) or b"@" in item or b"%40" in item or b"prn_live_" in item:
            self._spend(len(rows[0]))
            cells = [
                cell if is_owner else self._cell(cell, is_person=is_person)
                for cell, is_owner, is_person in zip(
                    rows[0], columns.is_owner, columns.is_person, strict=True
                )
            ]
            if self._is_changed:
                item = _written(cells, columns.delimiter)
        data = columns.header + item
        return Cleaned(data[:MAX_ITEM_BYTES], len(data) <= MAX_ITEM_BYTES)

    def _read_header(self, header: bytes) -> _Columns | None:
        try:
            table = CsvTable(io.BytesIO(header))
        except UnusableHeader:
            return None
        self._spend(len(table.header))
        names = [self._text(name) for name in table.header]
        return _Columns(
            header=_written(names, table.delimiter) if self._is_changed else header,
            delimiter=table.delimiter,
            is_owner=[snake(name) in _OWNER for name in table.header],
            is_person=[_plain(name) in _PEOPLE for name in table.header],
        )

    def _cell(self, cell: str, *, is_person: bool) -> str:
        return str(self._person(cell, "")) if is_person and cell else self._text(cell)

    def _value(self, value: object, name: str, parent: str, level: int) -> object:
        """`value` under its name in the object around it, both as `_plain` writes them."""
        if level > _MAX_LEVELS:
            raise _TooDeep
        if isinstance(value, dict):
            self._spend(len(value))
            if level == 0 and isinstance(value.get(_BASE64), str):
                value = self._unpacked(value)
            return {
                self._text(key): self._value(part, _plain(key), name, level + 1)
                for key, part in value.items()
            }
        if isinstance(value, list):
            self._spend(len(value))
            # Parts of a list go by the list's own name.
            return [self._value(part, name, parent, level + 1) for part in value]
        if self._is_needed(name, parent, level):
            return self._without_keys(value) if isinstance(value, str) else value
        if name in _PEOPLE or (name in _OF_A_PERSON and parent in _PERSONS):
            return self._person(value, name)
        return self._text(value) if isinstance(value, str) else value

    def _is_needed(self, name: str, parent: str, level: int) -> bool:
        """Whether a replay has to find the value as it was."""
        if name in _OWNER:
            return parent in _HOLD_OWNER or (self._is_account and level == 1)
        return (
            name in _NAMES_OF_ACCOUNTS
            or parent == _GROUPS
            or (parent == _COMPANY and name == "id")
            or (level == 1 and name in _NAMES_OF_ITEMS)
        )

    def _person(self, value: object, name: str) -> object:
        """Hashed as an accepted event has it. What is no user's id now must be none later."""
        if value is None or isinstance(value, bool):
            return value
        if name in _ALSO_COUNTS and not isinstance(value, str):
            return value
        if name == "distinctid" and isinstance(value, str) and value.startswith("$"):
            return value  # Made up by a library, which knows it again by its looks.
        try:
            user = user_of(value)
        except InvalidMessage:
            return [self._hash(str(value)[:MAX_ID_LENGTH])]
        return value if user is None else self._hash(user)

    def _unpacked(self, event: dict[str, object]) -> dict[str, object]:
        """An event whose data travelled as bytes, with the data as the value that it is.

        Bytes that are no JSON are dropped: an event has nothing of them either.
        """
        self._is_changed = True
        kind = event.get("datacontenttype")
        others = {name: part for name, part in event.items() if name != _BASE64}
        if kind is None or (isinstance(kind, str) and "json" in kind.lower()):
            try:
                data = parse_item(base64.b64decode(str(event[_BASE64]), validate=True))
            except (binascii.Error, ValueError, InvalidMessage):
                pass
            else:
                return {**others, "data": data}
        return {**others, _BASE64: ""}

    def _text(self, text: str) -> str:
        text = self._without_keys(text)
        if "@" in text or "%40" in text:
            return _ADDRESS.sub(self._address, text)
        return text

    def _address(self, found: re.Match[str]) -> str:
        """The run with its address hashed, without what stands around it."""
        run = found[0]
        address = run.strip(_AROUND)
        if "@" not in address and "%40" not in address:
            return run
        before, after = run.split(address, 1)
        return f"{before}{self._hash(address)}{after}"

    def _without_keys(self, text: str) -> str:
        """Some libraries send their key in every item."""
        if "prn_live_" not in text:
            return text
        self._is_changed = True
        return _KEY.sub(r"prn_live_\1_...", text)

    def _hash(self, person: str) -> HashedUser:
        if not self._hashes_left:
            raise _TooMuch
        self._hashes_left -= 1
        self._is_changed = True
        return self._hash_user(person)

    def _spend(self, values: int) -> None:
        if values > self._values_left:
            raise _TooMuch
        self._values_left -= values


def _shape_of(item: bytes | Parsed) -> Cleaned:
    if isinstance(item, Parsed):
        return Cleaned(b"", is_whole=False)
    # Sign for sign, so that the column in the reason still points at what is wrong.
    head = item[: 4 * _SHAPE_LENGTH].decode("utf-8", "surrogateescape")[:_SHAPE_LENGTH]
    return Cleaned(_VALUE.sub("x", head).encode(), is_whole=False)


def _written(cells: list[str], delimiter: str) -> bytes:
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter).writerow(cells)
    return line.getvalue().encode("utf-8", "surrogateescape")


def _plain(name: str) -> str:
    return name.translate(_SEPARATORS).lower() if len(name) <= _MAX_NAME else ""


def _dumped(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # Half a character: told apart from a whole one when read again.
        return json.dumps(value, separators=(",", ":")).encode("ascii")
