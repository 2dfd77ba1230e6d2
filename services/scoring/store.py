"""Scoring's SQL of intake: plain functions on a connection, inside the caller's transaction.

Rows go in key order, so that two transactions never wait for each other in a circle.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, TypeAlias

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.domain.activity import AccountDay, DayDelta
from services.scoring.tables import dirty
from shared.database import driver
from shared.log.partitioner import partition_of
from shared.messages import AccountFields, AccountRecord, encode

SHARDS: Final = 8
"""Sweeps of different shards run beside each other; an account is always in the same one."""

EventIdentity: TypeAlias = tuple[date, str, bytes]
"""Client's day, account, 128-bit hash of source and id."""

# In a list that travels as one string; a feature name that holds it is cut there.
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An account that is to be scored again, since when, and whether history is being loaded."""

    account: str
    received_at: datetime
    backfill: bool


def marks_at(received: Mapping[str, datetime]) -> list[Mark]:
    """One mark for each account, in one order."""
    return [
        Mark(account=name, received_at=moment, backfill=False)
        for name, moment in sorted(received.items())
    ]


def shard_of(account: str) -> int:
    return partition_of(account.encode(), SHARDS)


async def keep_new(
    connection: AsyncConnection, identities: Sequence[EventIdentity]
) -> set[EventIdentity]:
    """Remember the events; return those that were not known before."""
    rows = await (await driver(connection)).fetch(
        "INSERT INTO scoring.seen_events (event_day, account_id, key)"
        " SELECT * FROM unnest($1::date[], $2::text[], $3::bytea[])"
        " ON CONFLICT DO NOTHING RETURNING event_day, account_id, key",
        [day for day, _, _ in identities],
        [account for _, account, _ in identities],
        [key for _, _, key in identities],
    )
    return {(row[0], row[1], row[2]) for row in rows}


async def add_activity(connection: AsyncConnection, deltas: Mapping[AccountDay, DayDelta]) -> None:
    """Add the deltas to the day buckets: sums add, sets unite, order does not matter."""
    if not deltas:
        return
    ordered = sorted(deltas.items(), key=lambda item: (item[0][1], item[0][0]))
    await (await driver(connection)).execute(
        _ADD_ACTIVITY,
        [day for (_, day), _ in ordered],
        [account for (account, _), _ in ordered],
        [delta.events for _, delta in ordered],
        [delta.milliseconds for _, delta in ordered],
        [delta.userless for _, delta in ordered],
        [",".join(map(str, sorted(delta.users))) for _, delta in ordered],
        [_join(delta.features) for _, delta in ordered],
        [delta.first_received_at for _, delta in ordered],
    )


# Arrays of arrays cannot be unnested row by row, so each set travels as one string.
_ADD_ACTIVITY = f"""
INSERT INTO scoring.account_day AS d
    (day, account_id, events, milliseconds, userless, users, features, first_received_at)
SELECT day, account_id, events, milliseconds, userless,
    string_to_array(users, ',')::bigint[], string_to_array(features, E'\\x{ord(_SEPARATOR):02x}'),
    first_received_at
FROM unnest($1::date[], $2::text[], $3::int[], $4::bigint[], $5::int[], $6::text[], $7::text[],
    $8::timestamptz[])
    AS n (day, account_id, events, milliseconds, userless, users, features, first_received_at)
ON CONFLICT (day, account_id) DO UPDATE SET
    events = d.events + EXCLUDED.events,
    milliseconds = d.milliseconds + EXCLUDED.milliseconds,
    userless = d.userless + EXCLUDED.userless,
    first_received_at = least(d.first_received_at, EXCLUDED.first_received_at),
    users = CASE WHEN EXCLUDED.users <@ d.users THEN d.users ELSE
        (SELECT array_agg(DISTINCT u ORDER BY u) FROM unnest(d.users || EXCLUDED.users) AS u) END,
    features = CASE WHEN EXCLUDED.features <@ d.features THEN d.features ELSE
        (SELECT array_agg(DISTINCT f ORDER BY f) FROM unnest(d.features || EXCLUDED.features) AS f)
        END
"""


def _join(features: Iterable[str]) -> str:
    return _SEPARATOR.join(sorted({name.partition(_SEPARATOR)[0] for name in features}))


async def mark_dirty(connection: AsyncConnection, marks: Collection[Mark]) -> None:
    if marks:
        await connection.execute(
            dirty.insert(),
            [
                {
                    "shard": shard_of(mark.account),
                    "account_id": mark.account,
                    "backfill": mark.backfill,
                    "received_at": mark.received_at,
                }
                for mark in marks
            ],
        )


async def read_accounts(
    connection: AsyncConnection, names: Collection[str]
) -> dict[str, tuple[AccountFields, datetime]]:
    """The directory's records of these accounts and when each was last changed, locked."""
    rows = await (await driver(connection)).fetch(
        "SELECT account_id, fields::text, updated_at FROM scoring.accounts"
        " WHERE account_id = ANY($1::text[]) ORDER BY account_id FOR UPDATE",
        list(names),
    )
    return {row[0]: (fields_from(row[1]), row[2]) for row in rows}


async def save_accounts(connection: AsyncConnection, records: Iterable[AccountRecord]) -> None:
    ordered = sorted(records, key=lambda record: record.account)
    if ordered:
        await (await driver(connection)).execute(
            "INSERT INTO scoring.accounts (account_id, fields, updated_at)"
            " SELECT account_id, fields::jsonb, updated_at FROM unnest($1::text[], $2::text[],"
            " $3::timestamptz[]) AS n (account_id, fields, updated_at)"
            " ON CONFLICT (account_id) DO UPDATE"
            " SET fields = EXCLUDED.fields, updated_at = EXCLUDED.updated_at",
            [record.account for record in ordered],
            [encode(record.fields).decode() for record in ordered],
            [record.updated_at for record in ordered],
        )


def fields_from(document: str | None) -> AccountFields:
    """The fields as stored; no document is an account that the directory does not know."""
    if document is None:
        return AccountFields()
    return msgspec.json.decode(document, type=AccountFields)
