"""Brings the database to the newest schema; the same job in `perennial up` and in production."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shared import logging as logs
from shared.database import is_transient, plain_engine

FOLDER = Path(__file__).parent.parent / "deploy" / "migrations"

_TRIES = 30
_LOCK_KEY = 5_203_114_250_921
"""Any number that no other advisory lock of ours uses."""

log = logs.get(__name__)


async def upgrade(database_url: str, *, to: str | None = None) -> bool:
    """Migrate to the newest revision, or to `to`; several processes at once wait for each other.

    Whether there was anything to do.
    """
    engine = plain_engine(database_url)
    try:
        for attempt in range(_TRIES):
            try:
                async with engine.connect() as connection:
                    changed = await connection.run_sync(_upgrade, to or newest())
                    await connection.commit()
            except DBAPIError as error:
                # lock_timeout: a long transaction is in the way; waiting in the lock queue would
                # stop everybody behind us.
                if not is_transient(error) or attempt + 1 == _TRIES:
                    raise
                await asyncio.sleep(1)
            else:
                return changed
    finally:
        await engine.dispose()
    raise AssertionError("the last attempt raises")


async def is_current(database_url: str) -> bool:
    engine = plain_engine(database_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(current) == newest()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, revision: str | None) -> bool:
    if current(connection) == revision:
        return False
    connection.rollback()
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
    connection.execute(text("SET lock_timeout = '2s'"))
    connection.commit()
    try:
        log.info("migrations.running", newest=revision)
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        config.attributes["connection"] = connection
        command.upgrade(config, revision or "head")
        connection.commit()
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
        connection.commit()
    return True


def current(connection: Connection) -> str | None:
    """The revision of the schema; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    return ScriptDirectory(str(FOLDER)).get_current_head()


def known() -> frozenset[str]:
    """Every revision that this version of the program knows."""
    return frozenset(one.revision for one in ScriptDirectory(str(FOLDER)).walk_revisions())
