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
        pytest.param("DROP INDEX scoring.account_versions_by_writing", id="an index"),
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
        # Comparing takes seconds on a busy machine, and a service's transaction may not idle so.
        await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
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


@pytest.fixture
async def before_economics(empty_database: str) -> AsyncIterator[AsyncEngine]:
    """A database with rows, as the release before the economics knows it."""
    await migrations.upgrade(empty_database, to="0014")
    async with open_engine(empty_database, application="test") as engine:
        async with engine.begin() as connection:
            for statement in _ROWS:
                await connection.execute(text(statement))
        yield engine


async def test_what_was_known_is_the_first_version_and_the_tally_begins_with_it(
    empty_database: str, before_economics: AsyncEngine
) -> None:
    await migrations.upgrade(empty_database)
    async with before_economics.connect() as connection:
        versions = await connection.execute(text(_VERSIONS))
        assert [tuple(row) for row in versions] == [
            ("acme", True, "ann@vendor.example", None, 40, "1200.50", "2026-05-31", "month")
        ]
        # 3 + 4 events.
        assert await connection.scalar(text("SELECT sum(events) FROM scoring.taken_in")) == 7


async def test_the_release_before_goes_on_with_its_lists_and_sweeps(
    empty_database: str, before_economics: AsyncEngine
) -> None:
    await migrations.upgrade(empty_database)
    async with before_economics.begin() as connection:
        await connection.execute(text("UPDATE scoring.scores SET risk = 0.25 WHERE risk > 0"))
        listed = await connection.execute(text(_LIST_OF_BEFORE))
        assert [tuple(row) for row in listed] == [("acme", 0.25), ("birch", -1.0)]


async def test_scores_are_read_and_written_while_the_use_of_all_days_is_summed(
    empty_database: str, before_economics: AsyncEngine
) -> None:
    async with before_economics.begin() as blocking:
        await blocking.execute(text("LOCK TABLE scoring.account_day IN ACCESS EXCLUSIVE MODE"))
        upgrading = asyncio.create_task(migrations.upgrade(empty_database))
        async with asyncio.timeout(30), before_economics.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            while not await connection.scalar(text(_WAITING)):  # noqa: ASYNC110 - another's
                await asyncio.sleep(0.01)
            await connection.execute(text("SET lock_timeout = '100ms'"))
            await connection.execute(text("UPDATE scoring.scores SET risk = 0.25"))
            assert await connection.scalar(text(_WAITING)), "the sum went on meanwhile"
    async with asyncio.timeout(60):
        await upgrading


_ROWS = (
    """
    INSERT INTO scoring.accounts (account_id, fields, updated_at) VALUES ('acme',
        '{"owner": "ann@vendor.example", "seats": 40, "mrr": "1200.50", "churned_at": "2026-05-31",
        "billing_period": "month"}', '2026-01-02Z')
    """,
    "CREATE TABLE scoring.account_day_rows PARTITION OF scoring.account_day DEFAULT",
    *(
        "INSERT INTO scoring.account_day (shard, day, account_id, events, milliseconds, userless,"
        " users, features, sources, first_received_at)"
        f" VALUES (1, '2026-01-0{events}', 'acme', {events}, 0, 0, '{{}}', '{{}}', '{{}}', now())"
        for events in (3, 4)
    ),
    *(
        "INSERT INTO scoring.scores (shard, account_id, as_of, state, short_history, risk, band,"
        " latched, band_since, columns, indicators, cohort_ratio)"
        f" VALUES (1, '{account}', now(), 'active', false, {risk}, {band}, 0, now(), '', '', 1)"
        for account, risk, band in (("acme", "0.5", "'watch'"), ("birch", "NULL", "NULL"))
    ),
)
_VERSIONS = """
SELECT account_id, since = '2026-01-02Z', owner, segment, seats, mrr::text, churned_at::text,
    billing_period
FROM scoring.account_versions
"""
_LIST_OF_BEFORE = """
SELECT account_id, sort_risk FROM scoring.scores ORDER BY sort_risk DESC, account_id
"""
_WAITING = """
SELECT count(*) FROM pg_locks
WHERE NOT granted AND relation = 'scoring.account_day'::regclass AND mode = 'AccessShareLock'
"""


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
