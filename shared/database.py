"""PostgreSQL: one engine per process, limits on every wait, and what counts as "away"."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import DependencyAway

# A frozen worker must not hold the row that the new owner of its partition needs.
_SERVER_SETTINGS = {
    "idle_in_transaction_session_timeout": "4000",
    "lock_timeout": "6000",
    "statement_timeout": "30000",
    "timezone": "UTC",
    # Compiling a plan costs more than it saves on our short statements.
    "jit": "off",
}
# The driver reads the URL itself: it knows every parameter of libpq (sslmode, host=/socket ...).
_DIALECT = "postgresql+asyncpg://"
_CONNECT_SECONDS = 5
_COMMAND_SECONDS = 40  # half-open connections answer nothing: the client needs a limit too


def plain_engine(database_url: str) -> AsyncEngine:
    """An engine without limits and without a pool, for jobs such as migrations."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS)

    return create_async_engine(_DIALECT, async_creator=connect, poolclass=NullPool)


@asynccontextmanager
async def open_engine(
    database_url: str, *, application: str, pool_size: int = 10
) -> AsyncIterator[AsyncEngine]:
    """An engine whose connections carry our limits; connects at first use, not here."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            database_url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_COMMAND_SECONDS,
            server_settings={**_SERVER_SETTINGS, "application_name": application},
        )

    engine = create_async_engine(
        _DIALECT,
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_CONNECT_SECONDS,
        pool_pre_ping=True,
    )
    try:
        yield engine
    finally:
        await engine.dispose()


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
