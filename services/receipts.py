"""Receipts of erasures: JSON files outside of the database, one for each account and person.

They hold no name and nobody's id but that of the erased account; a person is the hash that ingest
made. A later erasure of the same replaces the file. A database that was restored from a backup is
told by them what was erased since (`services/erase.py`).
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from shared.errors import PerennialError

_SUFFIX: Final = ".json"


class UnusableReceipt(PerennialError):
    """A file is no receipt, or cannot be read or written; the message names it."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One erasure; `account` is empty where a person was erased in all accounts.

    `flags_until` as in `messages.Erasure`; `done_at` None: asked for, not known to be done;
    `counts`: the rows that were deleted or changed, by table.
    """

    kind: Literal["account", "user"]
    account: str
    user: str | None = None
    user_key: int | None = None
    erased_at: datetime
    flags_until: datetime | None = None
    done_at: datetime | None = None
    counts: Mapping[str, int] = {}
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        """Of its file: the same for the same account or person, and saying neither."""
        whose = f"{self.account}\0{'' if self.user_key is None else self.user_key}"
        return f"{self.kind}-{hashlib.sha256(whose.encode()).hexdigest()[:24]}{_SUFFIX}"


def write(folder: Path, receipt: Receipt) -> Path:
    """Durable when this returns, readable by its user alone; never half a file."""
    path = folder / receipt.name
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(
            os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
        ) as file:
            file.write(msgspec.json.format(msgspec.json.encode(receipt)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        raise UnusableReceipt(f"{path}: cannot be written: {error.strerror}") from error
    return path


def newest(one: Receipt, other: Receipt | None) -> Receipt:
    """Of the same account or person: the later erasure, and of one the more that is known of it."""
    if other is None:
        return one
    return max(one, other, key=lambda each: (each.erased_at, each.done_at is not None))


def find(folder: Path, receipt: Receipt) -> Receipt | None:
    """What the folder has of the same account or person."""
    path = folder / receipt.name
    return _read(path) if path.exists() else None


def read_all(path: Path) -> Sequence[Receipt]:
    """All of a folder, or the one file; the oldest erasure first. Raises UnusableReceipt."""
    try:
        files = sorted(path.glob(f"*{_SUFFIX}")) if path.is_dir() else [path]
    except OSError as error:
        raise UnusableReceipt(f"{path}: cannot be read: {error.strerror}") from error
    return sorted(_read_some(files), key=lambda receipt: receipt.erased_at)


def _read_some(files: Sequence[Path]) -> Iterator[Receipt]:
    for file in files:
        yield _read(file)


def _read(path: Path) -> Receipt:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Receipt)
    except OSError as error:
        raise UnusableReceipt(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnusableReceipt(f"{path}: is no receipt: {error}") from error
    if (found.kind == "user") != (found.user_key is not None):
        raise UnusableReceipt(f"{path}: is no receipt: a person has a user_key, an account none")
    return found
