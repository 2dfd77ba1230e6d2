"""Two ways to store who was active when: `python -m tests.benchmarks.scoring_layout`.

Sets: as it is, an array of user keys and one of features in each account-day. Bitmaps: one row for
each account and user, and for each account and feature, with a bit for each day; the account-day
keeps its sums. Both hold the same 400 days, then take in the same events, batch by batch, then are
read as a sweep reads them. How many days, users and features they count in each window must be
equal, account by account (else exit code 1). The bitmaps have room for the days that come: what it
takes to move their window on is not counted.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncEngine

from services.scoring.domain.activity import AccountDay, DayDelta
from services.scoring.usage_store import Scope
from shared.database import open_engine
from tests.benchmarks import scoring_accounts, scoring_layout_bitmaps, scoring_layout_sets
from tests.benchmarks.scoring_layout_sets import Counts, Deltas
from tests.benchmarks.scoring_sweep import FRIDAY, Watch
from tests.databases import running_server, temporary_folder

LATE: Final = 0.1
LATE_DAYS: Final = 28
MOST_DAYS: Final = 14


class Wrong(Exception):
    """The two layouts count differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How events come in and what is read of a shard as of a day."""

    schema: str
    add: Callable[[AsyncEngine, Deltas], Awaitable[None]]
    read: Callable[[asyncpg.Connection, Scope, date], Awaitable[Counts]]


LAYOUTS: Final = {
    "sets": Layout(schema="scoring", add=scoring_layout_sets.add, read=scoring_layout_sets.read),
    "bitmaps": Layout(
        schema="bitmaps", add=scoring_layout_bitmaps.add, read=scoring_layout_bitmaps.read
    ),
}


async def measure(accounts: int, days: int, batch: int) -> dict[str, object]:
    figures: dict[str, dict[str, float]] = {}
    counted: list[list[Counts]] = []
    with temporary_folder() as folder:
        async with running_server(folder) as server:
            await server.prepare_template()
            async with (
                server.copy_of_template() as url,
                open_engine(url, application="benchmark") as engine,
            ):
                watch = Watch(folder)
                connection = await asyncpg.connect(url, server_settings={"jit": "off"})
                stored = await scoring_accounts.write(connection, accounts, today=FRIDAY)
                await scoring_layout_bitmaps.prepare(connection)
                await connection.execute("VACUUM ANALYZE")
                batches = await _batches(connection, days, batch)
                for name, layout in LAYOUTS.items():
                    size = await connection.fetchval(_SIZE, layout.schema)
                    figures[name] = {"mb_before": round(size / 1e6)}
                    figures[name] |= await _take_in(connection, engine, watch, layout, batches)
                await connection.execute("VACUUM ANALYZE")
                shards = {
                    shard: own for shard, own in scoring_accounts.names(accounts).items() if own
                }
                scopes = [
                    Scope(accounts=own, shard=shard, hashes=await _hashes(connection, own))
                    for shard, own in shards.items()
                ]
                as_of = FRIDAY + timedelta(days=days)
                for name, layout in LAYOUTS.items():
                    found, spent = await _read(connection, watch, layout, scopes, as_of)
                    figures[name] |= {
                        "read_client_cpu_us_an_account": round(
                            1e6 * spent["client_cpu"] / accounts, 1
                        ),
                        "read_postgres_cpu_us_an_account": round(
                            1e6 * spent["postgres_cpu"] / accounts, 1
                        ),
                        "read_cpu_us_an_account_day": round(
                            1e6 * (spent["client_cpu"] + spent["postgres_cpu"]) / stored, 2
                        ),
                    }
                    counted.append(found)
                await connection.close()
    if counted[0] != counted[1]:
        raise Wrong("days, users or features are counted differently")
    return {
        "cores": os.cpu_count(),
        "accounts": accounts,
        "account_days": stored,
        "events": sum(delta.events for deltas in batches for delta in deltas.values()),
        "batches": len(batches),
        **figures,
        "equal": True,
    }


async def _take_in(
    connection: asyncpg.Connection,
    engine: AsyncEngine,
    watch: Watch,
    layout: Layout,
    batches: Sequence[Deltas],
) -> dict[str, float]:
    # Pages are written to the WAL in full once after it, as in service.
    await connection.execute("CHECKPOINT")
    before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")

    async def add_all() -> int:
        for deltas in batches:
            await layout.add(engine, deltas)
        return sum(delta.events for deltas in batches for delta in deltas.values())

    spent = await watch.time(add_all)
    written = await connection.fetchval(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::bigint", before
    )
    events = spent["count"]
    return {
        "events_per_postgres_cpu_second": round(events / spent["postgres_cpu"]),
        "postgres_cpu_us_an_event": round(1e6 * spent["postgres_cpu"] / events, 2),
        "client_cpu_us_an_event": round(1e6 * spent["client_cpu"] / events, 2),
        "wal_mb_a_million_events": round(written / events, 1),
    }


async def _read(
    connection: asyncpg.Connection,
    watch: Watch,
    layout: Layout,
    scopes: Sequence[Scope],
    as_of: date,
) -> tuple[list[Counts], dict[str, float]]:
    """What each shard's accounts have, and what it took."""
    found: list[Counts] = []

    async def read_all() -> int:
        found.extend([await layout.read(connection, scope, as_of) for scope in scopes])
        return len(found)

    return found, await watch.time(read_all)


