"""What must not lie in quarantine as it came: keys, people's ids, e-mail addresses.

Keys are blotted out; people are hashed as accepted events have them, so that a replay knows them.
What does not parse, or is too large to be looked at, is cleaned as text, by its looks.
"""

import base64
import binascii
import csv
import io
import json
import re
from collections.abc import Callable
from typing import NamedTuple

from services.ingest.envelope import parse_item
from services.ingest.identity import MAX_ID_LENGTH, user_of
from services.ingest.items import Parsed
from shared.account_cells import COLUMN_NAMES, snake
from shared.credentials import HashedUser
from shared.csv_table import CsvTable, UnusableHeader
from shared.errors import InvalidMessage
from shared.quarantine import MAX_ITEM_BYTES

_MAX_LEVELS = 200
"""No setting lets an item through that has more."""
_PEOPLE = frozenset(
    {"userid", "distinctid", "anonymousid", "anondistinctid", "previousid", "alias", "email"}
)
"""Names, as `_plain` writes them, of what holds a person's id or address, at any level."""
_NAMES_OF_ACCOUNTS = frozenset({"accountid", "tenantid", "groupid", "groupkey"})
_GROUPS = "groups"
_NAMES_OF_ITEMS = frozenset({"id", "messageid", "uuid", "source", "subject", "type", "event"})
"""At the outermost level: what an item is and whose, which its replay must find as it was."""
_OWNER = frozenset(COLUMN_NAMES["owner"])
"""An account's owner is one of the vendor's own people, and a fact of the directory."""
_HOLD_OWNER = frozenset({"traits", "groupset"})
_BASE64 = "database64"

_KEY = re.compile(r"prn_live_([0-9A-Za-z]{12})_[0-9A-Za-z_]*")
_EMAIL = re.compile(r"(?<![\w.+%'-])[\w.+%'-]++@[\w-]++(?:\.[\w-]++)++")
_PERSON_IN_TEXT = re.compile(
    r'("\$?(?:user_?id|(?:anon_)?distinct_?id|anonymous_?id|previous_?id|alias|e_?mail)"\s*+:\s*+)'
    r'(?:"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)|(-?\d++))',
    re.IGNORECASE | re.DOTALL,
)
_SEPARATORS = str.maketrans("", "", "$_-. ")


class _TooDeep(Exception):
    """The value has more levels than anybody looks at."""


class Cleaned(NamedTuple):
    value: bytes
    is_whole: bool


