"""How fast and how right scoring is: `make bench-scoring`, OPTIONS="--help".

Real Kafka, real PostgreSQL, everything on this machine. Figures have no verdict, as machines are
noisy; what is stored must be exactly what plain Python makes of the same events (else exit code 1).
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import uvloop

from shared.embedded_postgres import embedded_postgres
from tests.benchmarks import scoring_sweep
from tests.benchmarks.scoring_intake import Run, measure_intake, postmaster_of
from tests.benchmarks.scoring_latency import Steady, measure_latency
from tests.benchmarks.scoring_load import Load
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer, temporary_folder


async def intake(chosen: argparse.Namespace) -> dict[str, object]:
    async with _servers() as (server, broker, postmaster):
        run = Run(
            server=server,
            broker=broker,
            postmaster=postmaster,
            load=Load(chosen.events, chosen.accounts),
            batch=chosen.batch,
            concurrency=chosen.concurrency,
        )
        return await measure_intake(run)


async def latency(chosen: argparse.Namespace) -> dict[str, object]:
    async with _servers() as (server, broker, _):
        steady = Steady(
            server=server,
            broker=broker,
            accounts=chosen.accounts,
            rate=chosen.rate,
            seconds=chosen.seconds,
        )
        return await measure_latency(steady)


async def sweep(chosen: argparse.Namespace) -> dict[str, object]:
    return {str(count): await scoring_sweep.measure(count) for count in chosen.sweep}


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[DatabaseServer, KafkaBroker, int]]:
    """A PostgreSQL, a broker, and the number of the former's first process."""
    with temporary_folder() as folder:
        broker = KafkaBroker(folder / "kafka", heap="768m")
        await asyncio.to_thread(broker.start)
        try:
            # Not the tests' server: here a commit waits for the disk.
            async with embedded_postgres(folder / "postgres") as url:
                server = DatabaseServer(url)
                await server.prepare_template()
                yield server, broker, postmaster_of(folder / "postgres")
        finally:
            broker.stop()


PARTS: Final[Mapping[str, Callable[[argparse.Namespace], Awaitable[dict[str, object]]]]] = {
    "intake": intake,
    "latency": latency,
    "sweep": sweep,
}


async def measure(chosen: argparse.Namespace) -> dict[str, object]:
    names = PARTS if chosen.part == "all" else [chosen.part]
    return {name: await PARTS[name](chosen) for name in names}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--part", choices=[*PARTS, "all"], default="all")
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--accounts", type=int, default=10_000)
    options.add_argument("--batch", type=int, default=5_000)
    options.add_argument("--concurrency", type=int, default=3, help="batches beside each other")
    options.add_argument("--rate", type=int, default=5_000, help="latency: events per second")
    options.add_argument("--seconds", type=int, default=60, help="latency: how long")
    options.add_argument(
        "--sweep", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="accounts"
    )
    options.add_argument("--json", action="store_true", help="one line of JSON")
    chosen = options.parse_args()
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {"cores": os.cpu_count(), "load_average": load, **uvloop.run(measure(chosen))}
    sys.stdout.write(json.dumps(figures, indent=None if chosen.json else 2) + "\n")


if __name__ == "__main__":
    main()
