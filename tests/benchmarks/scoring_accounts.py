"""Accounts for the benchmark of the sweep, written straight into PostgreSQL, shard by shard."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg
import numpy as np

from services.scoring.store import SHARDS, shard_of

DAYS: Final = 400
MEAN_ACTIVE_DAYS: Final = 37
FEATURES: Final = 30
WITH_DIRECTORY: Final = 0.3
SEGMENTS: Final = ["smb", "mid", "enterprise", "public"]


def names(accounts: int) -> dict[int, list[str]]:
    """The accounts of each shard."""
    found: dict[int, list[str]] = {shard: [] for shard in range(SHARDS)}
    for number in range(accounts):
        name = f"account-{number:07}"
        found[shard_of(name)].append(name)
    return {shard: sorted(own) for shard, own in found.items()}


async def write_shard(
    connection: asyncpg.Connection, shard: int, accounts: list[str], *, today: date, seed: int
) -> int:
    """Days of use of a shard's accounts in the order in which they came; says how many."""
    choose = np.random.default_rng((seed, shard))
    count = len(accounts)
    # How often each comes differs tenfold and more; the last day of some is long ago.
    rate = np.clip(choose.gamma(0.7, MEAN_ACTIVE_DAYS / DAYS / 0.7, count), 1 / DAYS, 0.95)
    came = choose.random((DAYS, count)) < rate
    left = choose.random(count) < 0.2
    until = np.where(left, choose.integers(0, DAYS, count), DAYS)
    came &= np.arange(DAYS)[:, None] < until
    came[0] |= ~came.any(axis=0)
    users = np.minimum(choose.zipf(1.6, count), 20)
    day, owner = np.nonzero(came)
    present = np.minimum(1 + choose.binomial(users[owner] - 1, 0.4), users[owner])
    first = choose.integers(0, users[owner])
    used = 1 + choose.binomial(3, 0.3, len(day))
    first_feature = choose.integers(0, FEATURES, len(day))
    events = present * (1 + choose.poisson(4, len(day)))
    milliseconds = events * choose.integers(1_000, 90_000, len(day))
    begin = today - timedelta(days=DAYS - 1)
    received = datetime.combine(begin, datetime.min.time()).astimezone()

    def rows() -> Iterator[tuple[object, ...]]:
        columns = zip(
            day.tolist(),
            owner.tolist(),
            events.tolist(),
            milliseconds.tolist(),
            present.tolist(),
            first.tolist(),
            users[owner].tolist(),
            used.tolist(),
            first_feature.tolist(),
            strict=True,
        )
        days = [begin + timedelta(days=number) for number in range(DAYS)]
        moments = [received + timedelta(days=number) for number in range(DAYS)]
        for at, who, many, spent, here, start, all_, several, feature in columns:
            base = (shard << 40) + (who << 8)
            yield (
                shard,
                days[at],
                accounts[who],
                many,
                spent,
                0,
                [base + (start + n) % all_ for n in range(here)],
                [_FEATURE_NAMES[(feature + n) % FEATURES] for n in range(several)],
                _SOURCES[who % 10 == 0],
                moments[at],
            )

    await connection.copy_records_to_table(
        f"account_day_{shard:02}", schema_name="scoring", records=rows(), timeout=600
    )
    return len(day)


_FEATURE_NAMES: Final = [f"feature-{number}" for number in range(FEATURES)]
_SOURCES: Final = (["web"], ["web", "mobile"])


async def write(
    connection: asyncpg.Connection, accounts: int, *, today: date, seed: int = 1
) -> int:
    """All accounts, three in ten with a record, each with a mark; says how many days of use."""
    days = 0
    for shard, own in names(accounts).items():
        days += await write_shard(connection, shard, own, today=today, seed=seed)
    await connection.execute(_WRITE_DIRECTORY, accounts, WITH_DIRECTORY, SEGMENTS)
    await mark(connection, accounts, accounts, datetime.now(UTC))
    await connection.execute("VACUUM ANALYZE")
    return days


_WRITE_DIRECTORY: Final = """
INSERT INTO scoring.accounts (account_id, fields, updated_at)
SELECT 'account-' || lpad(n::text, 7, '0'),
    jsonb_build_object('segment', ($3::text[])[1 + n % 4], 'mrr', (100 + n % 900)::text,
        'currency', 'EUR', 'seats', 1 + n % 40, 'status', 'active', 'billing_period', 'year',
        'contract_start', '2025-01-01', 'contract_end', '2027-01-01', 'owner', 'csm-' || n % 20),
    now()
FROM generate_series(0, $1::int - 1) AS n WHERE (n::bigint * 7919) % 1000 < $2::float8 * 1000
"""


async def mark(
    connection: asyncpg.Connection, accounts: int, some: int, received_at: datetime
) -> None:
    """Marks of accounts with new events."""
    chosen = [f"account-{n * (accounts // some):07}" for n in range(some)]
    await connection.copy_records_to_table(
        "dirty",
        schema_name="scoring",
        columns=["shard", "account_id", "backfill", "received_at"],
        records=[(shard_of(name), name, False, received_at) for name in chosen],
    )
