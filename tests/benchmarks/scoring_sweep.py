"""How fast scoring sweeps: `python -m tests.benchmarks.scoring_sweep --accounts 10000 100000`.

Accounts are written straight into PostgreSQL. Timed are a first sweep (all accounts are new), a
full sweep a day later, one on a Monday (which logs every account), and 1,000 accounts with new
events. The reference of the same run is a plain `COPY account_day TO STDOUT`, drained by the same
client. PostgreSQL as `tests/databases.py` runs it: shared_buffers 256 MB, fsync off.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import asyncpg

from services.scoring.domain.rules import read_default
from services.scoring.domain.staleness import FRESH, Freshness
from services.scoring.metrics import ScoringMetrics
from services.scoring.models import Models
from services.scoring.partitions import Partitions
from services.scoring.sweep import Sweep
from services.scoring.tables import outbox
from shared.database import open_engine
from shared.lifecycle import new_frame
from shared.log.postgres import open_postgres_log
from shared.outbox import Relay
from tests.benchmarks import scoring_accounts
from tests.databases import running_server, temporary_folder

FRIDAY = date(2026, 11, 20)
DIRTY = 1_000
T = TypeVar("T")


class Trusting:
    """A watch that finds nothing wrong with the data."""

    async def beat(self, now: datetime) -> None:
        pass

    async def look(self, now: datetime) -> Freshness:  # noqa: ARG002
        return FRESH


def at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 0, 5, tzinfo=UTC)


async def measure(accounts: int) -> dict[str, object]:
    with temporary_folder() as folder:
        async with running_server(folder) as server:
            await server.prepare_template()
            async with (
                server.copy_of_template() as url,
                open_engine(url, application="benchmark") as engine,
                open_postgres_log(url) as log,
            ):
                frame = new_frame()
                metrics = ScoringMetrics(frame.registry, frame.metrics)
                clock = Clock()
                sweep = Sweep(
                    engine=engine,
                    partitions=Partitions(engine, kept=timedelta(days=60)),
                    metrics=metrics,
                    models=Models(
                        engine=engine,
                        metrics=metrics,
                        rules=read_default(),
                        yearly_churn=0.1,
                        progressed=lambda: None,
                    ),
                    relay=Relay(
                        engine=engine, log=log, table=outbox, loop=frame.loop("scoring", "relay")
                    ),
                    clock=clock,
                    loop=frame.loop("scoring", "sweep"),
                    interval=timedelta(seconds=1),
                    settle=timedelta(0),
                    is_behind=never,
                    retention=timedelta(days=400),
                    watch=Trusting(),
                    rules=read_default(),
                )
                connection = await asyncpg.connect(url, server_settings={"jit": "off"})
                watch = Watch(folder)
                days = await scoring_accounts.write(connection, accounts, today=FRIDAY)
                copied = await watch.time(lambda: drain(connection))

                async def sweep_at(now: datetime) -> int:
                    clock.now = now
                    return await sweep.round(now)

                friday, monday = at(FRIDAY), at(FRIDAY + timedelta(days=3))
                first = await watch.time(lambda: sweep_at(friday))
                saturday = await watch.time(lambda: sweep_at(friday + timedelta(days=1)))
                logged = await watch.time(lambda: sweep_at(monday))
                await connection.execute("VACUUM ANALYZE")
                dirty = []
                for _ in range(3):
                    await scoring_accounts.mark(connection, accounts, DIRTY, monday)
                    dirty.append(await watch.time(lambda: sweep_at(monday)))
                await connection.close()
    return {
        "accounts": accounts,
        "account_days": days,
        "cores": os.cpu_count(),
        "copy_account_day": copied,
        "first": first,
        "day_later": saturday,
        "monday_logged": logged,
        "dirty": dirty,
        "day_later_to_copy": round(saturday["seconds"] / copied["seconds"], 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


class Clock:
    """The time of the sweep."""

    now = at(FRIDAY)

    def __call__(self) -> datetime:
        return self.now


class Watch:
    """Times of the client and of all processes of its PostgreSQL."""

    def __init__(self, folder: Path) -> None:
        self._postmaster = int((folder / "data" / "postmaster.pid").read_text().split()[0])

    async def time(self, work: Callable[[], Awaitable[int]]) -> dict[str, float]:
        wall, own, server = (
            time.perf_counter(),
            time.process_time(),
            server_seconds(self._postmaster),
        )
        count = await work()
        return {
            "count": count,
            "seconds": round(time.perf_counter() - wall, 2),
            "client_cpu": round(time.process_time() - own, 2),
            "postgres_cpu": round(server_seconds(self._postmaster) - server, 2),
        }


def server_seconds(postmaster: int) -> float:
    """CPU of a PostgreSQL's processes, those that have ended included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat.parent.name == str(postmaster):
            ticks += sum(map(int, fields[11:15]))
        elif fields[1] == str(postmaster):
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


async def drain(connection: asyncpg.Connection) -> int:
    async def ignore(_: bytes) -> None:
        pass

    result = await connection.copy_from_query(
        "SELECT * FROM scoring.account_day", output=ignore, format="binary", timeout=600
    )
    return int(result.split()[-1])


async def never() -> bool:
    return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--accounts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    for accounts in options.parse_args().accounts:
        sys.stdout.write(json.dumps(asyncio.run(measure(accounts)), indent=1) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
