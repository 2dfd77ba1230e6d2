"""What PostgreSQL takes and refuses, measured: transactions, errors, connections."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from shared import database
from shared.readings import Reading
from shared.telemetry import CommonMetrics, DatabaseErrorKind, Operation

_OF_THE_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_TIMEOUTS = (
    TimeoutError,
    PoolTimeout,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


def kind_of(error: BaseException) -> DatabaseErrorKind:
    cause: BaseException | None = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = getattr(error.orig, "__cause__", None) or error.orig
    if isinstance(cause, _TIMEOUTS):
        return DatabaseErrorKind.TIMEOUT
    if database.is_away(error):
        return DatabaseErrorKind.AWAY
    if database.is_transient(error):
        return DatabaseErrorKind.TRANSIENT
    return DatabaseErrorKind.DATA if database.is_data_error(error) else DatabaseErrorKind.OTHER


@contextmanager
def measured(metrics: CommonMetrics, service: str, operation: Operation) -> Iterator[None]:
    """The time that the transaction inside takes; and its error, where `watched` cannot see it."""
    started = time.monotonic()
    try:
        yield
    except (*_OF_THE_DRIVER, OSError, TimeoutError, PoolTimeout) as error:
        metrics.database_errors.labels(service, kind_of(error)).inc()
        raise
    finally:
        metrics.transaction_seconds.labels(service, operation).observe(time.monotonic() - started)


@contextmanager
def watched(engines: Sequence[AsyncEngine], service: str, metrics: CommonMetrics) -> Iterator[None]:
    """Count the errors of a service's statements and tell its connections, of all its engines.

    One may be named for several uses: it counts once.
    """
    watched_once = dict.fromkeys(engine.sync_engine for engine in engines)

    def count(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        metrics.database_errors.labels(service, kind_of(error)).inc()

    def tell() -> Iterator[Reading]:
        pools = [one.pool for one in watched_once if isinstance(one.pool, QueuePool)]
        yield (service, "in_use"), sum(pool.checkedout() for pool in pools)
        yield (service, "idle"), sum(pool.checkedin() for pool in pools)
        limits = (pool.size() + max(0, pool._max_overflow) for pool in pools)  # noqa: SLF001
        yield (service, "limit"), sum(limits)

    for engine in watched_once:
        event.listen(engine, "handle_error", count)
    try:
        with metrics.database_connections.told_by(tell):
            yield
    finally:
        for engine in watched_once:
            event.remove(engine, "handle_error", count)
