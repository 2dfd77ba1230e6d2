"""What each role of PostgreSQL may do; granted after each upgrade, to those roles that exist.

A service writes its own schema, and reads no other: they tell each other all by the log. None may
create, alter, drop or truncate anything. `deploy/postgresql/roles.sh` makes the roles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database import plain_engine

OWNER: Final = "perennial_owner"
SCORING: Final = "perennial_scoring"
NOTIFIER: Final = "perennial_notifier"
BACKUP: Final = "perennial_backup"

SCHEMAS: Final = ("scoring", "notifier", "log")

_ROWS: Final = "SELECT, INSERT, UPDATE, DELETE"
_READS: Final = "SELECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Of one role: on all tables of a schema, and on tables that differ; on functions."""

    schemas: Mapping[str, str]
    tables: Mapping[str, str] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    temporary: bool = False
    """It makes tables that end with its session."""


RIGHTS: Final[Mapping[str, Rights]] = MappingProxyType(
    {
        SCORING: Rights(
            schemas={"scoring": _ROWS, "log": _ROWS},
            tables={"scoring.backups": _READS},
            functions=(
                "scoring.add_seen_events_partition(date, date)",
                "scoring.drop_seen_events_partition(date)",
                "scoring.add_feature_rows_partition(date)",
                "scoring.drop_feature_rows_partition(date)",
            ),
            temporary=True,
        ),
        NOTIFIER: Rights(schemas={"notifier": _ROWS, "log": _ROWS}),
        BACKUP: Rights(
            schemas=dict.fromkeys(SCHEMAS, _READS),
            tables={"scoring.backups": f"{_READS}, INSERT"},
        ),
    }
)
"""The log's schema is granted only where the log is in this database."""


async def grant(database_url: str, *, has_log: bool) -> tuple[str, ...]:
    """Give every role that exists its rights, and take all others; returns those roles.

    One transaction; again, it changes nothing. Raises where we do not own the tables.
    """
    engine = plain_engine(database_url)
    try:
        async with engine.begin() as connection:
            found = await connection.scalars(
                text("SELECT rolname::text FROM pg_roles WHERE rolname = ANY(:names)"),
                {"names": list(RIGHTS)},
            )
            roles = tuple(sorted(found))
            if not roles:
                return ()
            await _nobody_else(connection)
            for role in roles:
                await _grant(connection, role, RIGHTS[role], has_log=has_log)
            return roles
    finally:
        await engine.dispose()


async def _nobody_else(connection: AsyncConnection) -> None:
    """Who only may connect sees no table, and makes none; the database's owner can say so."""
    owns = "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()"
    if await connection.scalar(text(owns)):
        name = await _quoted(connection, "current_database()")
        await connection.execute(text(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC"))
    # Before PostgreSQL 15 everybody may create in it.
    owns = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'"
    if await connection.scalar(text(owns)):
        await connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))


async def _grant(connection: AsyncConnection, role: str, rights: Rights, *, has_log: bool) -> None:
    statements: list[str] = []
    for schema in SCHEMAS:
        wanted = rights.schemas.get(schema)
        if schema == "log" and not has_log and role != BACKUP:
            wanted = None
        statements += _on_schema(role, schema, wanted)
    statements.append(f"GRANT SELECT ON public.alembic_version TO {role}")
    for table, privileges in rights.tables.items():
        if await connection.scalar(text("SELECT to_regclass(:table)"), {"table": table}):
            statements.append(f"REVOKE ALL ON {table} FROM {role}")
            statements.append(f"GRANT {privileges} ON {table} TO {role}")
    statements += [f"GRANT EXECUTE ON FUNCTION {one} TO {role}" for one in rights.functions]
    name = await _quoted(connection, "current_database()")
    database = ["CONNECT", *(["TEMPORARY"] if rights.temporary else [])]
    owns = "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()"
    if await connection.scalar(text(owns)):
        statements.append(f"GRANT {', '.join(database)} ON DATABASE {name} TO {role}")
    for statement in statements:
        await connection.execute(text(statement))


def _on_schema(role: str, schema: str, privileges: str | None) -> list[str]:
    """All of before is taken first: what a release no longer needs goes with the next upgrade."""
    later = f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}"
    statements = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {role}",
        f"REVOKE ALL ON SCHEMA {schema} FROM {role}",
        f"{later} REVOKE ALL ON TABLES FROM {role}",
        f"{later} REVOKE ALL ON SEQUENCES FROM {role}",
    ]
    if privileges is None:
        return statements
    statements += [
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT {privileges} ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"{later} GRANT {privileges} ON TABLES TO {role}",
    ]
    if role == BACKUP:  # A dump reads where the numbering stands; inserting rows needs no right.
        statements.append(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
        statements.append(f"{later} GRANT SELECT ON SEQUENCES TO {role}")
    return statements


async def _quoted(connection: AsyncConnection, expression: str) -> str:
    return str(await connection.scalar(text(f"SELECT quote_ident({expression})")))
