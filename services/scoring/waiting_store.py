"""SQL of the events that wait for their user's first account, in the caller's transaction.

Whoever changes the rows of a partition locks its row of `waiting_counts` first: so the count is
exact, and two transactions never wait in a circle.
"""

import operator
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scoring.array_literals import MOMENT, integers, moments, texts
from services.scoring.metrics import GivenUp
from services.scoring.unplaced import BYTES_AT_ONCE, Placed, Unplaced, from_stored
from shared.database import driver
from shared.log import StoredRecord
from shared.messages import PlacedBy

_FIRST_USER: Final = -(1 << 63)
_COLUMNS: Final = ("log_offset", "waiting_since", "value", "headers")

_NONE: Final[Mapping[str, int]] = {}
_NONE_ENDED: Final[Mapping[tuple[str, GivenUp], int]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """What waits of one partition."""

    events: int
    oldest: datetime


async def partitions_in_use(connection: AsyncConnection) -> dict[int, InUse]:
    """Those of which something waits."""
    rows = await (await driver(connection)).fetch(
        "SELECT c.partition, c.events, oldest.since FROM scoring.waiting_counts AS c, LATERAL ("
        " SELECT waiting_since AS since FROM scoring.waiting_events AS w"
        " WHERE w.partition = c.partition ORDER BY waiting_since LIMIT 1) AS oldest"
        " WHERE c.events > 0"
    )
    return {row[0]: InUse(events=row[1], oldest=row[2]) for row in rows}


async def lock(connection: AsyncConnection, partition: int) -> int:
    """Nobody else changes the partition's rows until the transaction ends; how many there are."""
    events = await (await driver(connection)).fetchval(
        "INSERT INTO scoring.waiting_counts AS c (partition, events) VALUES ($1, 0)"
        " ON CONFLICT (partition) DO UPDATE SET events = c.events RETURNING events",
        partition,
    )
    return int(events)


async def add(
    connection: AsyncConnection, partition: int, events: Sequence[Unplaced]
) -> Counter[str]:
    """Let the events wait, of a partition that is locked; by source, those that did not already."""
    if not events:
        return Counter()
    keyed = sorted((one.user, one.day, one.key, number) for number, one in enumerate(events))
    ordered = [events[number] for *_, number in keyed]
    rows = await (await driver(connection)).fetch(
        _ADD,
        partition,
        integers([user for user, *_ in keyed]),
        integers([day.toordinal() for _, day, *_ in keyed]),
        [key for _, _, key, _ in keyed],
        integers([one.offset for one in ordered]),
        moments([one.since for one in ordered]),
        texts([one.event.source for one in ordered]),
        [one.value for one in ordered],
        [msgspec.msgpack.encode(one.headers) for one in ordered],
    )
    added: Counter[str] = Counter({row[0]: row[1] for row in rows})
    await _add_to_count(connection, partition, added.total())
    return added


async def known_users(
    connection: AsyncConnection,
    partition: int,
    *,
    until: datetime,
    start: int | None = None,
    most: int,
) -> tuple[Sequence[int], int | None]:
    """Of the waiting users from `start` on, `most` at most, those that were known by `until`.

    And where to go on; None at the end.
    """
    row = await (await driver(connection)).fetchrow(
        _KNOWN_USERS, partition, _FIRST_USER if start is None else start, most, until
    )
    last, count, known = row
    return known or (), last + 1 if count == most else None


async def learnt_users(
    connection: AsyncConnection,
    partitions: Sequence[int],
    *,
    since: datetime,
    until: datetime,
    most: int,
) -> tuple[dict[int, list[int]], bool]:
    """By partition, the waiting users of whom something was learnt after `since`, by `until`.

    Looks at `most` memberships at most, and says whether these are all.
    """
    found: defaultdict[int, list[int]] = defaultdict(list)
    if not partitions:
        return found, True
    connected = await driver(connection)
    # With statistics of another day the planner would read the whole table, or for each user all
    # that waits of a partition.
    await connected.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    rows = await connected.fetch(_LEARNT_USERS, since, until, most, integers(list(partitions)))
    are_all = True
    for partition, user in rows:
        if partition is None:
            are_all = user < most
        else:
            found[partition].append(user)
    return found, are_all


async def of_users(
    connection: AsyncConnection, partition: int, users: Sequence[int], *, most: int
) -> tuple[list[Unplaced], bool]:
    """Events that wait for these users, one user's after another's, and whether these are all.

    Not all: there are `most`, or they have BYTES_AT_ONCE together.
    """
    rows = await (await driver(connection)).fetch(
        _OF_USERS, partition, integers(list(users)), most, BYTES_AT_ONCE
    )
    events = _read(rows)
    return events, len(events) < most and sum(len(one.value) for one in events) < BYTES_AT_ONCE


async def take(connection: AsyncConnection, partition: int, events: Sequence[Unplaced]) -> set[int]:
    """Let the events wait no more, of a partition that is locked; the offsets of those that did."""
    keyed = sorted((one.user, one.day, one.key, one.offset) for one in events)
    rows = await (await driver(connection)).fetch(
        _TAKE,
        partition,
        integers([user for user, *_ in keyed]),
        integers([day.toordinal() for _, day, *_ in keyed]),
        [key for _, _, key, _ in keyed],
    )
    await _add_to_count(connection, partition, -len(rows))
    return {row[0] for row in rows}


async def take_oldest(connection: AsyncConnection, partition: int, number: int) -> list[Unplaced]:
    """So many events, which wait no more, of a partition that is locked."""
    return await _take_by_age(connection, _TAKE_OLDEST, partition, number)


async def take_late(
    connection: AsyncConnection, partition: int, *, before: datetime, most: int
) -> list[Unplaced]:
    """As `take_oldest`, of those that have waited since before and whose user is in no account."""
    return await _take_by_age(connection, _TAKE_LATE, partition, most, before)


async def note(
    connection: AsyncConnection,
    partition: int,
    now: datetime,
    *,
    placed: Iterable[Placed] = (),
    begun: Mapping[str, int] = _NONE,
    ended: Mapping[tuple[str, GivenUp], int] = _NONE_ENDED,
) -> None:
    """Add to this hour's figures what has become of events of the partition."""
    sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in placed:
        sources[one.unplaced.event.source][one.by] += 1
    for source, events in begun.items():
        sources[source]["waiting"] += events
    for (source, why), events in ended.items():
        sources[source][why] += events
    if sources:
        ordered = sorted(sources.items())
        await (await driver(connection)).execute(
            _ADD_HOURS,
            now.astimezone(UTC).replace(minute=0, second=0, microsecond=0),
            partition,
            texts([source for source, _ in ordered]),
            *(integers([counts[column] for _, counts in ordered]) for column in _HOUR_COLUMNS),
        )


async def _take_by_age(
    connection: AsyncConnection, statement: str, partition: int, *arguments: object
) -> list[Unplaced]:
    rows = await (await driver(connection)).fetch(statement, partition, *arguments)
    await _add_to_count(connection, partition, -len(rows))
    return sorted(_read(rows), key=operator.attrgetter("offset"))


async def _add_to_count(connection: AsyncConnection, partition: int, events: int) -> None:
    if events:
        await (await driver(connection)).execute(
            "UPDATE scoring.waiting_counts SET events = events + $2 WHERE partition = $1",
            partition,
            events,
        )


def _read(rows: Sequence[asyncpg.Record]) -> list[Unplaced]:
    return [
        from_stored(
            StoredRecord(
                offset=offset,
                key=b"",
                value=value,
                headers=msgspec.msgpack.decode(headers, type=tuple[tuple[str, bytes], ...]),
                appended_at=since,
            )
        )
        for offset, since, value, headers in rows
    ]


_HOUR_COLUMNS: Final = (*PlacedBy, "waiting", *GivenUp)
_DAY: Final = "date '0001-01-01' + (event_day - 1)"
_ADD: Final = f"""
WITH added AS (
    INSERT INTO scoring.waiting_events (partition, user_key, event_day, key, log_offset,
        waiting_since, source, value, headers)
    SELECT $1, user_key, {_DAY}, key, log_offset, {MOMENT.format("since")}, source, value, headers
    FROM unnest($2::text::bigint[], $3::text::int[], $4::bytea[], $5::text::bigint[],
        $6::text::bigint[], $7::text::text[], $8::bytea[], $9::bytea[])
        AS n (user_key, event_day, key, log_offset, since, source, value, headers)
    ON CONFLICT DO NOTHING RETURNING source
)
SELECT source, count(*) FROM added GROUP BY source
"""
# From user to user, however many events each has. The limit keeps the planner from reading the
# memberships of everybody.
_KNOWN_USERS: Final = """
WITH RECURSIVE users AS (
    (SELECT user_key, 1 AS number FROM scoring.waiting_events
        WHERE partition = $1 AND user_key >= $2 ORDER BY user_key LIMIT 1)
    UNION ALL
    SELECT w.user_key, u.number + 1 FROM users AS u, LATERAL (
        SELECT user_key FROM scoring.waiting_events
        WHERE partition = $1 AND user_key > u.user_key ORDER BY user_key LIMIT 1
    ) AS w
    WHERE u.number < $3
)
SELECT max(user_key), count(*), array_agg(user_key) FILTER (WHERE (
    SELECT true FROM scoring.memberships AS m
    WHERE m.user_key = users.user_key AND m.learnt_at <= $4 LIMIT 1
)) FROM users
"""
# OFFSET: first who was learnt, then one by one whether he waits. Asked for in its order, no index
# but that of the users will do.
_LEARNT_USERS: Final = """
WITH learnt AS MATERIALIZED (
    SELECT user_key FROM scoring.memberships WHERE learnt_at > $1 AND learnt_at <= $2 LIMIT $3
)
SELECT NULL AS partition, count(*) AS user_key FROM learnt
UNION ALL
SELECT p.partition, m.user_key
FROM (SELECT DISTINCT user_key FROM learnt OFFSET 0) AS m,
    unnest($4::text::int[]) AS p (partition)
WHERE m.user_key = (SELECT user_key FROM scoring.waiting_events AS w
    WHERE w.partition = p.partition AND w.user_key >= m.user_key ORDER BY user_key LIMIT 1)
"""
# Up to the event with which they are too large together.
_OF_USERS: Final = f"""
SELECT {", ".join(_COLUMNS)} FROM (
    SELECT w.*, sum(octet_length(w.value)) OVER (ROWS UNBOUNDED PRECEDING) AS size
    FROM unnest($2::text::bigint[]) AS n (user_key), LATERAL (
        SELECT * FROM scoring.waiting_events WHERE partition = $1 AND user_key = n.user_key LIMIT $3
    ) AS w
    LIMIT $3
) AS w
WHERE size - octet_length(value) < $4
"""
# By the rows' places: nobody else changes the partition, and however the planner estimates such a
# queue, it reads no more than the rows.
_TAKE_PLACES: Final = "DELETE FROM scoring.waiting_events WHERE ctid = ANY(ARRAY({})) RETURNING {}"
_TAKE: Final = _TAKE_PLACES.format(
    f"""
    SELECT (SELECT ctid FROM scoring.waiting_events AS w WHERE w.partition = $1
        AND w.user_key = n.user_key AND w.event_day = n.event_day AND w.key = n.key)
    FROM (SELECT user_key, {_DAY} AS event_day, key
        FROM unnest($2::text::bigint[], $3::text::int[], $4::bytea[])
            AS n (user_key, event_day, key) OFFSET 0) AS n
    """,
    "log_offset",
)
_TAKE_OLDEST: Final = _TAKE_PLACES.format(
    """
    SELECT ctid FROM scoring.waiting_events
    WHERE partition = $1 ORDER BY waiting_since, log_offset LIMIT $2
    """,
    ", ".join(_COLUMNS),
)
_TAKE_LATE: Final = _TAKE_PLACES.format(
    """
    SELECT ctid FROM scoring.waiting_events AS w
    WHERE partition = $1 AND waiting_since < $3 AND (SELECT true FROM scoring.memberships AS m
        WHERE m.user_key = w.user_key LIMIT 1) IS NULL
    ORDER BY waiting_since, log_offset LIMIT $2
    """,
    ", ".join(_COLUMNS),
)
# Quoted: `full` is a word of SQL.
_QUOTED: Final = ", ".join(f'"{name}"' for name in _HOUR_COLUMNS)
_ADD_HOURS: Final = f"""
INSERT INTO scoring.placing_hours AS h (hour, source, partition, {_QUOTED})
SELECT $1, source, $2, {_QUOTED}
FROM unnest($3::text::text[],
    {", ".join(f"${number}::text::bigint[]" for number in range(4, 4 + len(_HOUR_COLUMNS)))})
    AS n (source, {_QUOTED})
ON CONFLICT (hour, source, partition) DO UPDATE SET
    {", ".join(f'"{name}" = h."{name}" + EXCLUDED."{name}"' for name in _HOUR_COLUMNS)}
"""
