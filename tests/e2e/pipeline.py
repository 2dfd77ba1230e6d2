"""Ingest and scoring in the test's own process, over the embedded log: their clock is the test's.

Both are what a process runs, with all their loops; only the database and the log are opened here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from services.ingest import app as ingest
from services.ingest.settings import IngestSettings
from services.scoring import app as scoring
from services.scoring.settings import ScoringSettings
from shared.clock import system_clock
from shared.credentials import NewKey, Scope, new_key
from shared.lifecycle import new_frame
from shared.log import Record
from shared.log.postgres import PostgresLog, open_postgres_log
from shared.messages import SOURCES, Source, encode
from shared.sources import key_of
from tests.integration.ingest.stored import publish_key
from tests.processes import free_port

USER_KEY = b"k" * 32
_STARTED_SECONDS = 30.0
_STOPPED_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Pipeline:
    database_url: str
    log: PostgresLog
    settings: dict[str, object]
    """Of scoring, over the defaults."""
    url: str = ""
    ahead: timedelta = field(default_factory=timedelta)
    """By how much the services' clock is ahead of the log's and of everybody's."""

    def clock(self) -> datetime:
        return system_clock() + self.ahead

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Both services, ready; leaving stops them as SIGTERM does."""
        stop, frame = asyncio.Event(), new_frame()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        taking = IngestSettings.model_validate(
            {"ingest_port": port, "perennial_drain_seconds": 0, "ingest_rate_per_second": 0}
        )
        counting = ScoringSettings.model_validate({"scoring_port": free_port(), **self.settings})
        frame.health.starting("ingest")
        frame.health.starting("scoring")
        tasks = [
            asyncio.create_task(each)
            for each in (
                ingest.run(
                    taking,
                    log=self.log,
                    user_key=USER_KEY,
                    frame=frame,
                    stop=stop,
                    clock=self.clock,
                ),
                scoring.run(
                    counting,
                    log=self.log,
                    database_url=self.database_url,
                    frame=frame,
                    stop=stop,
                    clock=self.clock,
                ),
            )
        ]
        try:
            async with asyncio.timeout(_STARTED_SECONDS):
                while frame.health.why_unready():
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.02)
            yield
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), _STOPPED_SECONDS)

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        """As who may do everything."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def counted(self) -> dict[str, int]:
        """Events that are use, by account."""
        found = await self.rows(
            "SELECT account_id, sum(events)::bigint FROM scoring.account_day GROUP BY 1"
        )
        return dict(found)

    async def waiting(self) -> int:
        [(count,)] = await self.rows("SELECT count(*) FROM scoring.waiting_events")
        return int(count)

    async def announce(self, key: NewKey, source: Source) -> None:
        """As `perennial keys create` and `perennial sources set` do."""
        await publish_key(self.log, key.record)
        settled = Record(key=key_of(source.name), value=encode(source))
        await self.log.append(SOURCES, [settled], deadline=timedelta(seconds=5))


@asynccontextmanager
async def pipeline(database_url: str, **settings: object) -> AsyncIterator[Pipeline]:
    """On a migrated database that has the log's topics; nothing runs yet."""
    async with open_postgres_log(database_url) as log:
        yield Pipeline(database_url=database_url, log=log, settings=settings)


def key_of_source(source: str) -> NewKey:
    scopes = [Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE, Scope.ERASE]
    return new_key(source=source, scopes=scopes, now=system_clock())
