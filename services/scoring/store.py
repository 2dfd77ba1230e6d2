"""Scoring's SQL of intake: plain functions on a connection, inside the caller's transaction.

Rows go in key order, so that two transactions never wait for each other in a circle.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.array_literals import MOMENT, integers, moments, texts
from services.scoring.arrivals import EventKey
from services.scoring.domain.activity import AccountDay, DayDelta
from services.scoring.domain.history import VERSIONED, Version
from services.scoring.domain.signals import Signal
from shared.database import driver
from shared.log import TopicPartition
from shared.log.partitioner import partition_of
from shared.log.positions import Result
from shared.messages import AccountFields, AccountRecord, encode
from shared.traceparent import Traceparent

SHARDS: Final = 32
"""Sweeps of different shards run beside each other; an account is always in the same one.

What is stored says it (`account_day` is partitioned by it): a change takes a migration."""

# In a list that travels as one string; a name that holds it is cut there.
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An account that is to be scored again, since when, and whether history is being loaded."""

    account: str
    received_at: datetime
    backfill: bool
    traceparent: Traceparent | None = None
    """Of the first event that nobody has looked at."""


def marks_at(
    received: Mapping[str, datetime], traces: Mapping[bytes, Traceparent] | None = None
) -> list[Mark]:
    """One mark for each account, in one order; `traces` are by the key of its records."""
    traces = traces or {}
    return [
        Mark(
            account=name,
            received_at=moment,
            backfill=False,
            traceparent=traces.get(name.encode()),
        )
        for name, moment in sorted(received.items())
    ]


@lru_cache(maxsize=1 << 17)  # Hashing a name in Python costs as much as all else of an event.
def shard_of(account: str) -> int:
    return partition_of(account.encode(), SHARDS)


async def add_activity(
    connection: AsyncConnection, deltas: Mapping[AccountDay, DayDelta], *, running_day: date
) -> AbstractSet[str]:
    """Add the deltas to the day buckets: sums add, sets unite, order does not matter.

    Returns the accounts that had been active on the running day before.
    """
    if not deltas:
        return frozenset()
    ordered = sorted((shard_of(account), day.toordinal(), account) for account, day in deltas)
    values = [deltas[account, date.fromordinal(day)] for _, day, account in ordered]
    users: list[int] = []
    ends = []
    for delta in values:
        users += sorted(delta.users)
        ends.append(len(users))
    rows = await (await driver(connection)).fetch(
        _ADD_ACTIVITY,
        integers([shard for shard, _, _ in ordered]),
        integers([day for _, day, _ in ordered]),
        texts([account for _, _, account in ordered]),
        integers([delta.events for delta in values]),
        integers([delta.milliseconds for delta in values]),
        integers([delta.userless for delta in values]),
        integers([0, *ends[:-1]]),
        integers(ends),
        texts([_join(delta.features) for delta in values]),
        texts([_join(delta.sources) for delta in values]),
        moments([delta.first_received_at for delta in values]),
        integers(users),
        running_day,
    )
    # A new bucket holds what was just added, an old one at least one event more.
    return {name for name, events in rows if events > deltas[name, running_day].events}


# Arrays of arrays cannot be unnested row by row: the users travel as one array and where each
# row's lie in it, the names as one string a row. Whether one array holds another is asked of small
# ones only, as it compares each with each: a crowd is sorted instead.
_SEPARATED = f"E'\\x{ord(_SEPARATOR):02x}'"
_ADD_ACTIVITY = f"""
WITH added AS (
INSERT INTO scoring.account_day AS d
    (shard, day, account_id, events, milliseconds, userless, users, features, sources,
     first_received_at)
SELECT shard, date '0001-01-01' + (day - 1), account_id, events, milliseconds, userless,
    (SELECT $12::text::bigint[])[first + 1:last], string_to_array(features, {_SEPARATED}),
    string_to_array(sources, {_SEPARATED}), {MOMENT.format("first_received_at")}
FROM unnest($1::text::smallint[], $2::text::int[], $3::text::text[], $4::text::int[],
    $5::text::bigint[], $6::text::int[], $7::text::int[], $8::text::int[], $9::text::text[],
    $10::text::text[], $11::text::bigint[])
    AS n (shard, day, account_id, events, milliseconds, userless, first, last, features, sources,
        first_received_at)
ON CONFLICT (shard, day, account_id) DO UPDATE SET
    events = d.events + EXCLUDED.events,
    milliseconds = d.milliseconds + EXCLUDED.milliseconds,
    userless = d.userless + EXCLUDED.userless,
    first_received_at = least(d.first_received_at, EXCLUDED.first_received_at),
    users = CASE
        WHEN cardinality(EXCLUDED.users)::bigint * cardinality(d.users) <= 4096
            AND EXCLUDED.users <@ d.users THEN d.users
        ELSE (SELECT array_agg(DISTINCT u ORDER BY u) FROM unnest(d.users || EXCLUDED.users) AS u)
        END,
    features = CASE WHEN EXCLUDED.features <@ d.features THEN d.features ELSE
        (SELECT array_agg(DISTINCT f ORDER BY f) FROM unnest(d.features || EXCLUDED.features) AS f)
        END,
    sources = CASE WHEN EXCLUDED.sources <@ d.sources THEN d.sources ELSE
        (SELECT array_agg(DISTINCT s ORDER BY s) FROM unnest(d.sources || EXCLUDED.sources) AS s)
        END
RETURNING d.account_id, d.day, d.events)
SELECT account_id, events FROM added WHERE day = $13
"""


