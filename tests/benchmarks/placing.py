"""How fast events find their account: `make bench-placing`, OPTIONS="--help".

`perennial up --service scoring` on a real Kafka and PostgreSQL, everything on this machine: so the
placed events are taken in by the same process meanwhile. Figures have no verdict, as machines are
noisy; what is stored must be exactly what plain Python makes of the same events (else exit code 1).
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import uvloop

from shared.embedded_postgres import embedded_postgres
from shared.log import Appended, Log, Record
from shared.log.kafka import open_kafka_log
from shared.log.topics import TOPICS
from shared.messages import REJECTED, UNPLACED_EVENTS, USAGE_EVENTS
from tests.benchmarks.ingest_figures import cpu_seconds, family_seconds
from tests.benchmarks.placing_load import Load, shares
from tests.benchmarks.scoring_intake import Wrong, postmaster_of
from tests.brokers import KafkaBroker
from tests.databases import DatabaseServer, temporary_folder
from tests.processes import PerennialProcess

_LOOK_SECONDS: Final = 0.25
_GIVE_UP_SECONDS: Final = 900.0
_STORED_WITHIN: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    database: DatabaseServer
    broker: KafkaBroker
    postmaster: int
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """CPU seconds since each began."""

    at: float
    scoring: float
    postgres: float
    kafka: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One scoring process with a database and topics of its own."""

    servers: Servers
    log: Log
    connection: asyncpg.Connection
    process: PerennialProcess
    settle_seconds: float

    async def append(self, topic: str, chunks: Iterator[list[Record]]) -> None:
        for chunk in chunks:
            states = await self.log.append(topic, chunk, deadline=_STORED_WITHIN)
            if set(states) != {Appended.DURABLE}:
                raise Wrong("Kafka did not take the events")

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)
        sys.stderr.write(f"scoring runs as {self.process.pid}\n")

    async def stop(self) -> None:
        await asyncio.to_thread(self.process.terminate)

    async def passed(self, topic: str) -> int:
        """Records that are behind the stored positions."""
        return await self.number(
            "SELECT coalesce(sum(next_offset), 0) FROM scoring.log_positions WHERE topic = $1",
            topic,
        )

    async def counted(self) -> int:
        """Events in the day buckets."""
        return await self.number("SELECT coalesce(sum(events), 0) FROM scoring.account_day")

    async def waiting(self) -> int:
        return await self.number("SELECT coalesce(sum(events), 0) FROM scoring.waiting_counts")

    async def number(self, statement: str, *values: object) -> int:
        return int(await self.connection.fetchval(statement, *values))

    async def until(self, look: Callable[[], Awaitable[bool]]) -> Spent:
        """What had been spent when it was so."""
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while not await look():
            if time.monotonic() > deadline:
                raise Wrong(f"not within {_GIVE_UP_SECONDS} s: {self.process.output()[-3000:]}")
            await asyncio.sleep(_LOOK_SECONDS)
        return self.spent()

    def spent(self) -> Spent:
        return Spent(
            at=time.monotonic(),
            scoring=cpu_seconds(self.process.pid),
            postgres=family_seconds(self.servers.postmaster),
            kafka=cpu_seconds(self.servers.broker.pid),
        )


@asynccontextmanager
async def site(servers: Servers, chosen: argparse.Namespace, **changes: str) -> AsyncIterator[Site]:
    """Its process is not started yet."""
    prefix = f"bench-{time.monotonic_ns():x}."
    bootstrap = servers.broker.bootstrap_servers
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(servers.database.copy_of_template())
        log = await stack.enter_async_context(open_kafka_log(bootstrap, topic_prefix=prefix))
        await log.create_topics(TOPICS)
        connection = await asyncpg.connect(url)
        stack.push_async_callback(connection.close)
        process = PerennialProcess(
            servers.folder / prefix.rstrip("."),
            "--service",
            "scoring",
            **{
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
                "PERENNIAL_TOPIC_PREFIX": prefix,
                "DATABASE_URL": url,
                "PERENNIAL_INTAKE_BATCH": str(chosen.batch),
                "PERENNIAL_WAITING_EVENTS": str(chosen.events * 2),
                "PERENNIAL_PLACING_SETTLE_SECONDS": str(chosen.settle),
                "PERENNIAL_TESTING": "0",
                **changes,
            },
        )
        stack.callback(process.stop)
        yield Site(
            servers=servers,
            log=log,
            connection=connection,
            process=process,
            settle_seconds=chosen.settle,
        )


