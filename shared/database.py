"""PostgreSQL: one engine per process, limits on every wait, and what counts as "away"."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import DependencyAway

# A frozen worker must not hold the row that the new owner of its partition needs; who waits for
# that row outlasts it.
_LIMITS = {
    "idle_in_transaction_session_timeout": "4000",
    "lock_timeout": "6000",
    # Compiling a plan costs more than it saves on our short statements.
    "jit": "off",
}
# The driver reads the URL itself: it knows every parameter of libpq (sslmode, host=/socket ...).
BATCH_SECONDS = 30
READ_SECONDS = 5
"""Of one statement: of work in batches, and of what a person or a program waits for."""
_DIALECT = "postgresql+asyncpg://"
_CONNECT_SECONDS = 5
# Half-open connections answer nothing: the client needs a limit too, later than the server's.
SILENCE_SECONDS = {BATCH_SECONDS: 40, READ_SECONDS: 8}
_POOLED = "perennial_pooled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How a process reaches PostgreSQL, beside the URL."""

    size: int | None = None
    """Connections of one service in this process, at most; None: what it needs to never wait."""
    is_pgbouncer: bool = False
    """The URL leads to PgBouncer in transaction mode: a session lasts for one transaction."""
    direct_url: str | None = None
    """Around PgBouncer: for what holds a lock longer than a transaction, and the embedded log."""

    def share(self, wanted: int, whole: int) -> int:
        """Connections for a part that wants `wanted` of the `whole` that its service wants."""
        if self.size is None:
            return wanted
        return max(1, round(self.size * wanted / whole))

    def direct(self, database_url: str) -> str:
        return self.direct_url or database_url


STRAIGHT = Pooling()


def plain_engine(database_url: str) -> AsyncEngine:
    """An engine without limits and without a pool, for jobs such as migrations."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS)

    return create_async_engine(
        _DIALECT, async_creator=connect, poolclass=NullPool, hide_parameters=True
    )


@asynccontextmanager
async def open_engine(
    database_url: str,
    *,
    application: str,
    pool_size: int = 10,
    statement_seconds: int = BATCH_SECONDS,
    pooling: Pooling = STRAIGHT,
) -> AsyncIterator[AsyncEngine]:
    """An engine whose connections carry our limits; connects at first use, not here."""
    limits = {**_LIMITS, "statement_timeout": str(statement_seconds * 1000)}
    session = {"application_name": application, "timezone": "UTC"}
    # PgBouncer refuses every other setting of a session, and gives statements that were prepared
    # on one server to another one.
    kept = {"statement_cache_size": 0} if pooling.is_pgbouncer else {}
    # Unnamed, so that whoever has the server next does not find ours there.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            database_url,
            timeout=_CONNECT_SECONDS,
            command_timeout=SILENCE_SECONDS[statement_seconds],
            server_settings=session if pooling.is_pgbouncer else limits | session,
            **kept,
        )

    engine = create_async_engine(
        _DIALECT,
        connect_args={
            "async_creator_fn": connect,
            **(unnamed if pooling.is_pgbouncer else {}),
        },
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_CONNECT_SECONDS,
        pool_pre_ping=True,
        # Values of statements would be in the text of errors, and from there in logs.
        hide_parameters=True,
    )
    if pooling.is_pgbouncer:
        _limit_each_transaction(engine, limits)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_sessions(
    database_url: str, engine: AsyncEngine, *, application: str, pooling: Pooling
) -> AsyncIterator[AsyncEngine]:
    """An engine whose sessions last, for what holds a lock: `engine`, or one around PgBouncer."""
    if not pooling.is_pgbouncer:
        yield engine
        return
    url = pooling.direct(database_url)
    async with open_engine(url, application=application, pool_size=1) as opened:
        yield opened


def without_transaction(engine: AsyncEngine) -> AsyncEngine:
    """For reads that need no transaction around them; PgBouncer needs one around everything."""
    if engine.get_execution_options().get(_POOLED):
        return engine
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _limit_each_transaction(engine: AsyncEngine, limits: Mapping[str, str]) -> None:
    inner = engine.sync_engine
    inner.update_execution_options(**{_POOLED: True})
    # No SELECT: it would take the snapshot, after which no isolation level can be chosen.
    first, *others = (f"SET LOCAL {name} = '{value}'" for name, value in limits.items())

    @event.listens_for(inner, "begin")
    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(first)  # PostgreSQL hears of the transaction with it.
        raw: Any = connection.connection.dbapi_connection
        raw.run_async(lambda session: session.execute("; ".join(others)))


async def driver(connection: AsyncConnection) -> asyncpg.Connection:
    """The driver's own connection under SQLAlchemy's, for COPY and arrays in the hot paths.

    What runs on it is part of the transaction of `connection`, where it is in one.
    """
    raw = await connection.get_raw_connection()
    inner: asyncpg.Connection = raw.driver_connection
    if connection.in_transaction() and not inner.is_in_transaction():
        # SQLAlchemy tells PostgreSQL of its transaction with the first statement of its own.
        await connection.exec_driver_sql("SELECT 1")
    return inner


async def ping(engine: AsyncEngine) -> bool:
    try:
        async with asyncio.timeout(2), engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
    except (DBAPIError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


def is_away(error: BaseException) -> bool:
    """Whether the error means that PostgreSQL cannot be reached, so that waiting may help."""
    if isinstance(error, DependencyAway):
        return True
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = getattr(error.orig, "__cause__", None) or error.orig
        if isinstance(cause, asyncpg.PostgresError):
            return isinstance(cause, _AWAY)
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(error, _AWAY)
    return isinstance(error, _AWAY_FROM_THE_CLIENT)


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may pass at once when tried again."""
    cause: BaseException | None = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = getattr(error.orig, "__cause__", None) or error.orig
    return isinstance(cause, _TRANSIENT)


def is_data_error(error: BaseException) -> bool:
    """Whether PostgreSQL refuses the values themselves, so that only other values would pass."""
    cause: BaseException | None = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = getattr(error.orig, "__cause__", None) or error.orig
    return isinstance(
        cause,
        asyncpg.DataError
        | asyncpg.IntegrityConstraintViolationError
        # What COPY refuses is raised as it is.
        | UnicodeEncodeError
        | OverflowError,
    )


_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
_AWAY_FROM_THE_CLIENT = (
    OSError,
    TimeoutError,
    PoolTimeout,  # a server that hangs holds every connection of the pool
    asyncpg.InterfaceError,
    # One in 75 connections that the server ends as we send on them: "cannot switch to state".
    asyncpg.InternalClientError,
)
_TRANSIENT = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)