async def _batches(connection: asyncpg.Connection, days: int, batch: int) -> Sequence[Deltas]:
    """Events of the `days` after what is stored, which are like those of two weeks before."""
    choose = np.random.default_rng(1)
    found: list[Deltas] = []
    for number in range(1, days + 1):
        day = FRIDAY + timedelta(days=number)
        rows = await connection.fetch(
            "SELECT account_id, events, milliseconds / events AS milliseconds, users, features,"
            " sources, first_received_at FROM scoring.account_day WHERE day = $1"
            " ORDER BY account_id",
            day - timedelta(days=14),
        )
        of_row = choose.permutation(np.repeat(np.arange(len(rows)), [row[1] for row in rows]))
        late = np.where(
            choose.random(len(of_row)) < LATE, choose.integers(1, LATE_DAYS + 1, len(of_row)), 0
        )
        member = choose.integers(0, 1 << 20, len(of_row))
        events = zip(of_row.tolist(), late.tolist(), member.tolist(), strict=True)
        while some := list(islice(events, batch)):
            deltas: dict[AccountDay, DayDelta] = {}
            for which, ago, one in some:
                row = rows[which]
                delta = deltas.setdefault((row[0], day - timedelta(days=ago)), DayDelta())
                delta.events += 1
                delta.milliseconds += row[2]
                delta.users.add(row[3][one % len(row[3])])
                delta.features.add(row[4][one % len(row[4])])
                delta.sources.update(row[5])
                delta.first_received_at = min(delta.first_received_at, row[6])
            found.append(deltas)
    return found


async def _hashes(connection: asyncpg.Connection, names: Sequence[str]) -> NDArray[np.int64]:
    rows = await connection.fetch(
        "SELECT hashtextextended(name, 0) FROM unnest($1::text[]) AS name", names
    )
    return np.array([row[0] for row in rows], np.int64)


_SIZE: Final = """
SELECT sum(pg_total_relation_size(c.oid))::float8
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = $1 AND (n.nspname = 'bitmaps' OR c.relname ~ '^account_day')
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accounts", type=int, default=20_000)
    options.add_argument("--days", type=int, default=14, help="of events that are taken in")
    options.add_argument("--batch", type=int, default=5_000)
    chosen = options.parse_args()
    figures = asyncio.run(measure(chosen.accounts, min(MOST_DAYS, chosen.days), chosen.batch))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
