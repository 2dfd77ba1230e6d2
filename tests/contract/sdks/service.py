"""Ingest as a process runs it, on a real socket over the embedded log, and what it stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.ingest.app import run
from services.ingest.settings import IngestSettings
from shared.credentials import Scope, hash_user, new_key
from shared.lifecycle import new_frame
from shared.log import Record
from shared.log.postgres import PostgresLog
from shared.messages import (
    DIRECTORY_CHANGES,
    REJECTED,
    SOURCES,
    UNPLACED_EVENTS,
    USAGE_EVENTS,
    DirectoryChange,
    Source,
    UnplacedEvent,
    UsageEvent,
    encode,
)
from shared.sources import key_of
from tests.integration.ingest.stored import publish_key, stored
from tests.processes import free_port

_USER_KEY = b"k" * 32
_LIMIT_SECONDS = 10.0
_WAIT = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    url: str
    key: str
    log: PostgresLog

    async def events(self) -> list[UsageEvent]:
        records = await stored(self.log, USAGE_EVENTS, UsageEvent)
        assert all(key == event.account.encode() for key, event in records)
        return [event for _, event in records]

    async def unplaced(self) -> list[UnplacedEvent]:
        """Those of a user alone."""
        records = await stored(self.log, UNPLACED_EVENTS, UnplacedEvent)
        assert all(key == event.user.encode() for key, event in records)
        return [event for _, event in records]

    async def rejected(self) -> list[tuple[str, bytes]]:
        """What lies in quarantine: the code, and the item as it came."""
        found: list[tuple[str, bytes]] = []
        async with self.log.follow(REJECTED) as consumer:
            while batches := await consumer.fetch(max_records=1_000, wait=_WAIT):
                for record in (record for batch in batches for record in batch.records):
                    code = dict(record.headers)["perennial.code"].decode()
                    found.append((code, record.value or b""))
        return found

    async def changes(self) -> list[DirectoryChange]:
        return [change for _, change in await stored(self.log, DIRECTORY_CHANGES, DirectoryChange)]


@asynccontextmanager
async def serving(log: PostgresLog, source: Source, **changes: object) -> AsyncIterator[Service]:
    """Ready for the events of one source."""
    created = new_key(
        source=source.name,
        scopes=[Scope.EVENTS_WRITE, Scope.ACCOUNTS_WRITE],
        now=datetime.now(UTC),
    )
    await publish_key(log, created.record)
    settled = Record(key=key_of(source.name), value=encode(source))
    await log.append(SOURCES, [settled], deadline=timedelta(seconds=5))
    port = free_port()
    settings = IngestSettings.model_validate(
        {"ingest_port": port, "perennial_drain_seconds": 0, **changes}
    )
    frame, stop = new_frame(), asyncio.Event()
    frame.health.starting("ingest")
    task = asyncio.create_task(run(settings, log=log, user_key=_USER_KEY, frame=frame, stop=stop))
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            while frame.health.why_unready():  # noqa: ASYNC110 - as an orchestrator polls
                await asyncio.sleep(0.02)
        yield Service(url=f"http://127.0.0.1:{port}", key=created.secret, log=log)
    finally:
        stop.set()
        await asyncio.wait_for(task, _LIMIT_SECONDS)


def user_of(name: str) -> str:
    return hash_user(_USER_KEY, name)