class Cleaning:
    """One item on its way in: its bytes as they came, unless something in them must not stay."""

    def __init__(
        self, hash_user: Callable[[str], HashedUser], *, is_account: bool, is_csv: bool
    ) -> None:
        """`is_account`: the item is of the directory, and `owner` no customer's address."""
        self._hash_user = hash_user
        self._is_account = is_account
        self._is_csv = is_csv
        self._is_changed = False

    def item(self, item: bytes | Parsed) -> Cleaned:
        """At most MAX_ITEM_BYTES of it."""
        if isinstance(item, Parsed):
            try:
                data = _dumped(item.value)
            except (ValueError, RecursionError):
                return Cleaned(b"", is_whole=False)
        else:
            data = item
        if max(len(data), item.size if isinstance(item, Parsed) else 0) > MAX_ITEM_BYTES:
            return Cleaned(self._text_only(data[:MAX_ITEM_BYTES])[:MAX_ITEM_BYTES], is_whole=False)
        cleaned = self._csv(data) if self._is_csv else self._json(data)
        return Cleaned(cleaned[:MAX_ITEM_BYTES], is_whole=len(cleaned) <= MAX_ITEM_BYTES)

    def _json(self, data: bytes) -> bytes:
        try:
            cleaned = self._value(parse_item(data), "", "", 0)
            return _dumped(cleaned) if self._is_changed else data
        except (InvalidMessage, _TooDeep, ValueError, RecursionError):
            return self._text_only(data)

    def _csv(self, item: bytes) -> bytes:
        """Every cell but the owner's; a file that cannot be read as one is text."""
        try:
            table = CsvTable(io.BytesIO(item))
        except UnusableHeader:
            return self._text_only(item)
        rows = list(table.rows())
        if any(row.broken is not None for row in rows):
            return self._text_only(item)
        owned = [snake(column) in _OWNER for column in table.header]
        cleaned = [
            [
                cell if is_owner else self._text(cell)
                for is_owner, cell in zip(owned, row.cells, strict=True)
            ]
            for row in rows
        ]
        if not self._is_changed:
            return item
        written = io.StringIO()
        csv.writer(written, delimiter=table.delimiter).writerows([table.header, *cleaned])
        return written.getvalue().encode("utf-8", "surrogateescape")

    def _text_only(self, data: bytes) -> bytes:
        text = data.decode("utf-8", "surrogateescape")
        text = self._text(_PERSON_IN_TEXT.sub(self._person_in_text, text))
        return text.encode("utf-8", "surrogateescape")

    def _person_in_text(self, found: re.Match[str]) -> str:
        return f'{found[1]}"{self._hash_user((found[2] or found[3] or "")[:MAX_ID_LENGTH])}"'

    def _value(self, value: object, name: str, parent: str, level: int) -> object:
        """`value` under its name in the object around it, both as `_plain` writes them."""
        if level > _MAX_LEVELS:
            raise _TooDeep
        if isinstance(value, dict):
            return {
                self._text(key): self._value(part, _plain(key), name, level + 1)
                for key, part in value.items()
            }
        if isinstance(value, list):
            # Parts of a list go by the list's own name.
            return [self._value(part, name, parent, level + 1) for part in value]
        if self._is_needed(name, parent, level):
            return self._without_keys(value) if isinstance(value, str) else value
        if name in _PEOPLE:
            return self._person(value, name)
        if isinstance(value, str):
            is_encoded = name == _BASE64 and level == 1
            return self._encoded(value) if is_encoded else self._text(value)
        return value

    def _is_needed(self, name: str, parent: str, level: int) -> bool:
        """Whether a replay has to find the value as it was."""
        if name in _OWNER:
            return parent in _HOLD_OWNER or (self._is_account and level == 1)
        return (
            name in _NAMES_OF_ACCOUNTS
            or parent == _GROUPS
            or (level == 1 and name in _NAMES_OF_ITEMS)
        )

    def _person(self, value: object, name: str) -> object:
        """Hashed as an accepted event has it. What is no user's id now must be none later."""
        if value is None or isinstance(value, bool):
            return value
        if name == "distinctid" and isinstance(value, str) and value.startswith("$"):
            return value  # Made up by a library, which knows it again by its looks.
        try:
            user = user_of(value)
        except InvalidMessage:
            self._is_changed = True
            return [self._hash_user(str(value)[:MAX_ID_LENGTH])]
        if user is None:
            return value
        self._is_changed = True
        return self._hash_user(user)

    def _encoded(self, value: str) -> str:
        """An event's data that travelled as bytes."""
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return self._text(value)
        cleaned = self._json(data)
        return value if cleaned == data else base64.b64encode(cleaned).decode("ascii")

    def _text(self, text: str) -> str:
        cleaned = self._without_keys(text)
        if "@" in cleaned:
            cleaned = _EMAIL.sub(lambda found: self._hash_user(found[0]), cleaned)
        if cleaned != text:
            self._is_changed = True
        return cleaned

    def _without_keys(self, text: str) -> str:
        """Some libraries send their key in every item."""
        if "prn_live_" not in text:
            return text
        self._is_changed = True
        return _KEY.sub(r"prn_live_\1_...", text)


def _plain(name: str) -> str:
    return name.translate(_SEPARATORS).lower()


def _dumped(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # Half a character: told apart from a whole one when read again.
        return json.dumps(value, separators=(",", ":")).encode("ascii")