def _join(names: Collection[str]) -> str:
    if len(names) == 1:
        (name,) = names
        return name.partition(_SEPARATOR)[0]
    joined = _SEPARATOR.join(sorted(names))
    if joined.count(_SEPARATOR) < max(1, len(names)):
        return joined
    return _SEPARATOR.join(sorted({name.partition(_SEPARATOR)[0] for name in names}))


async def add_signals(
    connection: AsyncConnection, signals: Collection[tuple[EventKey, Signal]]
) -> None:
    """Signals of new events."""
    if not signals:
        return
    ordered = sorted(
        ((shard_of(signal.account), key, signal) for key, signal in signals),
        key=lambda one: (one[0], one[2].account, one[2].occurred_at, one[1]),
    )
    await (await driver(connection)).execute(
        # The same id on two of the client's days is two events, perhaps at one corrected moment.
        "INSERT INTO scoring.signals (shard, account_id, occurred_at, key, kind, user_key, subject,"
        " value, received_at) SELECT * FROM unnest($1::smallint[], $2::text[], $3::timestamptz[],"
        " $4::bytea[], $5::smallint[], $6::bigint[], $7::bigint[], $8::float8[], $9::timestamptz[])"
        " ON CONFLICT DO NOTHING",
        [shard for shard, _, _ in ordered],
        [signal.account for _, _, signal in ordered],
        [signal.occurred_at for _, _, signal in ordered],
        [key for _, key, _ in ordered],
        [signal.kind for _, _, signal in ordered],
        [signal.user for _, _, signal in ordered],
        [signal.subject for _, _, signal in ordered],
        [signal.value for _, _, signal in ordered],
        [signal.received_at for _, _, signal in ordered],
    )


async def add_source_hours(
    connection: AsyncConnection,
    partition: TopicPartition,
    counts: Mapping[tuple[str, datetime], int],
) -> None:
    """Count the events of each source and hour of their arrival."""
    if not counts:
        return
    ordered = sorted(counts.items())
    await (await driver(connection)).execute(
        "INSERT INTO scoring.source_hours AS h (hour, source, partition, events)"
        " SELECT hour, source, $4, events"
        " FROM unnest($1::timestamptz[], $2::text[], $3::bigint[]) AS n (hour, source, events)"
        " ON CONFLICT (hour, source, partition)"
        " DO UPDATE SET events = h.events + EXCLUDED.events",
        [hour for (_, hour), _ in ordered],
        [source for (source, _), _ in ordered],
        [count for _, count in ordered],
        _named(partition),
    )


def _named(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"


async def count_events(
    connection: AsyncConnection,
    partition: TopicPartition,
    *,
    activity: int,
    results: Mapping[Result, int],
) -> None:
    """Add to the tally of events that are activity, and note what became of all of the batch.

    One statement, as each takes a way to the server and back.
    """
    await (await driver(connection)).execute(
        _COUNT_EVENTS,
        _named(partition),
        activity,
        partition.topic,
        partition.partition,
        *(results.get(result, 0) for result in Result),
    )


_COUNT_EVENTS: Final = f"""
WITH noted AS (
    UPDATE scoring.log_positions
    SET {", ".join(f"{name} = {name} + ${number}" for number, name in enumerate(Result, 5))}
    WHERE topic = $3 AND partition = $4
)
INSERT INTO scoring.taken_in AS t (partition, events) SELECT $1, $2::bigint WHERE $2::bigint > 0
ON CONFLICT (partition) DO UPDATE SET events = t.events + EXCLUDED.events
"""


async def mark_dirty(connection: AsyncConnection, marks: Collection[Mark]) -> None:
    if marks:
        await (await driver(connection)).execute(
            "INSERT INTO scoring.dirty (shard, account_id, backfill, received_at, traceparent)"
            f" SELECT shard, account_id, backfill <> 0, {MOMENT.format('received_at')},"
            " nullif(traceparent, '')"
            " FROM unnest($1::text::smallint[], $2::text::text[], $3::text::int[],"
            " $4::text::bigint[], $5::text::text[])"
            " AS n (shard, account_id, backfill, received_at, traceparent)",
            integers([shard_of(mark.account) for mark in marks]),
            texts([mark.account for mark in marks]),
            integers([int(mark.backfill) for mark in marks]),
            moments([mark.received_at for mark in marks]),
            texts([mark.traceparent or "" for mark in marks]),
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


async def read_newest_versions(
    connection: AsyncConnection, names: Collection[str]
) -> dict[str, Version]:
    """What was last noted of these accounts, of which the caller holds the locks."""
    rows = await (await driver(connection)).fetch(_NEWEST_VERSIONS, list(names))
    return {row[0]: Version(since=row[1], values=tuple(row)[2:]) for row in rows}


async def add_versions(
    connection: AsyncConnection, versions: Mapping[str, Sequence[Version]]
) -> None:
    """Note what accounts have become."""
    await (await driver(connection)).copy_records_to_table(
        "account_versions",
        schema_name="scoring",
        columns=["account_id", "since", *VERSIONED],
        records=[
            (name, one.since, *one.values) for name in sorted(versions) for one in versions[name]
        ],
    )


_NEWEST_VERSIONS: Final = f"""
SELECT v.* FROM unnest($1::text[]) AS n (account_id), LATERAL (
    SELECT account_id, since, {", ".join(VERSIONED)} FROM scoring.account_versions AS o
    WHERE o.account_id = n.account_id ORDER BY o.since DESC LIMIT 1
) AS v
"""


def fields_from(document: str | None) -> AccountFields:
    """The fields as stored; no document is an account that the directory does not know."""
    if document is None:
        return AccountFields()
    return msgspec.json.decode(document, type=AccountFields)
