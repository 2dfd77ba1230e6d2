"""PostgreSQL: whether it answers, and whether it is the one that these programs need."""

import ssl
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.doctor.findings import Area, Finding, failed, ok, warning
from shared import database, migrations
from shared.clock import Clock
from shared.hosts import is_loopback

_OLDEST_VERSION: Final = 14
_SKEW: Final = timedelta(seconds=2)
_MUCH_SKEW: Final = timedelta(seconds=60)
_LONG: Final = timedelta(minutes=5)
_FULL: Final = 0.8


async def look(engine: AsyncEngine, url: str, clock: Clock) -> list[Finding]:
    """In the order in which one thing needs the other; the first finding tells if it answers."""
    try:
        async with engine.connect() as connection:
            before = clock()
            row = (await connection.execute(_FACTS)).one()
            after = clock()
            findings = [
                *_of_version(row.version, row.name),
                *_of_clock(row.now, before, after),
                *_of_encryption(url, is_encrypted=row.encrypted),
                *_of_sessions(row.used, row.most, row.idle),
                *await _of_schema(connection),
            ]
    except Exception as error:
        if (said := _why_away(error, _host(url))) is None:
            raise
        return [said]
    if not any(finding.do for finding in findings):
        version = f"PostgreSQL {row.version // 10_000}.{row.version % 10_000}"
        findings.insert(0, ok(Area.DATABASE, f"{version} answers; schema {migrations.newest()}"))
    return findings


_FACTS: Final = text(
    "SELECT current_setting('server_version_num')::int AS version, current_database() AS name,"
    " clock_timestamp() AS now,"
    " coalesce((SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false)"
    "   AS encrypted,"
    " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,"
    " current_setting('max_connections')::int AS most,"
    " (SELECT max(clock_timestamp() - a.xact_start) FROM pg_stat_activity a"
    "   WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()) AS idle"
)


def _of_version(version: int, name: str) -> list[Finding]:
    if version // 10_000 >= _OLDEST_VERSION:
        return []
    return [
        failed(
            Area.DATABASE,
            f"database {name} is on PostgreSQL {version // 10_000}",
            f"use PostgreSQL {_OLDEST_VERSION} or newer",
        )
    ]


def _of_clock(there: datetime, before: datetime, after: datetime) -> list[Finding]:
    """Leases go by the database's clock, days and due dates by ours."""
    skew = max(before - there, there - after, timedelta())
    if skew <= _SKEW:
        return []
    state = failed if skew > _MUCH_SKEW else warning
    return [
        state(
            Area.DATABASE,
            f"this machine's clock and the database's differ by {skew.total_seconds():,.0f} s",
            "let both follow a time server (NTP); events near midnight count for the wrong day",
        )
    ]


def _of_encryption(url: str, *, is_encrypted: bool) -> list[Finding]:
    host = _host(url)
    if is_encrypted or host.startswith("/") or is_loopback(host):
        return []
    return [
        warning(
            Area.DATABASE,
            f"the connection to {host} is not encrypted",
            "add ?sslmode=verify-full&sslrootcert=... to DATABASE_URL",
        )
    ]


def _of_sessions(used: int, most: int, idle: timedelta | None) -> list[Finding]:
    findings = []
    if used > most * _FULL:
        findings.append(
            warning(
                Area.DATABASE,
                f"{used} of {most} connections are taken",
                "raise max_connections, or lower replicas x DATABASE_POOL_SIZE",
            )
        )
    if idle is not None and idle > _LONG:
        findings.append(
            warning(
                Area.DATABASE,
                f"a transaction has been open for {idle.total_seconds() / 60:,.0f} min: nothing"
                " that was deleted since is cleaned up, and migrations wait for it",
                "find it: SELECT pid, application_name, query FROM pg_stat_activity"
                " ORDER BY xact_start; end it: SELECT pg_terminate_backend(pid)",
            )
        )
    return findings


async def _of_schema(connection: AsyncConnection) -> list[Finding]:
    found = await connection.run_sync(migrations.current)
    newest = migrations.newest()
    if found == newest:
        return []
    if found is None:
        what = "the database has no schema yet"
    elif found in migrations.known():
        what = f"the schema is {found}, this program needs {newest}"
    else:
        what = f"the schema is {found}, which this program does not know: it is older"
        return [failed(Area.DATABASE, what, "run the newer version of the program")]
    return [failed(Area.DATABASE, what, "perennial migrate")]


def _why_away(error: BaseException, host: str) -> Finding | None:
    """The database's own word where it refuses us; None: it is another kind of error."""
    cause: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__ or error.orig
    if isinstance(
        cause, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError
    ):
        what, do = f"{host} refuses user or password", "correct DATABASE_URL (or DATABASE_URL_FILE)"
    elif isinstance(cause, asyncpg.InvalidCatalogNameError):
        what, do = f"{host} has no database of that name", "create it, or correct DATABASE_URL"
    elif isinstance(cause, ssl.SSLError):
        what = f"{host} and we do not agree on TLS: {cause.reason or type(cause).__name__}"
        do = "check sslmode, sslrootcert and the server's certificate"
    elif isinstance(cause, asyncpg.TooManyConnectionsError):
        what, do = f"{host} has no connection left", "raise max_connections, or lower the pools"
    elif isinstance(cause, asyncpg.InsufficientPrivilegeError):
        what, do = f"this user may not read what it needs: {cause}", "perennial migrate grants it"
    elif database.is_away(error):
        what = f"{host} does not answer ({type(cause).__name__})"
        do = "start PostgreSQL, or correct DATABASE_URL; meanwhile ingest takes events all the same"
    else:
        return None
    return failed(Area.DATABASE, f"PostgreSQL at {what}", do)


def _host(url: str) -> str:
    """Where it is, without who we are."""
    parts = urlsplit(url)
    by_option = parse_qs(parts.query).get("host")
    return by_option[0] if by_option else parts.hostname or "localhost"
