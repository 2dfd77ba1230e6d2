"""The other layout: for each account and user, and account and feature, a bit for each day."""

from collections.abc import Collection
from datetime import date
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring import copied, store
from services.scoring.array_literals import integers, moments, texts
from services.scoring.domain.windows import WINDOWS
from services.scoring.store import shard_of
from services.scoring.usage_store import Scope
from shared.database import driver
from tests.benchmarks.scoring_accounts import DAYS
from tests.benchmarks.scoring_layout_sets import POSTGRES_EPOCH, SUMS, Counts, Deltas, active_days
from tests.benchmarks.scoring_sweep import FRIDAY

BITS: Final = 448
EPOCH: Final = FRIDAY.toordinal() - DAYS + 1
"""The day of the first bit."""


async def prepare(connection: asyncpg.Connection) -> None:
    """The same account-days as in `scoring.account_day`."""
    await connection.execute(_TABLES)
    await connection.execute(_FILL)


async def add(engine: AsyncEngine, deltas: Deltas) -> None:
    users: dict[tuple[int, str, int], int] = {}
    features: dict[tuple[int, str, str], int] = {}
    for (account, day), delta in deltas.items():
        shard, bit = shard_of(account), 1 << BITS - 1 - (day.toordinal() - EPOCH)
        for user in delta.users:
            users[shard, account, user] = users.get((shard, account, user), 0) | bit
        for feature in delta.features:
            key = (shard, account, feature)
            features[key] = features.get(key, 0) | bit
    days = sorted((shard_of(name), day.toordinal(), name) for name, day in deltas)
    values = [deltas[name, date.fromordinal(day)] for _, day, name in days]
    async with engine.begin() as connection:
        connected = await driver(connection)
        await connected.execute(
            _ADD_DAYS,
            integers([shard for shard, _, _ in days]),
            integers([day for _, day, _ in days]),
            texts([name for _, _, name in days]),
            integers([delta.events for delta in values]),
            integers([delta.milliseconds for delta in values]),
            integers([delta.userless for delta in values]),
            texts(["\x1f".join(sorted(delta.sources)) for delta in values]),
            moments([delta.first_received_at for delta in values]),
        )
        by_user, by_feature = sorted(users), sorted(features)
        await connected.execute(
            _ADD_USERS,
            integers([shard for shard, _, _ in by_user]),
            texts([name for _, name, _ in by_user]),
            integers([user for _, _, user in by_user]),
            _bits([users[one] for one in by_user]),
        )
        await connected.execute(
            _ADD_FEATURES,
            integers([shard for shard, _, _ in by_feature]),
            texts([name for _, name, _ in by_feature]),
            texts([feature for _, _, feature in by_feature]),
            _bits([features[one] for one in by_feature]),
        )


def _bits(masks: Collection[int]) -> str:
    return f"{{{','.join(f'x{mask:0{BITS // 4}x}' for mask in masks)}}}"


async def read(connection: asyncpg.Connection, scope: Scope, as_of: date) -> Counts:
    accounts, last = len(scope.accounts), as_of.toordinal()
    content = await _fetch(connection, scope, "sums", SUMS)
    rows = copied.rows(content, _SUMS_LAYOUT)
    owner, kept = scope.owners(rows["key"].astype(np.int64))
    day = rows["day"].astype(np.int64) + POSTGRES_EPOCH
    counts = active_days(owner[kept], day[kept], last, accounts)
    for table, name in (("user_bits", "active_users"), ("feature_bits", "breadth")):
        content = await _fetch(connection, scope, table, "d.days")
        members = np.frombuffer(content, _BITMAP)
        owner, kept = scope.owners(members["key"].astype(np.int64))
        words = np.ascontiguousarray(members["days"]).view(np.uint64)[kept]
        for window in WINDOWS:
            active = (words & _mask(last - window + 1, last)).any(axis=1)
            counts[f"{name}_{window}"] = np.bincount(
                owner[kept][active], minlength=accounts
            ).tolist()
    return counts


def _mask(first: int, last: int) -> NDArray[np.uint64]:
    """The bits of the days, as they are stored."""
    bits = np.zeros(BITS, np.uint8)
    bits[max(0, first - EPOCH) : last - EPOCH + 1] = 1
    return np.packbits(bits).view(np.uint64)


