"""A process that comes before its database is prepared waits, unready, and says for what."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.starting import Prepared, TopicsWrong
from shared import migrations
from shared.lifecycle import Frame
from shared.log import Log
from shared.log.topics import TOPICS


@pytest.fixture
async def stop() -> AsyncIterator[asyncio.Event]:
    ended = asyncio.Event()
    yield ended
    ended.set()


async def _set_revision(engine: AsyncEngine, revision: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = :found"), {"found": revision}
        )


async def _why(frame: Frame, word: str) -> str:
    async with asyncio.timeout(20):
        while True:
            found = " ".join(frame.health.why_unready())
            if word in found:
                return found
            await asyncio.sleep(0.05)


async def test_an_older_schema_is_waited_for(
    frame: Frame, log: Log, engine: AsyncEngine, owner_url: str, stop: asyncio.Event
) -> None:
    newest = await asyncio.to_thread(migrations.newest)
    assert newest is not None
    await _set_revision(engine, "0018")
    waiting = asyncio.create_task(Prepared(frame.health).wait(log, owner_url, stop))
    why = await _why(frame, "schema")
    assert why == f"prepared: the schema is 0018, this needs {newest}: run `perennial migrate`"
    await _set_revision(engine, newest)
    async with asyncio.timeout(20):
        assert await waiting
    assert frame.health.why_unready() == []


async def test_a_schema_of_a_later_release_is_new_enough(
    frame: Frame, log: Log, engine: AsyncEngine, owner_url: str, stop: asyncio.Event
) -> None:
    await _set_revision(engine, "9999")
    async with asyncio.timeout(20):
        assert await Prepared(frame.health).wait(log, owner_url, stop)


async def test_a_database_that_is_away_is_waited_for_until_stop(
    frame: Frame, log: Log, stop: asyncio.Event
) -> None:
    nobody = "postgresql://nobody@127.0.0.1:1/none"
    waiting = asyncio.create_task(Prepared(frame.health).wait(log, nobody, stop))
    assert await _why(frame, "database") == "prepared: the database does not answer"
    stop.set()
    async with asyncio.timeout(20):
        assert not await waiting


async def test_a_missing_topic_is_no_matter_of_waiting(
    frame: Frame, log: Log, engine: AsyncEngine, owner_url: str, stop: asyncio.Event
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("DELETE FROM log.topics WHERE name = :name"), {"name": TOPICS[0].name}
        )
    with pytest.raises(TopicsWrong, match=f"topic {TOPICS[0].name} does not exist"):
        await Prepared(frame.health).wait(log, owner_url, stop)
