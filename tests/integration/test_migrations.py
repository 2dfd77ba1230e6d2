"""The migrations make exactly what the services declare; again, or at once, they are safe."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine

import services.notifier.tables
import services.scoring.tables
import shared.log.postgres
from shared import migrations
from shared.database import open_engine
from tests.databases import DatabaseServer

_DECLARED = [
    shared.log.postgres.metadata,
    services.scoring.tables.metadata,
    services.notifier.tables.metadata,
]
_SCHEMAS = {metadata.schema for metadata in _DECLARED}

# They are made beside their tables, some by the services.
_PARTITION = re.compile(r"(seen_events|account_day|feature_rows)_\d+(_\d+)?")

_ALL = """
SELECT n.nspname, c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE n.nspname IN ('log', 'scoring', 'notifier', 'public') ORDER BY 1, 2, 4
"""


@pytest.fixture
async def empty_database(database_server: DatabaseServer) -> AsyncIterator[str]:
    name = f"empty_{uuid.uuid4().hex}"
    await database_server.execute(f"CREATE DATABASE {name}")
    try:
        yield database_server.database_url(name)
    finally:
        await database_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_migrated_database_is_what_the_services_declare(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences, _declared()) == []


async def test_a_partition_of_the_seen_events_is_no_difference(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        make = "CREATE TABLE scoring.seen_events_20260101 PARTITION OF scoring.seen_events DEFAULT"
        await connection.execute(text(make))
        assert await connection.run_sync(_differences, _declared()) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("DROP INDEX scoring.scores_by_value", id="an index"),
        pytest.param("DROP INDEX notifier.one_open_intervention", id="a partial unique index"),
        pytest.param("ALTER TABLE scoring.flags DROP COLUMN stage", id="a column"),
        pytest.param("ALTER TABLE log.heads ALTER next_offset TYPE integer", id="a type"),
        pytest.param("ALTER TABLE log.heads ALTER next_offset DROP NOT NULL", id="not null"),
        pytest.param("CREATE TABLE notifier.forgotten (id bigint)", id="a table too many"),
        pytest.param("ALTER TABLE scoring.dirty ALTER marked_at DROP DEFAULT", id="a default"),
    ],
)
async def test_a_difference_would_be_seen(engine: AsyncEngine, change: str) -> None:
    async with engine.connect() as connection:
        await connection.execute(text(change))
        assert await connection.run_sync(_differences, _declared()) != []


async def test_upgrading_again_changes_nothing(database_url: str, engine: AsyncEngine) -> None:
    assert await migrations.is_current(database_url)
    before = await _everything(engine)
    await migrations.upgrade(database_url)
    assert await _everything(engine) == before
    assert await migrations.is_current(database_url)


async def test_two_processes_that_upgrade_at_once_wait_for_each_other(
    empty_database: str, engine: AsyncEngine
) -> None:
    assert not await migrations.is_current(empty_database)
    async with asyncio.timeout(60):
        await asyncio.gather(*[migrations.upgrade(empty_database) for _ in range(3)])
    assert await migrations.is_current(empty_database)
    async with open_engine(empty_database, application="test") as made:
        assert await _everything(made) == await _everything(engine)


def _declared() -> MetaData:
    """All tables in one collection: a comparison of one owner's would miss the others'."""
    together = MetaData()
    for metadata in _DECLARED:
        for table in metadata.tables.values():
            table.to_metadata(together)
    return together


def _differences(connection: Connection, declared: MetaData) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name in _SCHEMAS,
            "include_object": _is_declared,
            "compare_type": True,
            "compare_server_default": True,
        },
    )
    return list(compare_metadata(context, declared))


def _is_declared(_thing: object, name: str | None, kind: str, *_: object) -> bool:
    return kind != "table" or not _PARTITION.fullmatch(name or "")


async def _everything(engine: AsyncEngine) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(_ALL))]
