"""PostgreSQL as in production: roles made by the script, tables by their owner."""

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from shared import grants, migrations
from shared.embedded_postgres import _binaries
from tests.databases import DatabaseServer, as_role

SCRIPTS = Path(__file__).resolve().parents[3] / "deploy" / "postgresql"
_SECONDS = 120
_TEMPLATE = "template_production"


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """One database with its roles; `folder` is the test's own."""

    server: DatabaseServer
    name: str
    folder: Path

    def url(self, role: str = grants.OWNER) -> str:
        return as_role(self.server.database_url(self.name), role)

    def beside(self, name: str) -> "Production":
        """Another database of the same server."""
        return Production(server=self.server, name=name, folder=self.folder)

    async def connect(self, role: str = grants.OWNER) -> asyncpg.Connection:
        return await asyncpg.connect(self.url(role))

    def libpq(self, role: str) -> dict[str, str]:
        """As the scripts' callers set them."""
        host = parse_qs(urlsplit(self.server.url).query)["host"][0]
        return {"PGHOST": host, "PGDATABASE": self.name, "PGUSER": role}

    def script(
        self, name: str, *arguments: object, role: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return run([str(SCRIPTS / name), *map(str, arguments)], {**self.libpq(role), **environment})

    def make_roles(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.script(
            "roles.sh", role="perennial", PERENNIAL_DATABASE=self.name, **environment
        )


def run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        env={
            "PATH": f"{_binaries()}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(SCRIPTS.parents[1]),
            "PERENNIAL": f"{sys.executable} -m services",
            **environment,
        },
    )


async def prepare(server: DatabaseServer) -> None:
    """The roles, and a database to copy: migrated by their owner, and granted."""
    template = Production(server=server, name=_TEMPLATE, folder=Path("/"))
    made = template.make_roles()
    assert made.returncode == 0, made.stderr
    await migrations.upgrade(template.url())
    await grants.grant(template.url(), has_log=True)


@asynccontextmanager
async def production(server: DatabaseServer, folder: Path) -> AsyncIterator[Production]:
    """A fresh one; dropped afterwards."""
    opened = Production(server=server, name=f"prod_{uuid.uuid4().hex[:12]}", folder=folder)
    await server.execute(
        f"CREATE DATABASE {opened.name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY"
        f" OWNER {grants.OWNER}"
    )
    # Rights on the database itself are not copied with it.
    await grants.grant(opened.url(), has_log=True)
    try:
        yield opened
    finally:
        await server.execute(f"DROP DATABASE {opened.name} WITH (FORCE)")
