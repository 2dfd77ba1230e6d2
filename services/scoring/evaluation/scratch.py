"""A migrated database for one replay, gone afterwards; never one that holds anything."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from shared import migrations
from shared.embedded_postgres import embedded_postgres
from shared.errors import DependencyAway, Misconfigured


@asynccontextmanager
async def scratch_database(server_url: str | None) -> AsyncIterator[str]:
    """The URL of a fresh database: on a server of its own, or on the one that is named.

    On a named server a database is created and dropped; what is there already is not touched.
    """
    if server_url is None:
        with _temporary_folder() as folder:
            async with embedded_postgres(folder) as url, _created_on(url) as database:
                yield database
    else:
        async with _created_on(server_url) as database:
            yield database


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="perennial-evaluate-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as another account, and passes through.
        yield folder


@asynccontextmanager
async def _created_on(server_url: str) -> AsyncIterator[str]:
    name = f"perennial_evaluate_{secrets.token_hex(6)}"
    try:
        url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
    except ArgumentError as error:
        raise Misconfigured("--database is not the URL of a PostgreSQL server") from error
    await _execute(server_url, f"CREATE DATABASE {name}")
    try:
        # Nothing in it is worth waiting for the disk.
        await _execute(server_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
        await migrations.upgrade(url)
        yield url
    finally:
        await _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError) as error:
        raise DependencyAway("PostgreSQL") from error
    except (asyncpg.PostgresError, ValueError) as error:
        raise Misconfigured(f"--database: {error}") from error
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise Misconfigured(f"--database: {error}; its user must be able to create one") from error
    finally:
        await connection.close()
