"""Real PostgreSQL for tests: one server a run, one migrated template, a copy of it per test.

A copy takes 0.02 s; so a test may commit, use several connections, and be killed.
"""

import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from shared import grants, migrations
from shared.embedded_postgres import embedded_postgres
from shared.log.postgres import open_postgres_log
from shared.log.topics import TOPICS
from tests.processes import at_our_end

_TEMPLATE = "template_perennial"
# One that is just starting ends as its folder goes.
_END_SERVERS = """
find "$1" -name postmaster.pid -exec sed -n 1p {} ';' | xargs -r kill -QUIT
rm -rf "$1"
"""


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A running server; `url` is that of its administrative database."""

    url: str

    def database_url(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    async def prepare_template(self) -> None:
        await self.execute(f"CREATE DATABASE {_TEMPLATE}")
        for role in (*grants.RIGHTS, grants.OWNER):
            await self.execute(f"CREATE ROLE {role} LOGIN")
        await migrations.upgrade(self.database_url(_TEMPLATE))
        await grants.grant(self.database_url(_TEMPLATE), has_log=True)
        async with open_postgres_log(self.database_url(_TEMPLATE)) as log:
            await log.create_topics(TOPICS)

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    @asynccontextmanager
    async def copy_of_template(self) -> AsyncIterator[str]:
        """The URL of a fresh migrated database, dropped afterwards."""
        name = f"test_{uuid.uuid4().hex}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY")
        try:
            yield self.database_url(name)
        finally:
            await self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def as_role(url: str, role: str) -> str:
    """The same database, as somebody else."""
    return make_url(url).set(username=role).render_as_string(hide_password=False)


@asynccontextmanager
async def running_server(folder: Path) -> AsyncIterator[DatabaseServer]:
    """A server of its own, for a test that kills it; `embedded_postgres.immediate_stop` does."""
    async with embedded_postgres(folder) as url:
        server = DatabaseServer(url)
        # Tests end processes, never the machine: what the kernel has is safe, and each copy of the
        # template takes a fifth of the time.
        await server.execute("ALTER SYSTEM SET fsync TO off")
        await server.execute("SELECT pg_reload_conf()")
        yield server


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own account may pass through, also when the tests run as root.

    A server that still runs in it when this process dies is ended, and the folder goes.
    """
    with tempfile.TemporaryDirectory(prefix="perennial-test-") as name:
        watchdog = at_our_end(_END_SERVERS, name)
        try:
            yield Path(name)
        finally:
            watchdog.kill()
            watchdog.communicate()