async def plain(servers: Servers, chosen: argparse.Namespace) -> dict[str, object]:
    """The reference: the same events, and each names its account."""
    load = _load(chosen)
    async with site(servers, chosen) as here:
        await here.append(USAGE_EVENTS, load.placed())
        await here.start()
        before = await here.until(_begun(here.counted))
        first = await here.counted()
        after = await here.until(_is(here.counted, load.events))
        await verify(here, load)
        return {"counted": _figures(before, after, load.events - first)}


async def known(servers: Servers, chosen: argparse.Namespace) -> dict[str, object]:
    """Users of whom scoring knows for whom they work."""
    load = _load(chosen)
    async with site(servers, chosen) as here:
        await here.append(USAGE_EVENTS, load.group_calls())
        await here.start()
        await here.until(_is(lambda: here.passed(USAGE_EVENTS), load.calls))
        await here.stop()
        await here.append(UNPLACED_EVENTS, load.unplaced())
        await asyncio.sleep(here.settle_seconds)
        await here.start()
        before = await here.until(_begun(lambda: here.passed(UNPLACED_EVENTS)))
        first = await here.passed(UNPLACED_EVENTS)
        placed = await here.until(_is(lambda: here.passed(UNPLACED_EVENTS), load.events))
        after = await here.until(_is(here.counted, load.events))
        await verify(here, load)
        return {
            "placed": _figures(before, placed, load.events - first),
            "placed_and_counted": _figures(before, after, load.events - first),
        }


async def waiting(servers: Servers, chosen: argparse.Namespace) -> dict[str, object]:
    """Users of whom scoring hears when all of their events wait."""
    load = _load(chosen)
    async with site(servers, chosen) as here:
        await here.append(UNPLACED_EVENTS, load.unplaced())
        await asyncio.sleep(here.settle_seconds)
        await here.start()
        before = await here.until(_begun(here.waiting))
        first = await here.waiting()
        stored = await here.until(_is(here.waiting, load.events))
        await here.append(USAGE_EVENTS, load.group_calls())
        left = load.events

        async def is_placing() -> bool:
            nonlocal left
            left = await here.waiting()
            return left < load.events

        began = await here.until(is_placing)
        to_place = left
        placed = await here.until(_is(here.waiting, 0))
        after = await here.until(_is(here.counted, load.events))
        await verify(here, load)
        return {
            "began_to_wait": _figures(before, stored, load.events - first),
            "placed": _figures(began, placed, to_place),
            "placed_and_counted": _figures(began, after, to_place),
        }


