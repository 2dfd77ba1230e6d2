"""Which events have been counted: the table `seen_events`, and what this process has put there.

An event counts once because the table's key says so, whoever writes. What this process remembers
only makes it cheap: where the repeated events that it knows are left out, the others can be copied,
which costs the database half of what asking for each does. Where one is repeated after all, the
copy fails, and each is asked for.
"""

import struct
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.arrivals import AccountAndDay, EventKey, Keys, Known, keys_of
from shared.database import driver

_REMEMBERED: Final = 20_000
"""Keys, twice: 100 bytes each. A retry comes seconds after its first try, minutes at most."""
_ASKING_AFTER_A_MISS: Final = 20
"""Batches. Where one repeats what is long gone, a reload of old events say, the next will too."""

_Keys = dict[AccountAndDay, set[EventKey]]


class SeenEvents:
    """The events that were counted since a partition was claimed."""

    def __init__(self) -> None:
        self._young: _Keys = {}
        self._old: _Keys = {}
        self._count = 0
        self._asking = 0

    def remembered(self, group: AccountAndDay) -> Known:
        """The events that are known to be in the table."""
        return self._young.get(group, _NONE), self._old.get(group, _NONE)

    async def keep_new(self, connection: AsyncConnection, keys: Keys) -> Keys:
        """Store the events that the table did not hold; return them."""
        if not keys:
            return keys
        connected = await driver(connection)
        if self._asking:
            self._asking -= 1
            return await _ask(connected, keys)
        await connected.execute("SAVEPOINT copying")
        try:
            await connected.copy_to_table(
                "seen_events",
                schema_name="scoring",
                columns=["event_day", "account_id", "key"],
                source=_chunks(_binary_rows(keys)),
                format="binary",
            )
        except asyncpg.UniqueViolationError:
            self._asking = _ASKING_AFTER_A_MISS
            await connected.execute("ROLLBACK TO SAVEPOINT copying")
            return await _ask(connected, keys)
        return keys

    def remember(self, keys: Keys) -> None:
        """The events are in the table: call this after the commit."""
        for group, those in keys.items():
            self._young.setdefault(group, set()).update(those)
            self._count += len(those)
        if self._count >= _REMEMBERED:
            self._old, self._young, self._count = self._young, {}, 0


_NONE: Final[AbstractSet[EventKey]] = frozenset()


async def _ask(connected: asyncpg.Connection, keys: Keys) -> Keys:
    """Insert each event, unless it is there, and say which were not."""
    ordered = [
        (day, account, key) for day, account in sorted(keys) for key in sorted(keys[day, account])
    ]
    rows = await connected.fetch(
        "INSERT INTO scoring.seen_events (event_day, account_id, key)"
        " SELECT * FROM unnest($1::date[], $2::text[], $3::bytea[])"
        " ON CONFLICT DO NOTHING RETURNING event_day, account_id, key",
        [date.fromordinal(day) for day, _, _ in ordered],
        [account for _, account, _ in ordered],
        [key for _, _, key in ordered],
    )
    return keys_of(((day.toordinal(), account), key) for day, account, key in rows)


# The binary format of COPY: per row the number of fields, per field its length and its bytes.
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_FIELDS_AND_DAY: Final = struct.Struct(">hii")
_LENGTH: Final = struct.Struct(">i")
_KEY_LENGTH: Final = _LENGTH.pack(16)
_POSTGRES_EPOCH: Final = date(2000, 1, 1).toordinal()


def _binary_rows(keys: Keys) -> bytes:
    """In the order of the table's key, as two transactions must never wait in a circle."""
    parts = [_SIGNATURE]
    for day, account in sorted(keys):
        name = account.encode()
        # What all rows of the group begin with.
        start = b"".join(
            (
                _FIELDS_AND_DAY.pack(3, 4, day - _POSTGRES_EPOCH),
                _LENGTH.pack(len(name)),
                name,
                _KEY_LENGTH,
            )
        )
        parts += (start, start.join(sorted(keys[day, account])))
    parts.append(_END)
    return b"".join(parts)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data
