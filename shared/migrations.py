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


async def upgrade(database_url: str, *, to: str | None = None) -> None:
    """Migrate to the newest revision, or to `to`; several processes at once wait for each other."""
    engine = plain_engine(database_url)
    try:
        for attempt in range(_TRIES):
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(_upgrade, to or _newest())
                    await connection.commit()
            except DBAPIError as error:
                # lock_timeout: a long transaction is in the way; waiting in the lock queue would
                # stop everybody behind us.
                if not is_transient(error) or attempt + 1 == _TRIES:
                    raise
                await asyncio.sleep(1)
            else:
                return
    finally:
        await engine.dispose()


async def is_current(database_url: str) -> bool:
    engine = plain_engine(database_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_current) == _newest()
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, revision: str | None) -> None:
    if _current(connection) == revision:
        return
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


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _newest() -> str | None:
    return ScriptDirectory(str(FOLDER)).get_current_head()