async def bound(servers: Servers, chosen: argparse.Namespace) -> dict[str, object]:
    """Three times as many as may wait: the oldest of each partition go to quarantine."""
    load = Load(chosen.events * 3 // 10, chosen.users, chosen.accounts)
    limit = load.events // 3
    async with site(servers, chosen, PERENNIAL_WAITING_EVENTS=str(limit)) as here:
        await here.append(UNPLACED_EVENTS, load.unplaced())
        await asyncio.sleep(here.settle_seconds)
        ends = await here.log.ends([UNPLACED_EVENTS])
        by_partition = [ends[at] for at in sorted(ends)]
        kept = shares(by_partition, limit)
        await here.start()
        before = await here.until(_begun(lambda: here.passed(UNPLACED_EVENTS)))
        first = await here.passed(UNPLACED_EVENTS)
        after = await here.until(_is(lambda: here.passed(UNPLACED_EVENTS), load.events))
        given_up = load.events - sum(kept)

        async def are_set_aside() -> bool:
            return sum((await here.log.ends([REJECTED])).values()) >= given_up

        set_aside = await here.until(are_set_aside)
        rows = await here.connection.fetch(
            "SELECT partition, count(*), min(log_offset) FROM scoring.waiting_events"
            " GROUP BY 1 ORDER BY 1"
        )
        expected = [
            (number, share, end - share)
            for number, (share, end) in enumerate(zip(kept, by_partition, strict=True))
        ]
        if [tuple(row) for row in rows] != expected:
            raise Wrong(f"{[tuple(row) for row in rows]} wait, not the newest: {expected}")
        full = here.process.metric("perennial_events_given_up_total", 'why="full"')
        if full != given_up or sum((await here.log.ends([REJECTED])).values()) != given_up:
            raise Wrong(f"{full} were counted as given up, not {given_up}")
        return {
            "may_wait": limit,
            "wait": sum(kept),
            "in_quarantine": given_up,
            "taken_up": _figures(before, after, load.events - first),
            "all_in_quarantine": _figures(before, set_aside, load.events - first),
        }


PARTS: Final[
    Mapping[str, Callable[[Servers, argparse.Namespace], Awaitable[dict[str, object]]]]
] = {"plain": plain, "known": known, "waiting": waiting, "bound": bound}


async def verify(here: Site, load: Load) -> None:
    """Raises Wrong where a day says anything but what plain Python counted."""
    rows = await here.connection.fetch(
        "SELECT account_id, day::text, events FROM scoring.account_day"
    )
    stored = {(row[0], row[1]): row[2] for row in rows}
    if stored != load.days:
        wrong = sum(stored.get(key) != one for key, one in load.days.items())
        raise Wrong(f"{wrong} of {len(load.days)} account-days differ, {len(stored)} are stored")


def _load(chosen: argparse.Namespace) -> Load:
    return Load(chosen.events, chosen.users, chosen.accounts)


def _is(look: Callable[[], Awaitable[int]], wanted: int) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return await look() == wanted

    return is_so


def _begun(look: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return await look() > 0

    return is_so


def _figures(before: Spent, after: Spent, events: int) -> dict[str, object]:
    wall = after.at - before.at
    spent = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("scoring", "postgres", "kafka")
    }
    total = sum(spent.values())
    figures: dict[str, object] = {"events": events, "events_per_second": round(events / wall)}
    figures |= {f"{name}_cpu_us": round(one / events * 1e6, 2) for name, one in spent.items()}
    return figures | {
        "cores_busy": round(total / wall, 2),
        "events_per_second_of_two_cores": round(2 * events / total),
    }


@asynccontextmanager
async def _servers() -> AsyncIterator[Servers]:
    with temporary_folder() as folder:
        broker = KafkaBroker(folder / "kafka", heap="768m")
        await asyncio.to_thread(broker.start)
        try:
            # Not the tests' server: here a commit waits for the disk.
            async with embedded_postgres(folder / "postgres") as url:
                database = DatabaseServer(url)
                await database.prepare_template()
                yield Servers(
                    database=database,
                    broker=broker,
                    postmaster=postmaster_of(folder / "postgres"),
                    folder=folder / "processes",
                )
        finally:
            broker.stop()


async def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    names = PARTS if chosen.part == "all" else [chosen.part]
    async with _servers() as servers:
        return {name: await PARTS[name](servers, chosen) for name in names}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--part", choices=[*PARTS, "all"], default="all")
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--users", type=int, default=100_000)
    options.add_argument("--accounts", type=int, default=10_000)
    options.add_argument("--batch", type=int, default=5_000)
    options.add_argument("--settle", type=float, default=10, help="seconds")
    options.add_argument("--json", action="store_true", help="one line of JSON")
    chosen = options.parse_args()
    load = [round(value, 1) for value in os.getloadavg()]
    figures = {"cores": os.cpu_count(), "load_average": load, **uvloop.run(measure(chosen))}
    sys.stdout.write(json.dumps(figures, indent=None if chosen.json else 2) + "\n")


if __name__ == "__main__":
    main()
