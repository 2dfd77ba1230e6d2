"""What PostgreSQL takes and refuses shows in the metrics, by kind."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import driver
from shared.lifecycle import Frame
from shared.telemetry import Operation
from shared.transactions import measured, watched


def _errors(frame: Frame, kind: str) -> float:
    labels = {"service": "scoring", "kind": kind}
    return frame.registry.get_sample_value("perennial_database_errors_total", labels) or 0.0


def _connections(frame: Frame, state: str) -> float | None:
    labels = {"service": "scoring", "state": state}
    return frame.registry.get_sample_value("perennial_database_connections", labels)


async def test_errors_are_counted_once_by_what_they_say(engine: AsyncEngine, frame: Frame) -> None:
    with watched([engine], "scoring", frame.metrics):
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT 1 / 0"))
        with pytest.raises(asyncpg.QueryCanceledError):
            await _time_out(engine, frame)
    assert (_errors(frame, "data"), _errors(frame, "timeout")) == (1, 1)
    took = frame.registry.get_sample_value(
        "perennial_transaction_seconds_count", {"service": "scoring", "operation": "sweep"}
    )
    assert took == 1


async def _time_out(engine: AsyncEngine, frame: Frame) -> None:
    with measured(frame.metrics, "scoring", Operation.SWEEP):
        async with engine.begin() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
            await (await driver(connection)).execute("SELECT pg_sleep(5)")


async def test_connections_in_use_are_told_while_the_engine_is_watched(
    engine: AsyncEngine, frame: Frame
) -> None:
    with watched([engine], "scoring", frame.metrics):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            assert (_connections(frame, "in_use"), _connections(frame, "limit")) == (1, 10)
        assert (_connections(frame, "in_use"), _connections(frame, "idle")) == (0, 1)
    assert _connections(frame, "in_use") is None


async def test_an_engine_with_two_uses_is_counted_and_left_once(
    engine: AsyncEngine, frame: Frame
) -> None:
    # Where there is no PgBouncer, the relay's sessions are of the engine that does the work.
    with watched([engine, engine], "scoring", frame.metrics):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            assert (_connections(frame, "in_use"), _connections(frame, "limit")) == (1, 10)
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT 1 / 0"))
    assert _errors(frame, "data") == 1