async def _fetch(connection: asyncpg.Connection, scope: Scope, table: str, columns: str) -> bytes:
    return await copied.fetch(
        connection,
        f"SELECT hashtextextended(d.account_id, 0), {columns} FROM bitmaps.{table} AS d"
        f" WHERE shard = {scope.shard}",
    )


_SUMS_LAYOUT: Final = copied.layout(
    key="i8", day="i4", events="i4", milliseconds="i8", sources="i8"
)
_BITMAP: Final = np.dtype(
    [
        ("_fields", ">i2"),
        ("_key", ">i4"),
        ("key", ">i8"),
        ("_days", ">i4"),
        ("_bits", ">i4"),
        ("days", np.uint8, (BITS // 8,)),
    ]
)


def _partitions(table: str) -> str:
    return "".join(
        f"CREATE TABLE bitmaps.{table}_{shard:02} PARTITION OF bitmaps.{table}"
        f" FOR VALUES IN ({shard});\n"
        for shard in range(store.SHARDS)
    )


_TABLES: Final = f"""
CREATE SCHEMA bitmaps;
CREATE TABLE bitmaps.sums (
    shard smallint, day date, account_id text, events int NOT NULL, milliseconds bigint NOT NULL,
    userless int NOT NULL, sources text[] NOT NULL, first_received_at timestamptz NOT NULL,
    PRIMARY KEY (shard, day, account_id)) PARTITION BY LIST (shard);
CREATE INDEX ON bitmaps.sums (account_id, day);
CREATE TABLE bitmaps.user_bits (
    shard smallint, account_id text, user_key bigint, days bit({BITS}) NOT NULL,
    PRIMARY KEY (shard, account_id, user_key)) PARTITION BY LIST (shard);
CREATE TABLE bitmaps.feature_bits (
    shard smallint, account_id text, feature text, days bit({BITS}) NOT NULL,
    PRIMARY KEY (shard, account_id, feature)) PARTITION BY LIST (shard);
{"".join(map(_partitions, ("sums", "user_bits", "feature_bits")))}
"""
_BIT: Final = f"set_bit(0::bit({BITS}), day - date '{date.fromordinal(EPOCH)}', 1)"
_FILL: Final = f"""
INSERT INTO bitmaps.sums SELECT shard, day, account_id, events, milliseconds, userless, sources,
    first_received_at FROM scoring.account_day ORDER BY shard, day, account_id;
INSERT INTO bitmaps.user_bits SELECT shard, account_id, u, bit_or({_BIT})
    FROM scoring.account_day, unnest(users) AS u GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
INSERT INTO bitmaps.feature_bits SELECT shard, account_id, f, bit_or({_BIT})
    FROM scoring.account_day, unnest(features) AS f GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
"""
_ADD_DAYS: Final = """
INSERT INTO bitmaps.sums AS d
SELECT shard, date '0001-01-01' + (day - 1), account_id, events, milliseconds, userless,
    string_to_array(sources, E'\\x1f'), timestamptz 'epoch' + received * interval '1 microsecond'
FROM unnest($1::text::smallint[], $2::text::int[], $3::text::text[], $4::text::int[],
    $5::text::bigint[], $6::text::int[], $7::text::text[], $8::text::bigint[])
    AS n (shard, day, account_id, events, milliseconds, userless, sources, received)
ON CONFLICT (shard, day, account_id) DO UPDATE SET
    events = d.events + EXCLUDED.events,
    milliseconds = d.milliseconds + EXCLUDED.milliseconds,
    userless = d.userless + EXCLUDED.userless,
    first_received_at = least(d.first_received_at, EXCLUDED.first_received_at),
    sources = CASE WHEN EXCLUDED.sources <@ d.sources THEN d.sources ELSE
        (SELECT array_agg(DISTINCT s ORDER BY s) FROM unnest(d.sources || EXCLUDED.sources) AS s)
        END
"""


def _add_bits(table: str, member: str, kind: str) -> str:
    return f"""
INSERT INTO bitmaps.{table} AS d
SELECT * FROM unnest($1::text::smallint[], $2::text::text[], $3::text::{kind}[],
    $4::text::bit({BITS})[])
ON CONFLICT (shard, account_id, {member}) DO UPDATE SET days = d.days | EXCLUDED.days
    WHERE d.days | EXCLUDED.days <> d.days
"""


_ADD_USERS: Final = _add_bits("user_bits", "user_key", "bigint")
_ADD_FEATURES: Final = _add_bits("feature_bits", "feature", "text")
